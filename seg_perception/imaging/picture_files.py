"""Photographs and index masks: their files and what is in them.

EXIF orientation is a matter of who made the masks. LabelMe turns a photograph upright before one
draws on it, so its polygons belong to the turned image; index masks made from the stored pixels
do not. Each layout states its default and ``exif_orientation`` overrides it. Only the EXIF data
of JPEG files is looked at.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_perception.errors import ImageTooLargeError, InputError
from seg_perception.imaging.compressed import check_compressed, decode
from seg_perception.imaging.convert import to_rgb
from seg_perception.structures import U8, CompressedFrame, Frame, Labels

IMAGE_SUFFIXES = frozenset({'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'})
MASK_SUFFIXES = frozenset({'.bmp', '.png', '.tif', '.tiff'})

_JPEG, _PNG = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
_ENCODINGS = {
    (1, 'uint8'): 'mono8',
    (3, 'uint8'): 'bgr8',
    (4, 'uint8'): 'bgra8',
    (1, 'uint16'): 'mono16',
    (3, 'uint16'): 'bgr16',
    (4, 'uint16'): 'bgra16',
}
_PNG_KINDS = {2: 'an RGB', 4: 'a grey + alpha', 6: 'an RGBA'}


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror or error}') from None


def decode_image(data: bytes, where: str, *, is_upright: bool, max_pixels: int) -> U8:
    """A photograph as RGB, uint8 of shape (Y, X, 3), the caller's own.

    Grey becomes RGB, 16 bits become 8, alpha is dropped.

    Args:
        data: a file of any of ``IMAGE_SUFFIXES``.
        where: names the file in errors.
        is_upright: turn the pixels as EXIF says; else they stay as they are stored.
        max_pixels: bound on height * width.

    Raises:
        InputError: the data is no image, is damaged or is too large.
    """
    try:
        rgb = to_rgb(_decode(data, where, max_pixels), max_pixels=max_pixels)
    except InputError as error:
        raise _named(error, where) from error
    if is_upright:
        rgb = turn_upright(rgb, exif_orientation(data))
    return np.require(rgb, requirements=['C', 'W'])


def decode_index_mask(data: bytes, where: str, *, max_pixels: int) -> Labels:
    """A mask whose sample values are class ids, uint8 or uint16 of shape (Y, X).

    The indices of a palette PNG are taken, never its colours; samples of 1, 2 and 4 bits keep
    their value.

    Args:
        data: a PNG, BMP or TIFF file.
        where: names the file in errors.
        max_pixels: bound on height * width.

    Raises:
        InputError: the data is damaged, has colours instead of indices, or went through JPEG.
    """
    if data[:2] == _JPEG:
        raise InputError(
            f'{where}: expected an index mask, got a JPEG, whose losses invent ids: save masks '
            'as PNG'
        )
    if data[:8] == _PNG:
        try:
            return _decode_png_indices(data, where, max_pixels)
        except InputError as error:
            raise _named(error, where) from error
    pixels = _imdecode(data, where, max_pixels)
    if pixels.ndim != 2:
        raise _not_indices(where, f'an image of {pixels.shape[2]} channels', pixels)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f'{where}: expected ids of 8 or 16 bits, got {pixels.dtype} samples')
    labels: Labels = pixels
    return labels


def encode_index_mask(labels_YX: Labels, palette_rgb: U8) -> bytes:
    """A PNG whose sample values are class ids; `decode_index_mask` gives them back.

    Ids of 8 bits are indices of a palette, so that viewers show colours; there is no palette for
    16 bits, and such a PNG is grey.

    Args:
        labels_YX: class id per pixel.
        palette_rgb: the colour of every 8-bit value, shape (256, 3); not looked at for 16 bits.

    Source: W3C PNG §11.2 (IHDR, PLTE, IDAT).
    """
    height, width = labels_YX.shape
    is_palette = labels_YX.dtype == np.uint8
    kind, samples_YX = (
        (b'\x08\x03', labels_YX) if is_palette else (b'\x10\x00', labels_YX.astype('>u2'))
    )
    rows_YB = np.zeros((height, 1 + width * samples_YX.itemsize), np.uint8)  # filter 0, samples
    rows_YB[:, 1:] = np.ascontiguousarray(samples_YX).view(np.uint8).reshape(height, -1)
    parts = [
        _PNG,
        _png_chunk(b'IHDR', struct.pack('>II', width, height) + kind + b'\0\0\0'),
        _png_chunk(b'PLTE', palette_rgb.tobytes()) if is_palette else b'',
        _png_chunk(b'IDAT', zlib.compress(rows_YB.tobytes(), 6)),
        _png_chunk(b'IEND', b''),
    ]
    return b''.join(parts)


def decode_color_png(data: bytes, where: str, *, max_pixels: int) -> U8:
    """A PNG of three 8-bit channels as RGB, shape (Y, X, 3), as panoptic masks are stored.

    Raises:
        InputError: it is damaged or has other channels.
    """
    if data[:8] != _PNG or data[24:26] != b'\x08\x02':
        raise InputError(f'{where}: expected an RGB PNG of 8 bits, as COCO panoptic masks are')
    return decode_image(data, where, is_upright=False, max_pixels=max_pixels)


def turn_upright(pixels: U8, orientation: int) -> U8:
    """The pixels turned and mirrored as an EXIF orientation (1 to 8) asks; a view."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def exif_orientation(data: bytes) -> int:
    """The orientation tag of a JPEG, 1 (upright) where it has none that can be read.

    Source: CIPA DC-008 (Exif 2.32) §4.5, §4.6.4.
    """
    position = 2 if data[:2] == _JPEG else len(data)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = (
            data[position + 1],
            int.from_bytes(data[position + 2 : position + 4], 'big'),
        )
        segment = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and segment[:6] == b'Exif\0\0':
            return _orientation_in_tiff(segment[6:])
        if marker == 0xDA:  # the pixels begin
            break
        position += 2 + length
    return 1


