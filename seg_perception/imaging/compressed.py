"""JPEG and PNG images: size from the header, completeness, decoding and encoding.

A decoder is made to show what it can of a damaged file: libjpeg fills what is missing with grey
and merely warns. So the file's structure is walked first, in microseconds: the size is bounded
before anything is allocated, and a file that does not reach its end marker is refused. What the
walk cannot see is damage inside the entropy-coded data that leaves all markers in place; a JPEG
carries no checksum. PNG chunks have one, and it is checked.

Sources: ITU-T T.81 (JPEG) annex B, W3C PNG, sensor_msgs/CompressedImage (the format string).
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal, cast

import cv2

from seg_perception.errors import (
    CompressedImageError,
    ConfigurationError,
    EncodingError,
    ImageLayoutError,
)
from seg_perception.imaging.convert import (
    DEFAULT_MAX_PIXELS,
    check_num_pixels,
    flat_bytes,
    to_bgr,
    to_native,
    to_uint8,
    view_frame,
)
from seg_perception.imaging.encodings import ENCODINGS, Layout
from seg_perception.structures import U8, CompressedFrame, Frame

_JPEG_SIGNATURE = b'\xff\xd8'
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_CODECS = {'jpeg': 'jpeg', 'jpg': 'jpeg', 'png': 'png'}

# Start of frame: C0-CF but for DHT (C4), JPG (C8) and DAC (CC).
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EOI, _SOS = 0xD9, 0xDA
# The next marker after entropy-coded data: not a stuffed FF, not fill, not a restart marker.
_NEXT_MARKER = re.compile(rb'\xff([^\x00\xff\xd0-\xd7])', re.DOTALL)
# Each scan of a progressive file costs a pass over the whole image. Encoders make about ten;
# a small file with thousands is an attack.
_MAX_SCANS = 100
# Whole megabytes of empty segments would keep the walk, and all other callbacks, busy for seconds.
_MAX_PARTS = 20_000
_FILL = re.compile(rb'\xff+')

# What OpenCV decodes to, by (bits, channels) and whether colours were stored as red, green, blue.
_DECODED_ENCODINGS = {
    (8, 1): ('mono8', 'mono8'),
    (16, 1): ('mono16', 'mono16'),
    (8, 3): ('bgr8', 'rgb8'),
    (16, 3): ('bgr16', 'rgb16'),
    (8, 4): ('bgra8', 'rgba8'),
    (16, 4): ('bgra16', 'rgba16'),
}


@dataclass(frozen=True, slots=True)
class _Format:
    """The parts of a CompressedImage's format string: ``ORIGINAL; CODEC compressed STORED``."""

    codec: str | None
    original: str
    stored: str


@dataclass(frozen=True, slots=True)
class _Header:
    codec: str
    height: int
    width: int
    num_bytes: int


