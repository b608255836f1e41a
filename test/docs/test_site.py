"""The documentation builds as a site, and says what the code says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name):
    """A module of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'scripts' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(checkout, target):
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(target)]
    return subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
        timeout=120,
    )


class Links(HTMLParser):
    """Collects what a page fetches or links to, and its anchors."""

    def __init__(self):
        super().__init__()
        self.targets, self.anchors = [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ('id', 'name') if values.get(key)}
        self.targets += [values[key] for key in ('href', 'src') if values.get(key)]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('material', reason="mkdocs-material (extra 'docs') is not installed")
    target = tmp_path_factory.mktemp('site')
    done = build(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {}
    for path in site.rglob('*.html'):
        parser = Links()
        parser.feed(path.read_text(encoding='utf-8'))
        pages[path.resolve()] = parser
    assert len(pages) >= len(list((ROOT / 'docs').rglob('*.md')))
    dead = []
    for path, page in pages.items():
        if path.name == '404.html':
            continue  # its links start at the server's root
        for target in page.targets:
            if '://' in target or target.startswith(('mailto:', 'data:', 'javascript:')):
                continue
            name, _, anchor = target.partition('#')
            there = (path.parent / name).resolve() if name else path
            if not there.exists() or (
                anchor and there in pages and anchor not in pages[there].anchors
            ):
                dead.append(f'{path.relative_to(site)}: {target}')
    assert dead == []


def test_nothing_is_fetched_from_elsewhere(site):
    text = (site / 'index.html').read_text(encoding='utf-8')
    assert 'fonts.googleapis' not in text
    assert 'unpkg.com' not in text


def test_a_dead_link_is_an_error(tmp_path):
    pytest.importorskip('material', reason="mkdocs-material (extra 'docs') is not installed")
    for name in ('mkdocs.yml', 'scripts', 'docs', 'config', 'benchmarks', 'README.md'):
        os.symlink(ROOT / name, tmp_path / name)
    (tmp_path / 'docs').unlink()
    (tmp_path / 'docs').mkdir()
    for path in (ROOT / 'docs').iterdir():
        os.symlink(path, tmp_path / 'docs' / path.name)
    (tmp_path / 'docs' / 'doctor.md').unlink()
    (tmp_path / 'docs' / 'doctor.md').write_text(
        '[gone](faults.md#no-such-heading) [x](../gone.py)\n'
    )
    done = build(tmp_path, tmp_path / 'site')
    assert done.returncode != 0
    assert 'no-such-heading' in done.stderr
    assert '../gone.py' in done.stderr


def test_generated_parts_are_those_of_the_code():
    pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')
    parts = script('generated_parts')
    texts = {page: page.read_text(encoding='utf-8') for page in parts.pages()}
    used = [name for text in texts.values() for _, name, *_ in parts.PART.findall(text)]
    assert sorted(used) == sorted(parts.PARTS)
    for page, text in texts.items():
        assert parts.renewed(text) == text, (
            f'{page.name} is not up to date: run python scripts/generated_parts.py'
        )


def test_the_readme_counts_the_faults_that_are_injected():
    page = (ROOT / 'docs' / 'faults.md').read_text(encoding='utf-8')
    matrix = page.partition('## Fault matrix')[2].splitlines()
    num_faults = sum(line.startswith('| ') for line in matrix) - 1
    assert f'[{num_faults} faults]' in (ROOT / 'README.md').read_text(encoding='utf-8')
