"""What of a long job is done, so that a job that was killed goes on where it was.

A journal lies in the folder of the results, one JSON record a line, and is only appended to. Of a
job that was killed, whatever the moment, a last line may be cut off; it is left out.

An item (a photograph, a video, a slice of a recording) is done when the journal says so and its
input, its output files and all that made them (model, options) are as they were then.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from seg_perception.errors import ConfigurationError, OutputError

STATE_FOLDER = '.seg-perception'
"""In the folder of the results; a folder that has it holds results."""

_JOURNAL = 'done.jsonl'

State = Literal['new', 'done', 'input changed', 'made otherwise', 'outputs missing']
"""How an item stands; only ``done`` needs no work, ``new`` was never done."""


def file_identity(path: Path) -> dict[str, int]:
    """What tells an input file from the one that lay there before: its size and time of change.

    Raises:
        OSError: there is none.
    """
    stat = path.stat()
    return {'size': stat.st_size, 'mtime_ns': stat.st_mtime_ns}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A finished item: what it was made of and by, and where its record is in the journal."""

    facts_id: str
    source: Any
    outputs: Mapping[str, int]
    offset: int


class DoneList:
    """The items of the jobs that write into one folder.

    One process at a time has it: a second one is refused.

    Args:
        folder: of the results; made where it is not there.
        facts: what makes the results: names and plain JSON values, e.g. model and options.
            Whatever changes results belongs in there, what does not (paths, threads) does not.

    Attributes:
        facts_id: the same for the same facts.

    Raises:
        ConfigurationError: another process is at work in the folder.
        OutputError: the folder or the journal cannot be read or written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.state_dir = folder / STATE_FOLDER
        self._facts: dict[str, Any] = _plain(dict(facts))
        self.facts_id = _id_of(self._facts)
        self._known_facts: dict[str, dict[str, Any]] = {}
        self._entries: dict[str, _Entry] = {}
        self._owned: set[str] = set()
        path = self.state_dir / _JOURNAL
        if folder.exists() and not folder.is_dir():
            raise OutputError(f'{folder}: expected a folder for the results, it is a file')
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open('a+b')
            _lock(self._file, folder)
            self._read()
            if self.facts_id not in self._known_facts:
                self._known_facts[self.facts_id] = self._facts
                self._append({'facts': self._facts, 'id': self.facts_id})
        except OSError as error:
            raise OutputError(f'{path}: cannot be written: {error.strerror or error}') from error

    def state(self, key: str, source: Any) -> State:
        """How an item stands.

        Args:
            key: its name, unique among the items of the folder.
            source: what tells its input from another of that name, e.g. `file_identity`.
        """
        entry = self._entries.get(key)
        if entry is None:
            return 'new'
        if entry.facts_id != self.facts_id:
            return 'made otherwise'
        if entry.source != _plain(source):
            return 'input changed'
        return 'done' if self._has_outputs(entry.outputs) else 'outputs missing'

    def differences(self, key: str) -> list[str]:
        """What makes results now and did not then, as lines like ``model: a → b``.

        Empty for an item that was never done or was made as now.
        """
        entry = self._entries.get(key)
        before = self._facts if entry is None else self._known_facts.get(entry.facts_id, {})
        return [
            f'{name}: {_as_text(before.get(name))} → {_as_text(self._facts.get(name))}'
            for name in sorted({*before, *self._facts})
            if before.get(name) != self._facts.get(name)
        ]

    def begin(self, key: str, outputs: Iterable[str]) -> None:
        """Says which files are about to be written, before the first of them is.

        Args:
            key: the item.
            outputs: paths relative to the folder, with slashes; of folders whose files all
                are.
        """
        names = list(outputs)
        if not self._owned.issuperset(names):
            self._append({'begin': key, 'outputs': names})
            self._owned.update(names)

    def finish(self, key: str, source: Any, outputs: Iterable[str], result: Any = None) -> None:
        """Says that all files of an item are there.

        Args:
            key: the item.
            source: see `state`.
            outputs: paths relative to the folder, with slashes; the files are there.
            result: JSON values to keep with it, see `result`.

        Raises:
            OutputError: a file is not there, or the journal cannot be written.
        """
        names = list(outputs)
        try:
            sizes = {name: (self.folder / name).stat().st_size for name in names}
        except OSError as error:
            raise OutputError(f'{key}: a result is gone: {error}') from error
        offset = self._append(
            {
                'done': key,
                'id': self.facts_id,
                'source': source,
                'outputs': sizes,
                'result': result,
            }
        )
        self._entries[key] = _Entry(self.facts_id, _plain(source), sizes, offset)
        self._owned.update(names)

    def result(self, key: str) -> Any:
        """What was kept with a finished item; read from the journal, which may hold a lot."""
        self._file.seek(self._entries[key].offset)
        return json.loads(self._file.readline())['result']

    def outputs(self, key: str) -> set[str]:
        """Files of a finished item, relative to the folder; empty for one that is not."""
        entry = self._entries.get(key)
        return set() if entry is None else set(entry.outputs)

    def source(self, key: str) -> Any:
        """What told the input of a finished item from others; None of one that is not."""
        entry = self._entries.get(key)
        return None if entry is None else entry.source

    def owns(self, name: str) -> bool:
        """Whether a job wrote a file of this path (relative to the folder), or began to."""
        return _is_among(name, self._owned)

    def close(self) -> None:
        """Lets the next process have the folder; harmless when repeated."""
        self._file.close()

    def __enter__(self) -> DoneList:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_outputs(self, outputs: Mapping[str, int]) -> bool:
        try:
            return all((self.folder / n).stat().st_size == size for n, size in outputs.items())
        except OSError:
            return False

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            # What was cut off is of no use, nor is anything behind it.
            if not line.endswith(b'\n'):
                break
            try:
                self._take(json.loads(line), whole)
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def _take(self, record: dict[str, Any], offset: int) -> None:
        if 'facts' in record:
            self._known_facts[record['id']] = dict(record['facts'])
        elif 'begin' in record:
            self._owned.update(record['outputs'])
        else:
            outputs = {str(name): int(size) for name, size in record['outputs'].items()}
            self._entries[record['done']] = _Entry(record['id'], record['source'], outputs, offset)
            self._owned.update(outputs)

    def _append(self, record: Mapping[str, Any]) -> int:
        """Writes a line; gives where it begins."""
        try:
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(record).encode() + b'\n')
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f'{self.state_dir / _JOURNAL}: cannot be written: {error.strerror or error}'
            ) from error
        return offset


class ResultFiles:
    """Tells results of jobs from other files, by the journals of the folders they are in."""

    def __init__(self) -> None:
        self._owned: dict[Path, frozenset[str]] = {}

    def __contains__(self, path: Path) -> bool:
        """Whether a job wrote the file, or began to; the path is absolute."""
        return any(
            _is_among(path.relative_to(folder).as_posix(), self._owned_in(folder))
            for folder in path.parents
        )

    def _owned_in(self, folder: Path) -> frozenset[str]:
        if folder not in self._owned:
            names: set[str] = set()
            with contextlib.suppress(OSError, ValueError):
                for line in (folder / STATE_FOLDER / _JOURNAL).read_bytes().splitlines():
                    names.update(json.loads(line).get('outputs', ()))
            self._owned[folder] = frozenset(names)
        return self._owned[folder]


def _is_among(name: str, owned: Collection[str]) -> bool:
    """Whether a path, or a folder that it is in, is among others."""
    return bool(owned) and any(str(path) in owned for path in (name, *PurePosixPath(name).parents))


def _plain(value: Any) -> Any:
    """The value as it comes back from the journal."""
    return json.loads(json.dumps(value))


def _id_of(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_text(value: Any) -> str:
    if value is None:
        return 'none'
    return ', '.join(map(str, value)) or 'none' if isinstance(value, list) else str(value)


def _lock(file: IO[bytes], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigurationError(
            f'another job is at work in {folder}: wait for it, or choose another folder'
        ) from None
