"""Weights: found or downloaded, verified, and read without executing anything from the file.

``fetch_weights`` gives the path of a verified file. ``load_state_dict`` reads tensors from it
(safetensors, or torch checkpoints through ``weights_only=True``, which refuses pickled code), and
``load_into`` puts them into a network whose names and shapes must match.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pickle
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Protocol

from seg_perception.errors import WeightsError
from seg_perception.models import hub
from seg_perception.models.card import FORMAT_BY_SUFFIX, WeightsSource
from seg_perception.models.graph_facts import is_torchscript

if TYPE_CHECKING:
    import torch

CACHE_VARIABLE = 'SEG_PERCEPTION_CACHE'
MAX_DOWNLOAD_BYTES = 4 * 1024**3
"""Bound of a download whose size the card does not state."""

_CHUNK_BYTES = 1024 * 1024
_TIMEOUT_S = 30.0
_WRAPPER_KEYS = ('state_dict', 'model_state_dict', 'model')

Progress = Callable[[int, 'int | None'], None]
"""Called with the bytes received so far and the bytes expected (None where nobody says)."""


class _Response(Protocol):
    headers: Any

    def read(self, size: int, /) -> bytes: ...


OpenUrl = Callable[[str, float], contextlib.AbstractContextManager[_Response]]


def default_cache_dir() -> Path:
    """``$SEG_PERCEPTION_CACHE``, else the user's cache folder + ``seg_perception``."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(base).expanduser() / 'seg_perception'


def cached_path(source: WeightsSource, cache_dir: str | Path | None = None) -> Path:
    """Where the download of ``source`` is kept, whether it is there or not.

    The name starts with the hash's first digits, so that two files of one name can live there.
    """
    url_path = urllib.parse.unquote(urllib.parse.urlsplit(source.uri).path)
    name = re.sub(r'[^A-Za-z0-9._+-]', '_', PurePosixPath(url_path).name) or 'weights'
    digits = (source.sha256 or source.sha256_prefix)[:8]
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    return folder / f'{digits}-{name}'


