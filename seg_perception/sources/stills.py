"""Photographs from files: one, a folder, or a glob."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.sources.source import SourceFrame
from seg_perception.structures import Frame

IMAGE_SUFFIXES = frozenset(
    {'.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp'}
)
_ENCODINGS = {('uint8', 2): 'mono8', ('uint8', 3): 'bgr8'} | {
    ('uint16', 2): 'mono16',
    ('uint16', 3): 'bgr16',
}


class StillsSource:
    """Plays photographs in the order of their names.

    Photographs keep their size, depth and upright position (EXIF); transparency is dropped.

    Raises:
        ConfigurationError: the path matches no image file.
    """

    is_live = False
    intrinsics: Intrinsics | None = None

    def __init__(self, path: Path) -> None:
        self.paths = find_images(path)
        self.description = f'{len(self.paths)} image(s) of {path}'
        # A single photograph is played again and again: decoding it once is enough.
        self._read = lru_cache(maxsize=1)(read_image)

    def frames(self) -> Iterator[SourceFrame]:
        """The photographs, decoded as they are asked for."""
        for path in self.paths:
            yield SourceFrame(self._read(path), name=path.name)

    def close(self) -> None:
        """Forgets the last photograph."""
        self._read.cache_clear()


def is_glob(path: Path) -> bool:
    """Whether the path is a pattern rather than the name of something that is there."""
    return glob.has_magic(str(path)) and not path.exists()


def find_images(path: Path) -> list[Path]:
    """The image files that a file, folder or glob stands for, in the order of their names.

    Raises:
        ConfigurationError: there are none.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        where = f'the folder {path}'
    elif is_glob(path):
        found = sorted(
            p
            for p in map(Path, glob.glob(str(path), recursive=True))
            if p.suffix.lower() in IMAGE_SUFFIXES
        )
        where = f'the files that match {path}'
    else:
        found = [path] if path.is_file() else []
        where = str(path)
    if not found:
        raise ConfigurationError(
            f'expected images ({" ".join(sorted(IMAGE_SUFFIXES))}) in {where}, found none'
        )
    return found


def read_image(path: str | Path) -> Frame:
    """One photograph as bgr8, mono8, or their 16-bit relatives.

    Raises:
        InputError: the file is missing, truncated or no image.
    """
    if not Path(path).is_file():
        raise InputError(f'expected an image file, there is none at {path}')
    try:
        image = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise InputError(f'{path} cannot be decoded: {error.err or error}') from error
    if image is None:
        raise InputError(f'expected an image, {path} cannot be decoded as one')
    encoding = _ENCODINGS.get((image.dtype.name, image.ndim))
    if encoding is None:
        raise InputError(
            f'expected 8- or 16-bit samples, {path} has {image.dtype.name} of shape {image.shape}'
        )
    return Frame.from_array(image, encoding)
