"""Raw image bytes to pixels: check, view without copying, convert to 8-bit.

Shape suffixes: Y/X image pixels.

The results equal cv_bridge's ``toCvCopy(image, 'rgb8')`` for every encoding it converts:

- Bayer is demosaiced bilinearly (OpenCV's default), 16-bit Bayer at 16 bits;
- 16-bit samples become 8-bit as ``round(v * 255 / 65535)``, which is ``round(v / 257)``. A 12-bit
  camera that does not fill its 16 bits therefore looks dark, here as there;
- alpha is dropped, not blended.

Where cv_bridge declines (``8UC3`` and its kin "are not a color format") OpenCV's convention holds:
one channel is grey, three are BGR, four are BGRA.

An encoding outside the table raises EncodingError. Falling back on an installed cv_bridge is the
ROS layer's affair (it alone has the message cv_bridge wants): where ``is_supported`` says no, let
cv_bridge make an ``rgb8`` image of the message and frame that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import EncodingError, ImageLayoutError, ImageTooLargeError
from seg_perception.imaging.encodings import ENCODINGS, Encoding, Layout
from seg_perception.structures import U8, Frame

DEFAULT_MAX_PIXELS = 2**26
"""Largest image that is taken, 67 megapixels: above any camera in use, below what hurts."""

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# cv2.convertScaleAbs computes round(|v * alpha|); the same factor as cv_bridge's.
_SCALE_16_TO_8 = 255.0 / 65535.0


def is_supported(encoding: str) -> bool:
    """Whether an encoding is in the table."""
    return encoding in ENCODINGS


def find_encoding(encoding: str) -> Encoding:
    """The table's line for an encoding.

    Raises:
        EncodingError: it is not in the table; the message lists what is.
    """
    try:
        return ENCODINGS[encoding]
    except KeyError:
        raise EncodingError(
            f'encoding {encoding!r} is not one of: {", ".join(ENCODINGS)}'
        ) from None


def check_frame(frame: Frame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Checks that encoding, size, step and byte count of a frame belong together.

    Takes microseconds: no pixel is looked at and nothing is allocated.

    Args:
        frame: the image as it arrived.
        max_pixels: bound on height * width.

    Raises:
        EncodingError: the encoding is not in the table.
        ImageTooLargeError: the frame claims more pixels than ``max_pixels``.
        ImageLayoutError: the size is zero or does not suit the encoding, the step is too small,
            or the data has another length than size and step say.
    """
    encoding = find_encoding(frame.encoding)
    height, width, step = frame.height, frame.width, frame.step
    name = encoding.name
    if height < 1 or width < 1:
        raise ImageLayoutError(f'expected an image of at least 1x1 px, got {width}x{height} px')
    check_num_pixels(height, width, max_pixels)
    multiple_y, multiple_x = encoding.multiple_hw
    if height % multiple_y or width % multiple_x:
        raise ImageLayoutError(
            f'{name} shares chroma between neighbours: expected a width divisible by '
            f'{multiple_x} and a height divisible by {multiple_y}, got {width}x{height} px'
        )
    if min(height, width) < encoding.min_side:
        raise ImageLayoutError(
            f'{name} needs at least {encoding.min_side}x{encoding.min_side} px to be '
            f'demosaiced, got {width}x{height} px'
        )
    if step < width * encoding.bytes_per_pixel:
        raise ImageLayoutError(
            f'step {step} < {width} px * {encoding.bytes_per_pixel} B ({name}): '
            'step is the length of a whole row in bytes'
        )
    expected = encoding.num_bytes(height, step)
    actual = flat_bytes(frame.data).size
    if actual != expected:
        chroma = ' with its chroma plane' if encoding.chroma_rows_per_row else ''
        raise ImageLayoutError(
            f'expected {expected} B of data for {height} rows of step {step}{chroma} '
            f'({name}), got {actual} B'
        )


def check_num_pixels(height: int, width: int, max_pixels: int) -> None:
    """Refuses an image by the size it claims, before anything is allocated for it.

    Raises:
        ImageTooLargeError: it claims more than ``max_pixels``.
    """
    if height * width > max_pixels:
        raise ImageTooLargeError(
            f'the image claims {width}x{height} px = {height * width} px, more than the bound '
            f'of {max_pixels} px: raise max_pixels if it is real'
        )


def flat_bytes(data: object) -> U8:
    """A message's data as a flat uint8 array over the same memory.

    Raises:
        ImageLayoutError: it is not one contiguous buffer.
    """
    if isinstance(data, Sized) and len(data) == 0:
        return np.empty(0, np.uint8)  # frombuffer wants at least one byte
    try:
        return np.frombuffer(data, np.uint8)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, BufferError) as error:
        raise ImageLayoutError(
            f'expected data as one contiguous buffer of bytes, got {type(data).__name__}: {error}'
        ) from None


