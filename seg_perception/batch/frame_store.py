"""Segmented frames of a video that is not finished: they need not be segmented again.

One file for each video, only appended to: per frame the length and the checksum of what follows,
then the arrays, compressed. Whatever the moment of a kill, the frames before it are whole.

Legend: Y/X pixels.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.errors import OutputError
from seg_perception.structures import ClassTable, ObjectInstance, Objects, Segmentation

_HEAD = struct.Struct('<II')


class FrameStore:
    """The segmentations of a video's first frames.

    Args:
        path: of its file; made where it is not there.
        classes: what the labels mean.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, classes: ClassTable) -> None:
        self._classes = classes
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open('a+b')
        except OSError as error:
            raise _failed(path, error) from error
        self._ends: list[int] = []
        end = 0
        self._file.seek(0)
        while (blob := self._read_blob()) is not None:
            end += _HEAD.size + len(blob)
            self._ends.append(end)
        self.keep(len(self))

    def __len__(self) -> int:
        """How many frames are there."""
        return len(self._ends)

    def keep(self, num: int) -> None:
        """Forgets all but the first frames."""
        self._ends = self._ends[:num]
        self._file.truncate(self._ends[-1] if self._ends else 0)

    def segmentations(self) -> Iterator[Segmentation]:
        """The frames that are there, from the first; nothing is appended meanwhile."""
        for start, end in zip([0, *self._ends], self._ends, strict=False):
            self._file.seek(start + _HEAD.size)
            yield _unpacked(self._file.read(end - start - _HEAD.size), self._classes)

    def append(self, segmentation: Segmentation) -> None:
        """Adds the next frame.

        Raises:
            OutputError: it cannot be written.
        """
        blob = _packed(segmentation)
        try:
            self._file.write(_HEAD.pack(len(blob), zlib.crc32(blob)) + blob)
            self._file.flush()
        except OSError as error:
            raise _failed(self._path, error) from error
        self._ends.append((self._ends[-1] if self._ends else 0) + _HEAD.size + len(blob))

    def remove(self) -> None:
        """Removes the file: the video is finished."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file; harmless when repeated."""
        self._file.close()

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_blob(self) -> bytes | None:
        """What stands at the file's position; None where that is the end or damaged."""
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        blob = self._file.read(length)
        return blob if len(blob) == length and zlib.crc32(blob) == checksum else None


def _packed(segmentation: Segmentation) -> bytes:
    arrays: dict[str, Any] = {'labels': segmentation.labels_YX}
    if segmentation.confidence_YX is not None:
        arrays['confidence'] = segmentation.confidence_YX
    if segmentation.objects is not None:
        items = [dataclasses.asdict(item) for item in segmentation.objects.items]
        arrays['instances'] = segmentation.objects.instances_YX
        arrays['items'] = np.frombuffer(json.dumps(items).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return zlib.compress(stream.getvalue(), 1)


def _unpacked(blob: bytes, classes: ClassTable) -> Segmentation:
    with np.load(io.BytesIO(zlib.decompress(blob)), allow_pickle=False) as arrays:
        objects = None
        if 'items' in arrays:
            items = map(_object, json.loads(arrays['items'].tobytes()))
            objects = Objects(arrays['instances'], tuple(items))
        confidence_YX = arrays.get('confidence')
        return Segmentation(arrays['labels'], confidence_YX, classes, {}, objects=objects)


def _object(fields: dict[str, Any]) -> ObjectInstance:
    """An object as JSON has it: lists instead of tuples."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return ObjectInstance(**values)


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(f'{path}: cannot be written: {error.strerror or error}')
