"""Weights: verified before use, safe to read, and clear about what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import pickle
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file

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


class _Payload:
    """A pickle that runs a shell command when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f'touch {self.witness}',)


class TestLoadStateDict:
    STATE: ClassVar = {'conv.weight': torch.arange(6.0).reshape(2, 3), 'n': torch.tensor(3)}

    @pytest.mark.parametrize('name', ['w.safetensors', 'w.pth', 'w.pt'])
    def test_round_trip(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        if path.suffix == '.safetensors':
            save_file(self.STATE, path)
        else:
            torch.save(self.STATE, path)
        loaded = weights.load_state_dict(path)
        assert loaded.keys() == self.STATE.keys()
        assert all(torch.equal(loaded[key], self.STATE[key]) for key in loaded)

    @pytest.mark.parametrize('wrapper', ['state_dict', 'model_state_dict', 'model'])
    def test_training_checkpoints_are_unwrapped(self, wrapper: str, tmp_path: Path) -> None:
        torch.save({'epoch': 3, wrapper: self.STATE}, tmp_path / 'c.pth')
        assert weights.load_state_dict(tmp_path / 'c.pth').keys() == self.STATE.keys()

    @pytest.mark.parametrize('how', ['torch.save', 'pickle', 'nested'])
    def test_a_pickle_with_code_is_refused_and_does_not_run(
        self, how: str, tmp_path: Path
    ) -> None:
        witness, path = tmp_path / 'witness', tmp_path / 'evil.pth'
        if how == 'pickle':
            path.write_bytes(pickle.dumps(_Payload(witness), protocol=2))
        else:
            evil = _Payload(witness)
            torch.save({'w': evil} if how == 'nested' else evil, path)
        with pytest.raises(WeightsError, match='wants code to run'):
            weights.load_state_dict(path)
        assert not witness.exists()
        # the payload is a live one: unsafe loading does run it
        if how == 'torch.save':
            torch.load(path, weights_only=False)
            assert witness.exists()

    @pytest.mark.parametrize('name', ['w.safetensors', 'w.pth'])
    @pytest.mark.parametrize('keep', [0, 5, 100, 0.5])
    def test_truncated_files(self, name: str, keep: float, tmp_path: Path) -> None:
        path = tmp_path / name
        if path.suffix == '.safetensors':
            save_file(self.STATE, path)
        else:
            torch.save(self.STATE, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else int(keep)])
        with pytest.raises(WeightsError, match=name):
            weights.load_state_dict(path)

    @pytest.mark.parametrize(
        ('content', 'expected'),
        [
            ([1, 2], 'got list'),
            ({}, 'without any'),
            ({'a': 1.5}, "got float at 'a'"),
            ({3: torch.zeros(1)}, 'at 3'),
            (torch.zeros(3), 'got Tensor'),
        ],
    )
    def test_other_content(self, content: object, expected: str, tmp_path: Path) -> None:
        torch.save(content, tmp_path / 'o.pth')
        with pytest.raises(WeightsError, match=expected):
            weights.load_state_dict(tmp_path / 'o.pth')

    def test_missing_file_and_other_formats(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match='found none'):
            weights.load_state_dict(tmp_path / 'w.pth')
        (tmp_path / 'w.onnx').write_bytes(b'x')
        with pytest.raises(WeightsError, match='got onnx'):
            weights.load_state_dict(tmp_path / 'w.onnx', 'onnx')
        with zipfile.ZipFile(tmp_path / 'z.pt', 'w') as archive:
            archive.writestr('a', 'b')
        with pytest.raises(WeightsError, match=r'z\.pt'):
            weights.load_state_dict(tmp_path / 'z.pt')


class TestFit:
    def net(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))

    def test_copies_and_converts(self) -> None:
        torch.manual_seed(0)
        net, other = self.net(), self.net()
        state = {
            k: v.half() if v.is_floating_point() else v for k, v in other.state_dict().items()
        }
        del state['1.num_batches_tracked']
        weights.load_into(net, state)
        assert net[0].weight.dtype == torch.float32
        assert torch.equal(net[0].weight, other[0].weight.half().float())

    @pytest.mark.parametrize(
        ('change', 'expected'),
        [
            ({'0.weight': None}, ['1 missing: 0.weight', 'key_map']),
            ({'head.weight': torch.zeros(1)}, ['1 not in the network: head.weight']),
            ({'0.bias': torch.zeros(5)}, ['0.bias (5,) (expected (4,))']),
            ({f'x{i}': torch.zeros(1) for i in range(5)}, ['x0, x1, x2 and 2 more']),
            ({'0.bias': torch.full((4,), float('nan'))}, ['NaN', '0.bias']),
        ],
    )
    def test_misfits_are_named(self, change: dict[str, Any], expected: list[str]) -> None:
        state = {**self.net().state_dict(), **change}
        with pytest.raises(WeightsError) as caught:
            weights.load_into(
                self.net(), {k: v for k, v in state.items() if v is not None}, 'w.pth'
            )
        assert str(caught.value).startswith('w.pth: ')
        assert all(part in str(caught.value) for part in expected)

    def test_rename(self) -> None:
        state = {k: torch.zeros(1) for k in ('module.a', 'module.net.b', 'aux.c')}
        mapping = WeightsSource(
            'w.pth', key_map={'module.': '', 'module.net.': 'n.'}, drop_prefixes=('aux.',)
        )
        assert list(weights.rename_keys(state, mapping)) == ['a', 'n.b']
        clash = WeightsSource('w.pth', key_map={'module.a': 'x', 'aux.c': 'x'})
        with pytest.raises(WeightsError, match="'x'"):
            weights.rename_keys(state, clash)