def _orientation_in_tiff(tiff: bytes) -> int:
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(f'{order}I', tiff, 4)
        (num_tags,) = struct.unpack_from(f'{order}H', tiff, offset)
        for i in range(num_tags):
            tag, kind, count, value = struct.unpack_from(f'{order}HHIH', tiff, offset + 2 + 12 * i)
            if (tag, kind, count) == (0x0112, 3, 1):
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _decode(data: bytes, where: str, max_pixels: int) -> Frame:
    if data[:2] == _JPEG or data[:8] == _PNG:
        return decode(CompressedFrame(data, ''), max_pixels=max_pixels)
    pixels = _imdecode(data, where, max_pixels)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    encoding = _ENCODINGS.get((channels, pixels.dtype.name))
    if encoding is None:
        raise InputError(
            f'{where}: expected 1, 3 or 4 channels of 8 or 16 bits, got {channels} of '
            f'{pixels.dtype}'
        )
    return Frame.from_array(pixels, encoding)


def _imdecode(data: bytes, where: str, max_pixels: int) -> Any:
    pixels: Any = None
    if data:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise InputError(f'{where}: cannot be decoded: {error.err or error}') from error
    if pixels is None:
        raise InputError(f'{where}: expected an image, its {len(data)} B cannot be decoded as one')
    if pixels.shape[0] * pixels.shape[1] > max_pixels:
        raise ImageTooLargeError(
            f'{where}: {pixels.shape[1]}x{pixels.shape[0]} px are more than the bound of '
            f'{max_pixels} px: raise max_pixels if it is real'
        )
    return pixels


def _decode_png_indices(data: bytes, where: str, max_pixels: int) -> Labels:
    check_compressed(CompressedFrame(data, 'png'), max_pixels=max_pixels)
    depth, color_type = data[24], data[25]
    if color_type in _PNG_KINDS:
        pixels = _imdecode(data, where, max_pixels)
        raise _not_indices(where, f'{_PNG_KINDS[color_type]} PNG', pixels)
    gray: Any = cv2.imdecode(np.frombuffer(_as_gray_png(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if gray is None or gray.ndim != 2:
        raise InputError(f'{where}: cannot be decoded: its pixels are damaged')
    if depth < 8:  # the decoder stretches grey of few bits over 0..255
        gray //= 255 // (2**depth - 1)
    labels: Labels = gray
    return labels


def _as_gray_png(data: bytes) -> bytes:
    """The same pixels, declared to be grey.

    OpenCV turns palette indices into colours, and the way back is lost where two indices share
    one. Indices and grey samples are stored alike (W3C PNG §7.2), so a changed header and no
    palette make the decoder hand them out as they are. Expects a file whose chunks were checked.
    """
    header = data[16:25] + b'\0' + data[26:29]
    parts = [_PNG, _png_chunk(b'IHDR', header)]
    position = len(_PNG)
    while True:
        length, kind = struct.unpack_from('>I4s', data, position)
        end = position + 12 + length
        if kind == b'IDAT':
            parts.append(data[position:end])
        if kind == b'IEND':
            return b''.join([*parts, data[position:end]])
        position = end


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


def _not_indices(where: str, kind: str, pixels: Any) -> InputError:
    flat = pixels.reshape(-1, pixels.shape[2])[:, :3]
    if (flat == flat[:, :1]).all():
        remedy = 'its channels are equal, so save one of them'
    else:
        remedy = f'it has {len(np.unique(flat, axis=0))} colours; save the ids instead of colours'
    return InputError(
        f'{where}: expected one channel of class ids (grey or palette PNG), got {kind}: {remedy}'
    )


def _named(error: InputError, where: str) -> InputError:
    """The same error with the file's name in front, once."""
    message = str(error)
    return error if message.startswith(where) else type(error)(f'{where}: {message}')
