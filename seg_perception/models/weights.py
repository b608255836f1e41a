"""Weights: found or downloaded, and verified.

``fetch_weights`` gives the path of a verified file; `seg_perception.models.state_dicts` reads
tensors from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from seg_perception.errors import WeightsError
from seg_perception.models import hub
from seg_perception.models.card import WeightsSource

CACHE_VARIABLE = 'SEG_PERCEPTION_CACHE'
MAX_DOWNLOAD_BYTES = 4 * 1024**3
"""Bound of a download whose size the card does not state."""

_CHUNK_BYTES = 1024 * 1024
_TIMEOUT_S = 30.0

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
        return _verified(local_path(source, Path(base_dir)), source, 'the weights of the card')
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


def local_path(source: WeightsSource, base_dir: Path) -> Path:
    """The path that an address which is not remote means, whether anything is there or not.

    Raises:
        WeightsError: it names a package that is not there, or leaves its package.
    """
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
    try:
        _check_size(path.stat().st_size, source, str(path))
        if source.sha256 or source.sha256_prefix:
            _check_hash(sha256_of(path), source, str(path))
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read: {error.strerror}') from error
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
