"""Serialised images (CDR), read without copying the pixels and written with one copy of them.

rclpy hands out and takes serialised messages as ``bytes``; its own conversions allocate and copy
every image once more than this does. Its ``deserialize_message`` and ``serialize_message`` are
what the tests compare with.

Sources: sensor_msgs/Image and CompressedImage; OMG DDS-XTypes 1.3, 7.4 (XCDR version 1): four
bytes say which encoding follows, then come the fields in order, numbers at multiples of their
own size counted from behind those four bytes; a string is its length with the terminating zero,
then its bytes; a sequence is its length, then its elements.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ImageLayoutError
from seg_perception.image_memory import HEADROOM, memory_of
from seg_perception.structures import U8, CompressedFrame, Frame

NANOSECONDS = 1_000_000_000

_ENCAPSULATION_SIZE = 4
LITTLE_ENDIAN = b'\x00\x01\x00\x00'
_INTEGERS = MappingProxyType(
    {
        octets: (struct.Struct(f'{order}i'), struct.Struct(f'{order}I'))
        for octets, order in {b'\x00\x00': '>', b'\x00\x01': '<'}.items()
    }
)
"""int32 and uint32 by what a message starts with."""


def read_image(buffer: bytes | memoryview, camera: str = '') -> Frame:
    """A serialised sensor_msgs/Image as a frame whose data views the buffer, read-only.

    Only the bounds of the fields are checked; ``imaging.check_frame`` does the rest.

    Raises:
        ImageLayoutError: it is not CDR, or a field reaches beyond its end.
    """
    reader = _Reader(buffer)
    stamp_ns, frame_id = reader.header()
    return Frame(
        height=reader.uint32(),
        width=reader.uint32(),
        encoding=reader.string(),
        is_bigendian=bool(reader.uint8()),
        step=reader.uint32(),
        data=reader.octets(),
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        camera=camera,
    )


def read_compressed_image(buffer: bytes | memoryview, camera: str = '') -> CompressedFrame:
    """A serialised sensor_msgs/CompressedImage as a frame whose data views the buffer.

    Raises:
        ImageLayoutError: it is not CDR, or a field reaches beyond its end.
    """
    reader = _Reader(buffer)
    stamp_ns, frame_id = reader.header()
    return CompressedFrame(
        format=reader.string(),
        data=reader.octets(),
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        camera=camera,
    )


def write_image(
    pixels: npt.NDArray[np.generic], encoding: str, stamp_ns: int, frame_id: str
) -> U8:
    """A serialised sensor_msgs/Image of an array of shape (height, width[, channels]).

    Rows are unpadded; the same bytes as ``serialize_message`` makes on a little-endian machine,
    with zeros where it leaves the padding between fields as it was.

    Returns:
        The message. Where the pixels lie in memory of ``image_memory`` it lies there too, around
        them, until the next message is made of them; else it is a copy.
    """
    start = _start_of_image(pixels.shape, pixels.dtype, encoding, stamp_ns, frame_id)
    memory = memory_of(pixels)
    if memory is None or len(start) > HEADROOM:
        message, written = _message_of(start, pixels.shape, pixels.dtype)
        np.copyto(written, pixels)
        return message
    message = memory[HEADROOM - len(start) :]
    message[: len(start)] = np.frombuffer(start, np.uint8)
    return message


def blank_image(
    shape: tuple[int, ...], dtype: npt.DTypeLike, encoding: str, stamp_ns: int, frame_id: str
) -> tuple[U8, npt.NDArray[Any]]:
    """As `write_image`, of an image that is still to be drawn.

    Returns:
        The message, and a view of its pixels, of any content.
    """
    start = _start_of_image(shape, np.dtype(dtype), encoding, stamp_ns, frame_id)
    return _message_of(start, shape, np.dtype(dtype))


def _start_of_image(
    shape: tuple[int, ...], dtype: np.dtype[Any], encoding: str, stamp_ns: int, frame_id: str
) -> bytes:
    """What comes before the pixels."""
    num_bytes = math.prod(shape) * dtype.itemsize
    sec, nanosec = divmod(stamp_ns, NANOSECONDS)
    start = struct.pack('<iI', sec, nanosec) + _string(frame_id)
    start += _padding(start) + struct.pack('<II', *shape[:2]) + _string(encoding)
    start += struct.pack('?', dtype.newbyteorder('=') != dtype)
    start += _padding(start) + struct.pack('<II', num_bytes // shape[0], num_bytes)
    return LITTLE_ENDIAN + start


def _message_of(
    start: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[U8, npt.NDArray[Any]]:
    message = np.empty(len(start) + math.prod(shape) * dtype.itemsize, np.uint8)
    message[: len(start)] = np.frombuffer(start, np.uint8)
    return message, message[len(start) :].view(dtype).reshape(shape)


@lru_cache
def _string(text: str) -> bytes:
    octets = text.encode() + b'\x00'
    return struct.pack('<I', len(octets)) + octets


def _padding(before: bytes) -> bytes:
    """The zeros that take what follows to a multiple of four."""
    return b'\x00' * (-len(before) % 4)


class _Reader:
    """Takes one field after the other; none from beyond the end."""

    def __init__(self, buffer: bytes | memoryview) -> None:
        start = bytes(buffer[:2])
        integers = _INTEGERS.get(start)
        if integers is None or len(buffer) < _ENCAPSULATION_SIZE:
            raise ImageLayoutError(
                'expected a serialised message (CDR, version 1) that starts with 0000 or 0001, '
                f'got {len(buffer)} B that start with {start.hex() or "nothing"}'
            )
        self._body = memoryview(buffer)[_ENCAPSULATION_SIZE:]
        self._int32, self._uint32 = integers
        self._offset = 0

    def header(self) -> tuple[int, str]:
        """std_msgs/Header as nanoseconds and frame_id."""
        [sec] = self._int32.unpack_from(self._body, self._pass(4, alignment=4))
        return sec * NANOSECONDS + self.uint32(), self.string()

    def uint8(self) -> int:
        return self._body[self._pass(1)]

    def uint32(self) -> int:
        [value] = self._uint32.unpack_from(self._body, self._pass(4, alignment=4))
        return int(value)

    def octets(self) -> memoryview:
        """A sequence of octets, in place."""
        start = self._pass(self.uint32())
        return self._body[start : self._offset]

    def string(self) -> str:
        """As rclpy reads strings: up to the first zero, what is not UTF-8 replaced."""
        text, _, _ = bytes(self.octets()).partition(b'\x00')
        return text.decode(errors='replace')

    def _pass(self, num_bytes: int, alignment: int = 1) -> int:
        """Where a field begins; the next one is looked for behind it."""
        start = self._offset + -self._offset % alignment
        self._offset = start + num_bytes
        if self._offset > len(self._body):
            raise ImageLayoutError(
                f'expected a field of {num_bytes} B at byte {start} of the serialised message, '
                f'which ends after {len(self._body)} B'
            )
        return start
