"""Images that no camera should send, and what the node has to call them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from seg_perception.imaging import encode
from seg_perception.messages.cdr import write_image
from seg_perception.ros.accounting import DropReason
from seg_perception.structures import Frame

_HUGE_PX = 60_000
_PIXELS_YX3 = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
_STEP_FROM_END = 8
"""An Image ends with its step, the length of its data, and the data."""


@dataclass(frozen=True, slots=True)
class BadMessage:
    """One kind of them.

    Attributes:
        reason: what the node has to drop it as.
        make: the serialised message.
    """

    reason: DropReason
    make: Callable[[], bytes]


def _image(
    *,
    height: int = 48,
    width: int = 64,
    encoding: str = 'rgb8',
    step: int = 192,
    num_bytes: int | None = None,
) -> bytes:
    """A serialised image whose fields are what they are said to be, not what they should be."""
    data = _PIXELS_YX3.tobytes()
    message = write_image(_PIXELS_YX3, encoding, 1, 'camera')
    head, body = bytearray(message[: -len(data)]), data[:num_bytes]
    struct.pack_into('<II', head, len(head) - _STEP_FROM_END, step, len(body))
    # Behind four bytes of encapsulation: stamp, then frame_id with its length and its zero.
    size_at = 4 + 8 + 4 + len('camera') + 1
    size_at += -(size_at - 4) % 4
    struct.pack_into('<II', head, size_at, height, width)
    return bytes(head) + body


def _compressed(text: str, data: bytes) -> bytes:
    def string(value: str) -> bytes:
        octets = value.encode() + b'\0'
        return struct.pack('<I', len(octets)) + octets

    body = struct.pack('<iI', 0, 1) + string('camera')
    body += b'\0' * (-len(body) % 4) + string(text)
    body += b'\0' * (-len(body) % 4) + struct.pack('<I', len(data)) + data
    return b'\x00\x01\x00\x00' + body


def _jpeg() -> bytes:
    return encode(Frame.from_array(_PIXELS_YX3), 'jpeg')


def _huge_png() -> bytes:
    """A PNG whose header, checksum included, claims gigabytes."""
    png = encode(Frame.from_array(_PIXELS_YX3), 'png')
    header = b'IHDR' + struct.pack('>II', _HUGE_PX, _HUGE_PX) + png[24:29]
    return png[:12] + header + struct.pack('>I', zlib.crc32(header)) + png[33:]


_MALFORMED, _UNSUPPORTED = DropReason.MALFORMED, DropReason.UNSUPPORTED

BAD_IMAGES: Mapping[str, BadMessage] = MappingProxyType(
    {
        'noise': BadMessage(_MALFORMED, lambda: b'\x00\x01\x00\x00' + b'\xa5' * 999),
        'not CDR': BadMessage(_MALFORMED, lambda: b'\x77' * 64),
        'truncated': BadMessage(_MALFORMED, lambda: _image()[:500]),
        'short step': BadMessage(_MALFORMED, lambda: _image(step=100)),
        'short data': BadMessage(_MALFORMED, lambda: _image(num_bytes=5000)),
        'no pixels': BadMessage(_MALFORMED, lambda: _image(width=0)),
        'huge': BadMessage(_MALFORMED, lambda: _image(height=_HUGE_PX, width=_HUGE_PX)),
        'odd width': BadMessage(_MALFORMED, lambda: _image(encoding='uyvy', width=63)),
        'unknown encoding': BadMessage(_UNSUPPORTED, lambda: _image(encoding='rgb7')),
        'depth': BadMessage(_UNSUPPORTED, lambda: _image(encoding='32FC1')),
    }
)
BAD_COMPRESSED: Mapping[str, BadMessage] = MappingProxyType(
    {
        'truncated JPEG': BadMessage(_MALFORMED, lambda: _compressed('jpeg', _jpeg()[:-40])),
        'no image': BadMessage(_MALFORMED, lambda: _compressed('jpeg', b'not an image at all')),
        'no bytes': BadMessage(_MALFORMED, lambda: _compressed('png', b'')),
        'huge PNG': BadMessage(_MALFORMED, lambda: _compressed('png', _huge_png())),
        'JPEG called PNG': BadMessage(_MALFORMED, lambda: _compressed('png', _jpeg())),
        'unknown codec': BadMessage(_UNSUPPORTED, lambda: _compressed('h264', _jpeg())),
    }
)


def bad_messages(*, is_compressed: bool) -> Mapping[str, BadMessage]:
    """The table for a transport."""
    return BAD_COMPRESSED if is_compressed else BAD_IMAGES
