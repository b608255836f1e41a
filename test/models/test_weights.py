"""Weights: verified before use, safe to read, and clear about what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seg_perception.errors import WeightsError
from seg_perception.models import weights
from seg_perception.models.card import WeightsSource

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    path = tmp_path / 'w.bin'
    path.write_bytes(CONTENT)
    return path


def source(uri: str = 'w.bin', **fields: Any) -> WeightsSource:
    return WeightsSource(uri, **{'format': 'torch', **fields})


class TestLocalFile:
    @pytest.mark.parametrize(
        'fields',
        [{}, {'sha256': SHA}, {'sha256_prefix': SHA[:8]}, {'size_bytes': len(CONTENT)}],
    )
    def test_relative_to_the_card(self, weights_file: Path, fields: dict[str, Any]) -> None:
        assert weights.fetch_weights(source(**fields), weights_file.parent) == weights_file

    def test_absolute_path_and_explicit_path(self, weights_file: Path, tmp_path: Path) -> None:
        assert weights.fetch_weights(source(str(weights_file)), '/nowhere') == weights_file
        remote = source('https://example.org/w.bin', sha256=SHA)
        assert weights.fetch_weights(remote, '.', weights_path=weights_file) == weights_file

    @pytest.mark.parametrize(
        ('fields', 'expected'),
        [
            ({'sha256': 'ab' * 32}, ['ab' * 32, SHA]),
            ({'sha256_prefix': 'abababab'}, ['abababab…', SHA]),
            ({'size_bytes': len(CONTENT) + 1}, [str(len(CONTENT) + 1), 'truncated']),
            ({'size_bytes': 5}, ['5 bytes', 'another file']),
        ],
    )
    def test_an_altered_file_is_refused_and_left_alone(
        self, weights_file: Path, fields: dict[str, Any], expected: list[str]
    ) -> None:
        with pytest.raises(WeightsError) as caught:
            weights.fetch_weights(source(**fields), weights_file.parent)
        assert all(part in str(caught.value) for part in expected)
        assert weights_file.exists()

    def test_a_missing_file_says_where_it_should_be(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match='weights_path') as caught:
            weights.fetch_weights(source(), tmp_path)
        assert str(tmp_path / 'w.bin') in str(caught.value)

    def test_package_addresses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = weights.fetch_weights(source('package://seg_perception/errors.py'), tmp_path)
        assert found.read_text().startswith('"""Every error')
        share = tmp_path / 'share' / 'my_robot'
        share.mkdir(parents=True)
        (share / 'w.bin').write_bytes(CONTENT)
        monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
        assert weights.fetch_weights(source('package://my_robot/w.bin'), '.') == share / 'w.bin'
        with pytest.raises(WeightsError, match="'other'"):
            weights.fetch_weights(source('package://other/w.bin'), '.')
        with pytest.raises(WeightsError, match='inside'):
            weights.fetch_weights(source('package://my_robot/../w.bin'), '.')


