"""Names for results: the folders of the inputs are kept, and no two inputs share a name.

A result is called like its input without the suffix (``photo.jpg`` gives ``photo``), below the
folder that was given and that folder's own name: ``holiday/beach/1.jpg`` of the folder
``holiday`` gives ``holiday/beach/1``, of a file given by itself ``1``. Only where two would be
called alike, be it for small and capital letters, they get more of their own name: the suffix
(``photo.jpg``, ``photo.png``), or more of the folders above.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

_MAX_PART_BYTES = 180
"""Of a name; file systems take 255 with all that is added to it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input was found.

    Attributes:
        root: absolute path of the folder that was given, or of the folder of a file that was.
        relative: from there to the file.
        is_folder: whether the folder itself was given; its name is then kept.
    """

    root: PurePath
    relative: PurePath
    is_folder: bool = False


def result_names(places: Sequence[Place]) -> list[str]:
    """A name for the results of each input: a relative path with slashes, without a suffix.

    Args:
        places: of different files.

    Returns:
        In the same order; different ones, also where small and capital letters are the same. Of
        the same inputs in another order each keeps its name.
    """
    kept = _kept_folders(places)
    folders = [kept[place.root, place.is_folder] / place.relative.parent for place in places]
    names = [folder / place.relative.stem for folder, place in zip(folders, places, strict=True)]
    full = [folder / place.relative.name for folder, place in zip(folders, places, strict=True)]
    # A name with its suffix may be another one's name without: photo.jpg and photo.jpg.png.
    while shared := _shared(map(_folded, names)):
        longer = [full[i] if _folded(name) in shared else name for i, name in enumerate(names)]
        if longer == names:
            break
        names = longer
    return [_shortened(name) for name in _numbered(names, places)]


def _kept_folders(places: Sequence[Place]) -> dict[tuple[PurePath, bool], PurePosixPath]:
    """How much of each root is kept: its name where it was given, more where files collide."""
    roots = {(place.root, place.is_folder): int(place.is_folder) for place in places}
    while True:
        kept = {root: PurePosixPath(*_last(root[0], num)) for root, num in roots.items()}
        owners = defaultdict(set)
        for place in places:
            root = place.root, place.is_folder
            owners[_folded(kept[root] / place.relative)].add(root)
        colliding = {root for group in owners.values() if len(group) > 1 for root in group}
        longer = {root for root in colliding if roots[root] < len(_parts(root[0]))}
        if not longer:
            return kept
        for root in longer:
            roots[root] += 1


def _parts(path: PurePath) -> tuple[str, ...]:
    return path.parts[1:] if path.is_absolute() else path.parts


def _last(path: PurePath, num: int) -> tuple[str, ...]:
    parts = _parts(path)
    return parts[len(parts) - min(num, len(parts)) :]


def _folded(path: PurePath) -> str:
    """The same for names that some file systems take for one."""
    return unicodedata.normalize('NFC', path.as_posix()).casefold()


def _shared(values: Iterable[Hashable]) -> set[Hashable]:
    return {value for value, times in Counter(values).items() if times > 1}


def _numbered(names: Sequence[PurePath], places: Sequence[Place]) -> list[PurePath]:
    """Numbers for names that differ in small and capital letters only, in the files' order."""
    result = list(names)
    taken = {_folded(name) for name in names}
    groups = defaultdict(list)
    for i, name in enumerate(names):
        groups[_folded(name)].append(i)
    for members in groups.values():
        members.sort(key=lambda i: (str(places[i].root / places[i].relative), places[i].is_folder))
        for i in members[1:]:
            number = 2
            while _folded(numbered := names[i].with_name(f'{names[i].name}-{number}')) in taken:
                number += 1
            taken.add(_folded(numbered))
            result[i] = numbered
    return result


def _shortened(name: PurePath) -> str:
    return '/'.join(map(_shortened_part, name.parts))


def _shortened_part(part: str) -> str:
    encoded = os.fsencode(part)
    if len(encoded) <= _MAX_PART_BYTES:
        return part
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return encoded[: _MAX_PART_BYTES - 13].decode(errors='ignore') + f'-{digest}'
