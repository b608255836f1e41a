"""The hub's own client against a server that speaks the hub's protocol, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seg_perception.errors import ModelNotFoundError, WeightsError
from seg_perception.models.hub import Repository, shard_names

pytest.importorskip('huggingface_hub', reason='huggingface_hub (extra hf) is not installed')

COMMITS = {'main': 'a' * 40, 'v1': 'b' * 40}
CONFIG = {
    'model_type': 'segformer',
    'architectures': ['SegformerForSemanticSegmentation'],
    'id2label': {'0': 'wall', '1': 'floor'},
}
FILES = {
    'config.json': json.dumps(CONFIG).encode(),
    'preprocessor_config.json': b'{"image_processor_type": "SegformerImageProcessor"}',
    'README.md': b'---\nlicense: mit\n---\n',
    'model.safetensors': b'not really',
}


class Hub(BaseHTTPRequestHandler):
    """``/org/good`` has `FILES`, ``/org/pickled`` has no safe weights; there are no others."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.server.requested.append(self.path)  # type: ignore[attr-defined]
        org, name, _, revision, file = (self.path.strip('/').split('/', 4) + [''] * 5)[:5]
        commit = COMMITS.get(revision) or (revision if revision in COMMITS.values() else '')
        files = {} if name == 'pickled' and file.endswith('.safetensors') else FILES
        error = ''
        if (org, name) not in (('org', 'good'), ('org', 'pickled')):
            error = 'RepoNotFound'
        elif not commit:
            error = 'RevisionNotFound'
        elif file not in files:
            error = 'EntryNotFound'
        body = b'' if error else files[file]
        self.send_response(404 if error else 200)
        if error:
            self.send_header('X-Error-Code', error)
        if commit:
            self.send_header('X-Repo-Commit', commit)
        self.send_header('ETag', f'"{file}-{commit}"')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
        server.requested = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


RESOLVE = """
import sys
from seg_perception.errors import SegPerceptionError
from seg_perception.models import resolve
from seg_perception.models.weights import fetch_weights
for text in sys.argv[1:]:
    try:
        card = resolve(text)
        print(card.source, card.licence, card.classes.names, card.weights.uri)
        print(fetch_weights(card.weights, card.base_dir).read_bytes())
    except SegPerceptionError as error:
        print(type(error).__name__, error)
"""


def run(port: int, cache: Path, *models: str, **env: str) -> str:
    """What `RESOLVE` prints in a process whose hub is on a port here."""
    done = subprocess.run(
        [sys.executable, '-c', RESOLVE, *models],
        env={
            **os.environ,
            'HF_ENDPOINT': f'http://127.0.0.1:{port}',
            'HF_HOME': str(cache),
            'HF_HUB_DISABLE_XET': '1',
            'HF_HUB_DISABLE_PROGRESS_BARS': '1',
            'NO_PROXY': '*',
            **env,
        },
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_revisions_caching_and_what_goes_wrong(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    port = server.server_address[1]
    said = run(
        port,
        tmp_path,
        'hf:org/good@v1',
        'hf:org/good',
        'hf:org/pickled',
        'hf:org/none',
        'hf:org/good@v2',
    ).splitlines()
    for lines, commit in ((said[0:2], COMMITS['v1']), (said[2:4], COMMITS['main'])):
        assert f'org/good/tree/{commit} mit' in lines[0]
        assert "('wall', 'floor')" in lines[0]
        assert lines[0].endswith(f'hf://org/good@{commit}/model.safetensors')
        assert lines[1] == "b'not really'"
    assert 'WeightsError hf:org/pickled' in said[4]
    assert 'pickled weights (.bin) can run code and are refused' in said[4]
    assert 'ModelNotFoundError hf:org/none' in said[5]
    assert "expected a branch, tag or commit, got 'v2'" in said[6]
    requested = server.requested  # type: ignore[attr-defined]
    assert not any(path.endswith(('.py', '.bin')) for path in requested)
    # Without the hub: what is in the cache is used, the rest is told in one line.
    for offline in ({}, {'HF_HUB_OFFLINE': '1'}):
        said = run(9, tmp_path, 'hf:org/good', 'hf:org/other', **offline).splitlines()
        assert said[1] == "b'not really'"
        assert len(said) == 3
        assert said[2].startswith(
            'WeightsError hf:org/other@main: config.json is not in the cache'
        )
        assert 'hf:FOLDER' in said[2]


@pytest.mark.parametrize('text', ['', 'a/b/c', '../up', 'org/name@', 'org/na me', 'org/name@a b'])
def test_names_that_are_no_repositories(text: str) -> None:
    with pytest.raises(ModelNotFoundError, match='org/name@revision'):
        Repository.parse(text)


def test_names() -> None:
    assert Repository.parse('org/name') == Repository('org/name', 'main')
    assert Repository.parse('org/name@refs/pr/1').revision == 'refs/pr/1'
    assert Repository('org/name', 'v1').uri('f') == 'hf://org/name@v1/f'


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"weight_map": {"a": 1}}'])
def test_files_that_are_no_index(text: str, tmp_path: Path) -> None:
    (tmp_path / 'index.json').write_text(text)
    with pytest.raises(WeightsError, match=r'index'):
        shard_names(tmp_path / 'index.json')