class _Handler(http.server.BaseHTTPRequestHandler):
    """/w.bin whole, /short breaks off, /redirect leads away, everything else is not there."""

    def do_GET(self) -> None:
        if self.path == '/redirect':
            self.send_response(302)
            self.send_header('Location', 'http://127.0.0.1:9/evil')
            self.end_headers()
            return
        if self.path not in ('/w.bin', '/short', '/endless'):
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != '/endless':
            self.send_header('Content-Length', str(len(CONTENT)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(CONTENT[:1000] if self.path == '/short' else CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope='module')
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f'http://127.0.0.1:{running.server_port}'
        running.shutdown()
        thread.join()


class TestDownload:
    """A real server on this machine; only the https scheme is replaced on the way out."""

    @pytest.fixture
    def via(self, server: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        opened: list[str] = []

        def open_url(url: str, timeout_s: float) -> Any:
            opened.append(url)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), weights._HttpsOnly
            )
            return opener.open(url.replace('https://example.org', server), timeout=timeout_s)

        original = weights._download
        monkeypatch.setattr(
            weights, '_download', lambda *a, **k: original(*a, open_url=open_url, **k)
        )
        return opened

    def remote(self, name: str = 'w.bin', **fields: Any) -> WeightsSource:
        return source(f'https://example.org/{name}', **{'sha256': SHA, **fields})

    def test_downloads_once_and_reports_progress(self, via: list[str], tmp_path: Path) -> None:
        seen: list[tuple[int, int | None]] = []
        wanted = self.remote(size_bytes=len(CONTENT))
        for _ in range(2):
            path = weights.fetch_weights(
                wanted, '.', tmp_path / 'cache', progress=lambda *n: seen.append(n)
            )
            assert path == weights.cached_path(wanted, tmp_path / 'cache')
            assert path.read_bytes() == CONTENT
        assert len(via) == 1
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert path.name == f'{SHA[:8]}-w.bin'
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_a_spoilt_cache_is_replaced(self, via: list[str], tmp_path: Path) -> None:
        weights.cached_path(self.remote(), tmp_path).write_bytes(b'spoilt')
        assert weights.fetch_weights(self.remote(), '.', tmp_path).read_bytes() == CONTENT

    @pytest.mark.parametrize(
        ('name', 'fields', 'expected'),
        [
            ('w.bin', {'sha256': 'ab' * 32}, f'expected SHA-256 {"ab" * 32}, got {SHA}'),
            ('w.bin', {'size_bytes': 10}, 'at most 10 bytes'),
            ('endless', {'size_bytes': 10}, 'at most 10 bytes'),
            ('w.bin', {'size_bytes': len(CONTENT) + 7}, 'broke off|expected 10247 bytes'),
            ('short', {}, 'broke off|IncompleteRead|more expected'),
            ('gone', {}, 'Not Found.*put the file at'),
            ('redirect', {}, 'refused a redirect away from https'),
        ],
    )
    def test_failures_leave_nothing_behind(
        self, via: list[str], tmp_path: Path, name: str, fields: dict[str, Any], expected: str
    ) -> None:
        with pytest.raises(WeightsError, match=expected):
            weights.fetch_weights(self.remote(name, **fields), '.', tmp_path)
        assert via
        assert list(tmp_path.iterdir()) == []

    def test_concurrent_downloads_agree(self, via: list[str], tmp_path: Path) -> None:
        paths: list[Path] = []
        threads = [
            threading.Thread(
                target=lambda: paths.append(weights.fetch_weights(self.remote(), '.', tmp_path))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(paths) == 4
        assert paths[0].read_bytes() == CONTENT
        assert list(tmp_path.iterdir()) == [paths[0]]

    def test_unreachable_host_names_the_place_to_put_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv('SEG_PERCEPTION_CACHE', str(tmp_path))
        monkeypatch.setenv('no_proxy', '*')
        wanted = source('https://127.0.0.1:9/a b.pth', sha256_prefix='abcdef01')
        with pytest.raises(WeightsError, match='download failed') as caught:
            weights.fetch_weights(wanted, '.')
        assert str(tmp_path / 'abcdef01-a_b.pth') in str(caught.value)
        assert 'weights_path' in str(caught.value)

    def test_an_unwritable_cache(self, tmp_path: Path) -> None:
        (tmp_path / 'file').write_text('')
        with pytest.raises(WeightsError, match='cannot be written'):
            weights.fetch_weights(self.remote(), '.', tmp_path / 'file' / 'cache')


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('SEG_PERCEPTION_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', '/x')
    assert weights.default_cache_dir() == Path('/x/seg_perception')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/h')
    assert weights.default_cache_dir() == Path('/h/.cache/seg_perception')
    monkeypatch.setenv('SEG_PERCEPTION_CACHE', '~/c')
    assert weights.default_cache_dir() == Path('/h/c')