def frame_bytes(frame: Frame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> U8:
    """All bytes of a frame, flat, over the same memory.

    Raises:
        InputError: as ``check_frame``.
    """
    check_frame(frame, max_pixels=max_pixels)
    return flat_bytes(frame.data)


def view_frame(frame: Frame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Samples:
    """The samples of a frame as an array over its own bytes; never a copy.

    Returns:
        Shape (Y, X) for one channel (mono, Bayer, and the luma plane of semi-planar images),
        (Y, X, channels) for more; (Y, X, 2) for 4:2:2. uint8, or uint16 in the *frame's* byte
        order. Rows are ``step`` bytes apart; the order of channels is the encoding's. Writable
        only where the frame's bytes are.

    Raises:
        InputError: as ``check_frame``.
    """
    check_frame(frame, max_pixels=max_pixels)
    encoding = ENCODINGS[frame.encoding]
    item = encoding.bits // 8
    dtype = encoding.dtype.newbyteorder('>' if frame.is_bigendian else '<')
    shape: tuple[int, ...] = (frame.height, frame.width)
    strides: tuple[int, ...] = (frame.step, encoding.bytes_per_pixel)
    if encoding.channels > 1:
        shape, strides = (*shape, encoding.channels), (*strides, item)
    return np.ndarray(shape, dtype, flat_bytes(frame.data).data, 0, strides)


def view_chroma(frame: Frame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> U8:
    """The chroma plane of a semi-planar frame (nv12, nv21, nv24) over its own bytes.

    Returns:
        uint8 (Y/2, X/2, 2), for nv24 (Y, X, 2); the pair is (U, V), for nv21 (V, U).

    Raises:
        InputError: as ``check_frame``, and an EncodingError if the frame is not semi-planar.
    """
    check_frame(frame, max_pixels=max_pixels)
    encoding = ENCODINGS[frame.encoding]
    if encoding.layout is not Layout.SEMI_PLANAR:
        raise EncodingError(
            f'{encoding.name} has no separate chroma plane (nv12, nv21, nv24 have)'
        )
    divide_y, divide_x = encoding.multiple_hw
    row_stride = frame.step * 2 // divide_x
    return np.ndarray(
        (frame.height // divide_y, frame.width // divide_x, 2),
        np.uint8,
        flat_bytes(frame.data).data,
        frame.height * frame.step,
        (row_stride, 2, 1),
    )


def to_rgb(frame: Frame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> U8:
    """The frame as 8-bit RGB, shape (Y, X, 3).

    A view of the frame's bytes for rgb8 (rows ``step`` apart, read-only where the bytes are); a
    new C-contiguous array for every other encoding. For bgr8 a view with reversed channels would
    be free to make and some 50 times slower to use than OpenCV's swap, so it is not offered.

    Raises:
        InputError: as ``check_frame``.
    """
    return _to_color(frame, Layout.RGB, max_pixels)


def to_bgr(frame: Frame, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> U8:
    """The frame as 8-bit BGR, shape (Y, X, 3); a view for bgr8 and 8UC3, else as ``to_rgb``."""
    return _to_color(frame, Layout.BGR, max_pixels)


def to_uint8(
    frame: Frame,
    *,
    prefer: Layout = Layout.RGB,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    scratch: U8 | None = None,
) -> tuple[U8, Layout]:
    """The frame's pixels as 8-bit samples in the cheapest order.

    For stages that shrink the image before they care for colour: swapping the channels of the
    small image costs less.

    Args:
        frame: the image as it arrived.
        prefer: ``Layout.RGB`` or ``Layout.BGR``, the order to convert YUV and Bayer to.
        max_pixels: bound on height * width.
        scratch: flat, contiguous memory to convert into instead of allocating, 4 bytes per
            pixel; ignored where it is too short. A caller that converts frame after frame saves
            the page faults of fresh megabytes, which can cost more than the conversion.

    Returns:
        Pixels of shape (Y, X) or (Y, X, 3 or 4), and their order. For packed 8-bit encodings a
        view of the frame's bytes in the order they have; else a C-contiguous array, new or a
        view of ``scratch``, with YUV and Bayer in the preferred order.

    Raises:
        InputError: as ``check_frame``.
    """
    samples = view_frame(frame, max_pixels=max_pixels)
    encoding = ENCODINGS[frame.encoding]
    with _cv2_errors_as_ours(frame):
        if encoding.layout.is_packed:
            return _to_8_bit(samples, scratch), encoding.layout
        return _color_from_coded(frame, samples, encoding, prefer, scratch), prefer


def swap_layout(pixels: U8, source: Layout, target: Layout) -> U8:
    """Packed 8-bit pixels of one order in another, shape (Y, X, 3).

    Args:
        pixels: shape (Y, X) for MONO, (Y, X, 3 or 4) else.
        source: their order, packed.
        target: ``Layout.RGB`` or ``Layout.BGR``.

    Returns:
        ``pixels`` itself where the order is right, else a new C-contiguous array.
    """
    code = _PACKED_CODES[source, target]
    return pixels if code is None else _as_u8(cv2.cvtColor(pixels, code))


def _to_color(frame: Frame, target: Layout, max_pixels: int) -> U8:
    pixels, layout = to_uint8(frame, prefer=target, max_pixels=max_pixels)
    with _cv2_errors_as_ours(frame):
        return swap_layout(pixels, layout, target)


def _color_from_coded(
    frame: Frame, samples: Samples, encoding: Encoding, target: Layout, scratch: U8 | None
) -> U8:
    """Bayer, 4:2:2 and semi-planar samples as 8-bit RGB or BGR."""
    code = encoding.rgb_code if target is Layout.RGB else encoding.bgr_code
    assert code is not None  # only packed encodings can be RGB already
    out = _room_in(scratch, (frame.height, frame.width, 3))
    if encoding.layout is Layout.SEMI_PLANAR:
        chroma = view_chroma(frame, max_pixels=frame.height * frame.width)
        if encoding.multiple_hw == (2, 2):
            return _as_u8(cv2.cvtColorTwoPlane(samples, chroma, code, out))
        return _color_from_nv24(samples, chroma, code, out)
    if encoding.bits == 16:
        return _to_8_bit(cv2.cvtColor(to_native(samples), code), scratch)
    return _as_u8(cv2.cvtColor(samples, code, out))


def _color_from_nv24(luma: Samples, chroma: U8, yuyv_code: int, out: U8 | None) -> U8:
    """Full-resolution chroma by way of YUYV at twice the width.

    OpenCV's 4:4:4 code has other coefficients (full range). A YUYV pair that repeats the luma of
    one pixel is that pixel twice, converted like all the other YUV encodings.
    """
    height, width = luma.shape
    pairs = np.empty((height, width, 4), np.uint8)
    cv2.mixChannels([luma, chroma], [pairs], [0, 0, 1, 1, 0, 2, 2, 3])
    doubled = cv2.cvtColor(pairs.reshape(height, 2 * width, 2), yuyv_code)
    return _as_u8(cv2.resize(doubled, (width, height), out, interpolation=cv2.INTER_NEAREST))


def _to_8_bit(samples: Any, scratch: U8 | None = None) -> U8:
    """8-bit samples as they are, 16-bit ones scaled as cv_bridge scales them."""
    if samples.dtype == np.uint8:
        return _as_u8(samples)
    out = _room_in(scratch, samples.shape)
    return _as_u8(cv2.convertScaleAbs(to_native(samples), out, alpha=_SCALE_16_TO_8))


def _room_in(scratch: U8 | None, shape: tuple[int, ...]) -> U8 | None:
    """An array of this shape over the start of ``scratch``; None where that is too short."""
    num_bytes = math.prod(shape)
    if scratch is None or scratch.size < num_bytes:
        return None
    return scratch[:num_bytes].reshape(shape)


def to_native(samples: Samples) -> Samples:
    """Samples that OpenCV can read in place: native byte order, rows on whole samples."""
    if samples.dtype.isnative and samples.strides[0] % samples.itemsize == 0:
        return samples
    # Only 16-bit samples can be in either order or off their boundary.
    return samples.astype(np.uint16, order='C')


@contextmanager
def _cv2_errors_as_ours(frame: Frame) -> Iterator[None]:
    try:
        yield
    except cv2.error as error:
        raise ImageLayoutError(
            f'OpenCV cannot convert {frame.width}x{frame.height} px of {frame.encoding} '
            f'with step {frame.step}: {error.err or error}'
        ) from error


def _as_u8(array: Any) -> U8:
    """OpenCV's stubs call every result a matrix of anything; these are uint8."""
    result: U8 = array
    return result


_PACKED_CODES: dict[tuple[Layout, Layout], int | None] = {
    (line.layout, target): code
    for line in ENCODINGS.values()
    if line.layout.is_packed
    for target, code in ((Layout.RGB, line.rgb_code), (Layout.BGR, line.bgr_code))
}