def check_compressed(
    compressed: CompressedFrame, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[int, int]:
    """Size of a compressed image, from its structure alone; nothing is decoded.

    Args:
        compressed: a JPEG or PNG image. Bytes after the end of the image are ignored: some
            cameras send their whole buffer.
        max_pixels: bound on height * width.

    Returns:
        (height, width) in pixels.

    Raises:
        EncodingError: the format string names a codec other than JPEG and PNG.
        CompressedImageError: the data is neither, is not what the format string says, is
            truncated or is corrupt.
        ImageTooLargeError: it claims more pixels than ``max_pixels``.
    """
    header = _read_header(compressed, _parse_format(compressed.format), max_pixels)
    return header.height, header.width


def decode(compressed: CompressedFrame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Frame:
    """Decodes a compressed image, keeping its channels and bit depth.

    EXIF orientation is ignored: a ROS image is its pixels as they are stored.

    Returns:
        A frame with the same stamp, frame_id and camera and freshly allocated pixels: mono8,
        bgr8, bgra8, or mono16, bgr16, bgra16 from a 16-bit PNG (rgb where the format string says
        that the stored order is rgb; Bayer where it says that a Bayer mosaic was stored).

    Raises:
        InputError: as ``check_compressed``; also if the decoder gives up.
    """
    described = _parse_format(compressed.format)
    header = _read_header(compressed, described, max_pixels)
    data = flat_bytes(compressed.data)[: header.num_bytes]
    try:
        # IMREAD_UNCHANGED keeps depth and channels, and leaves EXIF orientation alone.
        pixels = cast(Any, cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    except cv2.error as error:
        raise CompressedImageError(
            f'corrupt {header.codec} image ({_describe(header)}): {error.err or error}'
        ) from error
    if pixels is None:
        raise CompressedImageError(
            f'the {header.codec} image ({_describe(header)}) cannot be decoded: it is corrupt '
            'or of a kind this OpenCV does not know'
        )
    if pixels.shape[:2] != (header.height, header.width):
        raise CompressedImageError(
            f'the {header.codec} header says {header.width}x{header.height} px and the image '
            f'has {pixels.shape[1]}x{pixels.shape[0]} px'
        )
    return Frame.from_array(
        pixels,
        _decoded_encoding(pixels, described),
        stamp_ns=compressed.stamp_ns,
        frame_id=compressed.frame_id,
        camera=compressed.camera,
    )


def encode(
    frame: Frame,
    format: Literal['jpeg', 'png'] = 'jpeg',  # noqa: A002 (CompressedImage's name for it)
    quality: int = 95,
) -> bytes:
    """Compresses a frame.

    JPEG stores 8-bit grey or colour; PNG also 16-bit and alpha, without loss. Bayer and YUV
    frames are converted to colour first.

    Args:
        frame: any supported encoding.
        format: ``'jpeg'`` or ``'png'``.
        quality: of JPEG, 1 to 100; PNG has none and ignores it.

    Raises:
        InputError: the frame cannot be used, see ``check_frame``.
        ConfigurationError: another format or a quality out of range.
    """
    if format not in ('jpeg', 'png'):
        raise ConfigurationError(f"expected format 'jpeg' or 'png', got {format!r}")
    if not 1 <= quality <= 100:
        raise ConfigurationError(f'expected a JPEG quality from 1 to 100, got {quality}')
    try:
        if format == 'jpeg':
            ok, data = cv2.imencode(
                '.jpg', _pixels_for_jpeg(frame), [cv2.IMWRITE_JPEG_QUALITY, quality]
            )
        else:
            # Level 1 is several times faster than the default and some percent larger.
            ok, data = cv2.imencode(
                '.png', _pixels_for_png(frame), [cv2.IMWRITE_PNG_COMPRESSION, 1]
            )
    except cv2.error as error:
        raise CompressedImageError(
            f'cannot encode {frame.width}x{frame.height} px as {format}: {error.err or error}'
        ) from error
    if not ok:
        raise CompressedImageError(f'cannot encode {frame.width}x{frame.height} px as {format}')
    return data.tobytes()


def _pixels_for_jpeg(frame: Frame) -> U8:
    pixels, layout = to_uint8(frame, prefer=Layout.BGR)
    return pixels if layout is Layout.MONO else to_bgr(frame)


def _pixels_for_png(frame: Frame) -> Any:
    """Grey, BGR or BGRA samples at the depth they have, as OpenCV's encoder wants them."""
    encoding = ENCODINGS.get(frame.encoding)
    if encoding is None or encoding.bits == 8 or not encoding.layout.is_packed:
        return _pixels_for_png_8_bit(frame)
    samples = to_native(view_frame(frame))
    if encoding.layout is Layout.RGB:
        return cv2.cvtColor(samples, cv2.COLOR_RGB2BGR)
    if encoding.layout is Layout.RGBA:
        return cv2.cvtColor(samples, cv2.COLOR_RGBA2BGRA)
    return samples


def _pixels_for_png_8_bit(frame: Frame) -> Any:
    pixels, layout = to_uint8(frame, prefer=Layout.BGR)
    if layout is Layout.RGBA:
        return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)
    if layout is Layout.RGB:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return pixels


def _decoded_encoding(pixels: Any, described: _Format) -> str:
    bits = pixels.dtype.itemsize * 8
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    try:
        as_bgr, as_rgb = _DECODED_ENCODINGS[bits, channels]
    except KeyError:
        raise CompressedImageError(
            f'expected 1, 3 or 4 channels of 8 or 16 bits, the image has {channels} of {bits}'
        ) from None
    original = ENCODINGS.get(described.original)
    if (
        original is not None
        and original.layout is Layout.BAYER
        and not described.stored
        and (channels, bits) == (1, original.bits)
    ):
        return original.name  # the mosaic itself was stored, as compressed_image_transport does
    return as_rgb if described.stored.startswith('rgb') else as_bgr


def _parse_format(text: str) -> _Format:
    """Splits a format string.

    Raises:
        EncodingError: it names a codec other than JPEG and PNG, or a depth image.
    """
    original, separator, rest = text.partition(';')
    if not separator:
        original, rest = '', text
    words = rest.split()
    if not words:
        return _Format(None, original.strip(), '')
    codec = _CODECS.get(words[0].lower())
    if codec is None:
        raise EncodingError(
            f'expected a jpeg or png image, got format {text!r}: choose the compressed '
            "transport with format 'jpeg' or 'png', or the raw transport"
        )
    stored = words[2] if len(words) > 2 and words[1] == 'compressed' else ''
    return _Format(codec, original.strip(), stored.lower())


def _read_header(compressed: CompressedFrame, described: _Format, max_pixels: int) -> _Header:
    try:
        data = flat_bytes(compressed.data).data
    except ImageLayoutError as error:
        raise CompressedImageError(str(error)) from None
    start = bytes(data[:8])
    if start[:2] == _JPEG_SIGNATURE:
        codec = 'jpeg'
    elif start == _PNG_SIGNATURE:
        codec = 'png'
    else:
        raise CompressedImageError(
            f'expected a JPEG (ff d8 …) or PNG (89 50 4e 47 …) image, got {len(data)} B that '
            f'start with {start.hex(" ") or "nothing"}'
        )
    if described.codec not in (None, codec):
        raise CompressedImageError(
            f'format {compressed.format!r} says {described.codec}, the data is a {codec} image'
        )
    walk = _walk_jpeg if codec == 'jpeg' else _walk_png
    return walk(data, max_pixels)


def _walk_jpeg(data: memoryview, max_pixels: int) -> _Header:
    """Follows the markers from SOI to EOI; what lies behind EOI is not looked at."""
    size_hw: tuple[int, int] | None = None
    num_scans = 0
    position = 2
    for _ in range(_MAX_PARTS):
        if position + 2 > len(data):
            raise _truncated('JPEG', len(data), 'its end marker (ff d9)')
        if data[position] != 0xFF:
            raise CompressedImageError(
                f'corrupt JPEG: expected a marker (ff ..) at byte {position}, '
                f'got {data[position]:02x}'
            )
        marker = data[position + 1]
        if marker == 0xFF:  # fill
            filled = _FILL.match(data, position)
            position = filled.end() - 1 if filled else position + 1
            continue
        if marker == _EOI:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # TEM and RSTn stand alone
            position += 2
            continue
        if position + 4 > len(data):
            raise _truncated('JPEG', len(data), 'the length of a segment')
        (length,) = struct.unpack_from('>H', data, position + 2)
        end = position + 2 + length
        if length < 2 or marker in (0x00, 0xD8):
            raise CompressedImageError(
                f'corrupt JPEG: marker {marker:02x} with length {length} at byte {position}'
            )
        if end > len(data):
            raise _truncated('JPEG', len(data), f'a segment that ends at {end}')
        if marker in _SOF_MARKERS:
            if length < 8:
                raise CompressedImageError(f'corrupt JPEG: a frame header of {length} B')
            size_hw = struct.unpack_from('>HH', data, position + 5)
            _check_size('JPEG', size_hw, max_pixels)
        position = end
        if marker == _SOS:
            num_scans += 1
            if size_hw is None or num_scans > _MAX_SCANS:
                problem = 'no size before its pixels' if size_hw is None else 'too many scans'
                raise CompressedImageError(f'corrupt JPEG: it has {problem}')
            found = _NEXT_MARKER.search(data, position)
            if found is None:
                raise _truncated('JPEG', len(data), 'its end marker (ff d9)')
            position = found.start()
    else:
        raise CompressedImageError(f'corrupt JPEG: it has more than {_MAX_PARTS} markers')
    if size_hw is None or num_scans == 0:
        raise CompressedImageError('corrupt JPEG: it ends before any pixels')
    return _Header('jpeg', *size_hw, position + 2)


def _walk_png(data: memoryview, max_pixels: int) -> _Header:
    """Follows the chunks from IHDR to IEND and checks their CRCs."""
    size_hw: tuple[int, int] | None = None
    has_pixels = False
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PARTS):
        if position + 12 > len(data):
            raise _truncated('PNG', len(data), 'its end chunk (IEND)')
        length, kind = struct.unpack_from('>I4s', data, position)
        end = position + 12 + length
        if size_hw is None:
            if kind != b'IHDR' or length != 13:
                raise CompressedImageError(
                    f'corrupt PNG: expected an IHDR chunk of 13 B first, got {kind!r} of '
                    f'{length} B'
                )
            if end > len(data):
                raise _truncated('PNG', len(data), f'a chunk that ends at {end}')
            width, height = struct.unpack_from('>II', data, position + 8)
            size_hw = (height, width)
            _check_size('PNG', size_hw, max_pixels)
        if end > len(data):
            raise _truncated('PNG', len(data), f'a {kind!r} chunk that ends at {end}')
        (stored_crc,) = struct.unpack_from('>I', data, end - 4)
        if zlib.crc32(data[position + 4 : end - 4]) != stored_crc:
            raise CompressedImageError(
                f'corrupt PNG: the checksum of the {kind!r} chunk at byte {position} is wrong'
            )
        has_pixels = has_pixels or kind == b'IDAT'
        position = end
        if kind == b'IEND':
            break
    else:
        raise CompressedImageError(f'corrupt PNG: it has more than {_MAX_PARTS} chunks')
    if not has_pixels:
        raise CompressedImageError('corrupt PNG: it ends before any pixels')
    return _Header('png', *size_hw, position)


def _check_size(codec: str, size_hw: tuple[int, int], max_pixels: int) -> None:
    height, width = size_hw
    if height < 1 or width < 1:
        raise CompressedImageError(f'corrupt {codec}: its header says {width}x{height} px')
    check_num_pixels(height, width, max_pixels)


def _truncated(codec: str, num_bytes: int, missing: str) -> CompressedImageError:
    return CompressedImageError(
        f'truncated {codec}: the data stops after {num_bytes} B, before {missing}'
    )


def _describe(header: _Header) -> str:
    return f'{header.width}x{header.height} px, {header.num_bytes} B'