def fetch_weights(
    source: WeightsSource,
    base_dir: str | Path,
    cache_dir: str | Path | None = None,
    *,
    weights_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The path of the weights, verified against the card's size and hash.

    Looked for in this order: ``weights_path``; the local file that ``source.uri`` names; the
    cache; the network (``hf://`` through the hub's own library and cache). A file in the cache
    that fails its check is removed and downloaded anew. Safe to call from several processes at
    once: a download becomes visible only when complete and verified.

    Args:
        source: the card's ``weights``.
        base_dir: the folder that a relative ``uri`` starts from, ``card.base_dir``.
        cache_dir: where downloads are kept; `default_cache_dir` where None.
        weights_path: a local copy to use instead of ``uri``. It must be the same file: what the
            card says about its hash and size still holds.
        progress: told about a download.

    Raises:
        WeightsError: the file is missing, has another size or hash, or cannot be downloaded.
    """
    if weights_path is not None:
        return _verified(Path(weights_path).expanduser(), source, 'the given weights file')
    if source.uri.startswith(hub.SCHEME):
        return _verified(hub.weights_file(source.uri), source, "the hub's file")
    if not source.is_remote:
        return _verified(_local_path(source, Path(base_dir)), source, 'the weights of the card')
    target = cached_path(source, cache_dir)
    stale = ''
    if target.is_file():
        try:
            return _verified(target, source, 'the cached weights')
        except WeightsError as error:
            stale = f' (and the copy in the cache was removed: {error})'
            target.unlink(missing_ok=True)
    try:
        _download(source, target, progress=progress)
    except WeightsError as error:
        raise WeightsError(f'{error}{stale}') from error
    return target


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def load_state_dict(path: str | Path, weights_format: str = '') -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU, in the file's own precision.

    A checkpoint that wraps its tensors in ``state_dict``, ``model_state_dict`` or ``model`` is
    unwrapped.

    Args:
        path: a ``.safetensors`` file, or a ``.pth``/``.pt`` file written by ``torch.save``.
        weights_format: ``safetensors`` or ``torch``; by the suffix where ''.

    Raises:
        WeightsError: the file is missing, truncated, holds anything but tensors, or asks for
            code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f'{path}: expected a weights file, found none')
    weights_format = weights_format or FORMAT_BY_SUFFIX.get(path.suffix.lower(), '')
    if weights_format == 'safetensors':
        return _load_safetensors(path)
    if weights_format == 'torch':
        return _load_checkpoint(path)
    raise WeightsError(
        f'{path}: expected a state dict (.safetensors, .pth or .pt), '
        f'got {weights_format or path.suffix or "a file without suffix"}'
    )


def rename_keys(
    state: Mapping[str, torch.Tensor], source: WeightsSource
) -> dict[str, torch.Tensor]:
    """Applies a card's ``drop_prefixes``, then its ``key_map`` (the longest prefix wins).

    The tensors are the same objects.

    Raises:
        WeightsError: two names become one.
    """
    prefixes = sorted(source.key_map, key=len, reverse=True)
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if source.drop_prefixes and key.startswith(source.drop_prefixes):
            continue
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        name = key if prefix is None else source.key_map[prefix] + key[len(prefix) :]
        if name in renamed:
            raise WeightsError(
                f"weights.key_map: expected one tensor for '{name}', got several of the file, "
                f"'{key}' among them"
            )
        renamed[name] = tensor
    return renamed


def load_into(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str = 'the weights'
) -> None:
    """Copies tensors into a network; every name and shape must match.

    Precision is converted to the network's. BatchNorm's ``num_batches_tracked`` may be missing:
    inference does not use it.

    Args:
        network: changed in place.
        state: tensors by name.
        origin: what the message calls the tensors, e.g. the file's name.

    Raises:
        WeightsError: tensors are missing, unknown, of another shape, or not finite.
    """
    wanted = network.state_dict()
    missing = [
        key for key in wanted if key not in state and not key.endswith('.num_batches_tracked')
    ]
    unknown = [key for key in state if key not in wanted]
    misshapen = [
        f'{key} {tuple(state[key].shape)} (expected {tuple(wanted[key].shape)})'
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or unknown or misshapen:
        problems = (
            ('missing', missing),
            ('not in the network', unknown),
            ('of another shape', misshapen),
        )
        found = '; '.join(f'{len(k)} {what}: {_first(k)}' for what, k in problems if k)
        raise WeightsError(
            f'{origin}: expected the {len(wanted)} tensors of {type(network).__name__}, got '
            f'{len(state)} with {found}. Check architecture, its options and the number of '
            f'classes in the model card; other names can be mapped with weights.key_map, extra '
            f'ones left out with weights.drop_prefixes'
        )
    broken = [
        key for key, t in state.items() if t.is_floating_point() and not bool(t.isfinite().all())
    ]
    if broken:
        raise WeightsError(
            f'{origin}: expected finite numbers, got NaN or inf in {_first(broken)}'
        )
    network.load_state_dict(dict(state), strict=False)


def _first(names: list[str], limit: int = 3) -> str:
    rest = len(names) - limit
    return ', '.join(names[:limit]) + (f' and {rest} more' if rest > 0 else '')


def _local_path(source: WeightsSource, base_dir: Path) -> Path:
    if not source.uri.startswith('package://'):
        return base_dir / Path(source.uri).expanduser()
    package, _, relative = source.uri.removeprefix('package://').partition('/')
    if not relative or '..' in PurePosixPath(relative).parts:
        raise WeightsError(
            f"weights.uri: expected package://PACKAGE/path/inside/it, got '{source.uri}'"
        )
    if package == 'seg_perception':
        return Path(__file__).parents[1] / relative
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    for prefix in prefixes:
        share = Path(prefix) / 'share' / package
        if share.is_dir():
            return share / relative
    raise WeightsError(
        f"weights.uri: expected a ROS package in AMENT_PREFIX_PATH, found no '{package}' in "
        f'{prefixes or "it, because it is empty"}; source the workspace that has it'
    )


def _verified(path: Path, source: WeightsSource, what: str) -> Path:
    if not path.is_file():
        published = f', or download it from {source.uri}' if source.is_remote else ''
        raise WeightsError(
            f'{path}: expected {what}, found no file; put it there, give another path as '
            f'weights_path{published}'
        )
    _check_size(path.stat().st_size, source, str(path))
    if source.sha256 or source.sha256_prefix:
        _check_hash(sha256_of(path), source, str(path))
    return path


def _check_size(size_bytes: int, source: WeightsSource, origin: str) -> None:
    if source.size_bytes is not None and size_bytes != source.size_bytes:
        kind = 'truncated' if size_bytes < source.size_bytes else 'another file'
        raise WeightsError(
            f'{origin}: expected {source.size_bytes} bytes, got {size_bytes} ({kind})'
        )


def _check_hash(actual: str, source: WeightsSource, origin: str) -> None:
    if source.sha256 and actual != source.sha256:
        expected = source.sha256
    elif not actual.startswith(source.sha256_prefix):
        expected = f'{source.sha256_prefix}…'
    else:
        return
    raise WeightsError(
        f'{origin}: expected SHA-256 {expected}, got {actual}; the file was altered, is '
        f'incomplete or is another one. For weights of your own write a card with their hash'
    )


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith('https://'):
            raise WeightsError(f'{req.full_url}: refused a redirect away from https, to {newurl}')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open_https(url: str, timeout_s: float) -> contextlib.AbstractContextManager[_Response]:
    request = urllib.request.Request(url, headers={'User-Agent': 'seg_perception'})
    opened = urllib.request.build_opener(_HttpsOnly).open(request, timeout=timeout_s)
    assert isinstance(opened, contextlib.AbstractContextManager)
    return opened


def _download(
    source: WeightsSource,
    target: Path,
    *,
    progress: Progress | None = None,
    open_url: OpenUrl = _open_https,
    max_bytes: int = MAX_DOWNLOAD_BYTES,
    timeout_s: float = _TIMEOUT_S,
) -> None:
    """Downloads into ``target``, which appears only when complete and verified."""
    remedy = (
        f'put the file at {target}, or give its path as weights_path; '
        f'${CACHE_VARIABLE} moves the cache'
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f'.{target.name}.', dir=target.parent)
    except OSError as error:
        raise WeightsError(f'{target.parent}: cannot be written: {error}; {remedy}') from error
    partial = Path(name)
    try:
        with os.fdopen(handle, 'wb') as stream, open_url(source.uri, timeout_s) as response:
            actual = _copy(response, stream, source, max_bytes, progress)
        _check_size(partial.stat().st_size, source, source.uri)
        _check_hash(actual, source, source.uri)
        partial.chmod(0o644)
        os.replace(partial, target)
    except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
        reason = getattr(error, 'reason', None) or error
        raise WeightsError(f'{source.uri}: download failed: {reason}; {remedy}') from error
    finally:
        partial.unlink(missing_ok=True)


def _copy(
    response: _Response,
    stream: IO[bytes],
    source: WeightsSource,
    max_bytes: int,
    progress: Progress | None,
) -> str:
    stated = str(response.headers.get('Content-Length') or '')
    total = int(stated) if stated.isdigit() else source.size_bytes
    bound = source.size_bytes or max_bytes
    if total is not None and total > bound:
        raise WeightsError(f'{source.uri}: expected at most {bound} bytes, server has {total}')
    digest, received = hashlib.sha256(), 0
    while chunk := response.read(_CHUNK_BYTES):
        received += len(chunk)
        if received > bound:
            raise WeightsError(f'{source.uri}: expected at most {bound} bytes, server sends more')
        stream.write(chunk)
        digest.update(chunk)
        if progress is not None:
            progress(received, total)
    if total is not None and received < total:
        raise WeightsError(
            f'{source.uri}: expected {total} bytes, got {received} (the connection broke off); '
            f'try again'
        )
    return digest.hexdigest()


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise WeightsError(
            f'{path}: the Python library safetensors is needed to read it and is not installed: '
            f'pip install safetensors'
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f'{path}: is not a whole safetensors file: {error}') from error


def _load_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    import torch

    if is_torchscript(path):
        raise WeightsError(
            f'{path}: expected a checkpoint of plain tensors, got TorchScript, which is code and '
            f'weights; write weights.format: torchscript and no architecture into its card'
        )
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split('\n')[0]
        raise WeightsError(
            f'{path}: expected a checkpoint of plain tensors, got one that wants code to run '
            f'({reason[:200]}); refused. If you trust it, convert it once on a machine that may '
            f'run it: safetensors.torch.save_file(model.state_dict(), "model.safetensors")'
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).split('\n')[0]
        raise WeightsError(f'{path}: is not a whole torch checkpoint: {reason[:200]}') from error
    for wrapper in _WRAPPER_KEYS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f'{path}: expected tensors by name, got {type(content).__name__}'
            + (' without any' if isinstance(content, dict) else '')
        )
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(
                f'{path}: expected tensors by name, got {type(value).__name__} at {key!r}; '
                f'save model.state_dict()'
            )
    return dict(content)
