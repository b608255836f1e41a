"""Files that engines make of models, kept from one start to the next.

An entry is a folder of its own, named by a hash of all that its content depends on. It becomes
visible only when complete, and what is in it is checked before it is used: shared libraries and
graphs run with the rights of the node, and a truncated one can end it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.models.weights import default_cache_dir, sha256_of

Make = Callable[[Path], 'Mapping[str, Any] | None']
"""Writes files into a new folder; gives JSON values to keep with them."""

_FACTS = 'entry.json'


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What the cache holds for some facts.

    Attributes:
        folder: with the files; of a temporary entry only as long as the process lives.
        notes: what the maker said of them.
        remark: for people: whether it was made now, and why it will not be kept.
    """

    folder: Path
    notes: Mapping[str, Any]
    remark: str


class EngineCache:
    """The folder of all entries.

    Args:
        cache_dir: the package's cache folder; `models.weights.default_cache_dir` where None.
    """

    def __init__(self, cache_dir: str | Path | None = None) -> None:
        base = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.root = base / 'engines'

    def folder(self, name: str, facts: Mapping[str, object]) -> Path:
        """Where the entry of these facts is kept, whether it is there or not."""
        text = json.dumps(facts, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:20]
        return self.root / f'{_as_file_name(name)}-{digest}'

    def has_any(self, name: str) -> bool:
        """Whether there is an entry of a name for any facts, whole or not."""
        return any(self.root.glob(f'{_as_file_name(name)}-*'))

    def problem(self) -> str:
        """Why nothing can be kept, '' where it can."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return ''
        except OSError as error:
            return f'{self.root} cannot be written: {error}'

    def find(self, name: str, facts: Mapping[str, object]) -> CacheEntry | None:
        """The entry of these facts where it is there and whole; a damaged one is removed."""
        folder = self.folder(name, facts)
        if not folder.is_dir():
            return None
        notes = _checked_notes(folder)
        if notes is None:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return CacheEntry(folder, notes, 'kept')

    def entry(self, name: str, facts: Mapping[str, object], make: Make) -> CacheEntry:
        """The entry of these facts, made where it is not there yet.

        Two processes may make the same entry at once; the first to finish wins. Where the folder
        cannot be written to, the entry is made in a temporary one that ends with the process.

        Args:
            name: for people who look into the folder, e.g. model and engine.
            facts: all that the content depends on.
            make: writes it; what it raises is passed on and leaves nothing behind.
        """
        if found := self.find(name, facts):
            return found
        folder = self.folder(name, facts)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=self.root))
        except OSError as error:
            return _temporary_entry(make, f'not kept, {self.root} cannot be written: {error}')
        try:
            notes = _write(partial, make, facts)
            with contextlib.suppress(OSError):  # somebody else was quicker
                partial.rename(folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            return _temporary_entry(make, f'not kept, {self.root} cannot be written: {error}')
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return CacheEntry(folder, notes, 'made now')

    def forget(self, entry: CacheEntry) -> None:
        """Removes an entry that turned out to be unusable."""
        shutil.rmtree(entry.folder, ignore_errors=True)


def _as_file_name(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9._+-]', '_', name)[:80]


def _write(folder: Path, make: Make, facts: Mapping[str, object]) -> dict[str, Any]:
    notes = dict(make(folder) or {})
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    document = {
        'files': {str(path.relative_to(folder)): sha256_of(path) for path in files},
        'notes': notes,
        'facts': dict(facts),
    }
    (folder / _FACTS).write_text(json.dumps(document, indent=1, default=str))
    return notes


def _checked_notes(folder: Path) -> dict[str, Any] | None:
    """The notes of an entry, None where anything of it is not as it was written."""
    try:
        document = json.loads((folder / _FACTS).read_text())
        if all(sha256_of(folder / name) == sha for name, sha in document['files'].items()):
            return dict(document['notes'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


_TEMPORARY: list[Path] = []


def _remove_temporary(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


_CLEANUP = weakref.finalize(EngineCache, _remove_temporary, _TEMPORARY)


def _temporary_entry(make: Make, remark: str) -> CacheEntry:
    folder = Path(tempfile.mkdtemp(prefix=f'seg_perception-{os.getpid()}-'))
    _TEMPORARY.append(folder)
    return CacheEntry(folder, dict(make(folder) or {}), remark)
