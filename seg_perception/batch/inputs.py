"""What the words of a command line stand for: photographs, videos, live streams, standard input.

Folders are searched with all their sub-folders, in the order of their names; hidden files and
folders, and folders that hold results of earlier jobs, are left out. Nothing is decoded here.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Literal

import cv2

from seg_perception.batch.manifest import STATE_FOLDER
from seg_perception.batch.naming import Place, result_names
from seg_perception.errors import ConfigurationError
from seg_perception.sources.bag import is_bag
from seg_perception.sources.stills import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {'.3gp', '.avi', '.flv', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts'}
    | {'.ogv', '.ts', '.webm', '.wmv'}
)
STDIN = '-'

Kind = Literal['photograph', 'video', 'stream']


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One thing to segment.

    Attributes:
        kind: what it is.
        name: what a person would call it: the path, or the words that were given.
        result_name: of its results: a relative path with slashes, without a suffix.
        path: of the file; None of streams and standard input.
        data: the bytes of standard input.
        address: of a stream, for ``sources.open_source``.
    """

    kind: Kind
    name: str
    result_name: str
    path: Path | None = None
    data: bytes | None = None
    address: str = ''


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be segmented: what it is called, and why."""

    name: str
    message: str

    def line(self) -> str:
        """For people."""
        return printable(f'failed: {self.name}: {self.message}')


@dataclass(slots=True)
class Found:
    """What was found.

    Attributes:
        inputs: in the order in which they were given, those of a folder by name.
        problems: words that stand for nothing that can be segmented.
        num_repeated: files that were found more than once; they are segmented once.
        num_results: files that an earlier job wrote; they are left out.
    """

    inputs: list[Input] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_repeated: int = 0
    num_results: int = 0

    def require_any(self) -> None:
        """Makes sure that there is something to segment.

        Raises:
            ConfigurationError: there is nothing; says why.
        """
        if not self.inputs:
            reasons = [f'{problem.name}: {problem.message}' for problem in self.problems]
            raise ConfigurationError(
                '; '.join([*reasons, *self.remarks()]) or 'expected inputs, got none'
            )

    def remarks(self) -> Iterator[str]:
        """What was left out, for people."""
        if self.num_results:
            yield f'{self.num_results} left out: results of earlier jobs'
        if self.num_repeated:
            yield f'{self.num_repeated} left out: found more than once'


@dataclass(frozen=True, slots=True)
class _Candidate:
    kind: Kind
    name: str
    place: Place
    path: Path | None = None
    data: bytes | None = None
    address: str = ''


def find_inputs(
    words: Iterable[str],
    *,
    read_stdin: Callable[[], bytes],
    is_result: Callable[[Path], bool] = lambda path: False,
) -> Found:
    """Finds what words stand for.

    Args:
        words: paths of images, videos and folders; globs; ``webcam:<index>``; addresses of
            streams; ``-`` for an encoded image on standard input.
        read_stdin: gives the bytes of that.
        is_result: whether a file (absolute path) was written by an earlier job.
    """
    found = Found()
    candidates: list[_Candidate] = []
    seen: set[Path] = set()
    for word in words:
        if word == STDIN:
            place = Place(PurePath('/'), PurePath('stdin.image'))
            candidates.append(_Candidate('photograph', 'standard input', place, data=read_stdin()))
            continue
        if word.startswith('webcam:') or '://' in word:
            name = re.sub(r'//[^/]*@', '//', word)  # a password is for nobody to read
            candidates.append(_Candidate('stream', name, _stream_place(name), address=word))
            continue
        listed = _files_of(word)
        if isinstance(listed, Problem):
            found.problems.append(listed)
            continue
        for candidate in listed:
            assert candidate.path is not None
            key = candidate.path.resolve()
            if is_result(Path(os.path.abspath(candidate.path))):
                found.num_results += 1
            elif key in seen:
                found.num_repeated += 1
            else:
                seen.add(key)
                candidates.append(candidate)
    names = result_names([candidate.place for candidate in candidates])
    found.inputs = [
        Input(c.kind, c.name, name, c.path, c.data, c.address)
        for c, name in zip(candidates, names, strict=True)
    ]
    return found


def read_list(data: bytes, *, is_null_separated: bool) -> list[str]:
    """The paths of a list, one a line, or separated by null bytes (``find -print0``)."""
    separator = b'\0' if is_null_separated else b'\n'
    lines = data.split(separator)
    if not is_null_separated:
        lines = [line.removesuffix(b'\r') for line in lines]
    return [os.fsdecode(line) for line in lines if line]


def _files_of(word: str) -> list[_Candidate] | Problem:
    path = Path(word).expanduser()
    if path.is_dir() and not is_bag(path):
        listed = list(_in_folder(path))
        if listed:
            return listed
        return Problem(word, f'expected images or videos in this folder, found none{_suffixes()}')
    if is_bag(path):
        return Problem(word, f'is a recording: seg-perception bag {word}')
    if path.exists() and not path.is_file():
        camera = f'; a camera is webcam:{path.name[5:]}' if path.name.startswith('video') else ''
        return Problem(
            word,
            f'expected a file or a folder, it is a pipe or a device: an image comes on standard '
            f'input, seg-perception segment - <{word}{camera}',
        )
    if path.exists():
        root, relative = path.absolute().parent, PurePath(path.name)
        return [_Candidate(_kind_of(path), word, Place(root, relative), path)]
    if glob.has_magic(word):
        listed = list(_of_glob(path))
        if listed:
            return listed
        return Problem(word, f'expected images or videos that match, found none{_suffixes()}')
    return Problem(word, 'there is no such file or folder')


def _in_folder(folder: Path) -> Iterator[_Candidate]:
    root = Path(os.path.abspath(folder))  # without .. and ., links kept
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith('.') and not (Path(where) / name / STATE_FOLDER).is_dir()
        )
        for name in sorted(files):
            path = Path(where) / name
            kind = _kind_of_suffix(path)
            if name.startswith('.') or kind is None:
                continue
            place = Place(root, path.relative_to(folder), is_folder=True)
            yield _Candidate(kind, str(path), place, path)


def _of_glob(pattern: Path) -> Iterator[_Candidate]:
    """Files that match; those of a folder that matches are not searched for."""
    fixed = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    base = Path(*fixed) if fixed else Path()
    root = Path(os.path.abspath(base))
    for name in sorted(glob.glob(str(pattern), recursive=True)):
        path = Path(name)
        kind = _kind_of_suffix(path)
        if kind is not None and path.is_file():
            yield _Candidate(kind, name, Place(root, path.relative_to(base)), path)


def _kind_of_suffix(path: Path) -> Kind | None:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return 'photograph'
    return 'video' if suffix in VIDEO_SUFFIXES else None


def _kind_of(path: Path) -> Kind:
    """Of a file that was named: whatever it is called, it is taken for an image or a video."""
    kind = _kind_of_suffix(path)
    if kind is not None:
        return kind
    return 'photograph' if cv2.haveImageReader(str(path)) else 'video'


def _stream_place(word: str) -> Place:
    """A stream is another one every time it is recorded."""
    address = word.partition('://')[2] or word
    plain = re.sub(r'[^A-Za-z0-9.-]+', '_', address).strip('_.')
    time = datetime.now()
    return Place(PurePath('/'), PurePath(f'{plain or "stream"}-{time:%Y%m%d-%H%M%S}.stream'))


def _suffixes() -> str:
    return f' (looked for {" ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))})'


def images_root(inputs: Sequence[Input]) -> Path:
    """The deepest folder that has all the files; the present one where there are none."""
    paths = [os.path.abspath(i.path) for i in inputs if i.path is not None]
    if not paths:
        return Path.cwd()
    return Path(os.path.commonpath([os.path.dirname(path) for path in paths]))


def printable(text: str | PurePath) -> str:
    """The text with what no terminal could show (bytes of names that are no UTF-8) replaced."""
    return os.fsencode(str(text)).decode(errors='replace')
