"""The one table of raw image encodings: what their bytes mean and how OpenCV turns them into RGB.

Names and meanings are those of sensor_msgs/image_encodings.hpp (REP 118 for depth), plus ``nv12``,
which drivers use though that header lacks it. Everything else in ``imaging`` reads this table; a
new encoding is one more line here.

Byte layouts, for an image of Y rows and X columns whose rows are ``step`` bytes apart:

- packed and Bayer: Y rows of X pixels of ``channels`` samples;
- 4:2:2 (``uyvy``, ``yuyv``): Y rows of X two-byte pixels, chroma shared by two neighbours;
- semi-planar: Y rows of luma, then the chroma plane of interleaved pairs. nv12 (U first) and
  nv21 (V first): Y/2 rows, ``step`` bytes apart. nv24 (U first, full resolution): Y rows,
  ``2 * step`` bytes apart. This is V4L2's and libcamera's layout, with ``step`` the luma stride.

YUV is BT.601 in the video range (16–235), as OpenCV and cv_bridge take it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np


class Layout(enum.Enum):
    """How the samples of an image are arranged."""

    MONO = 'mono'
    RGB = 'rgb'
    BGR = 'bgr'
    RGBA = 'rgba'
    BGRA = 'bgra'
    BAYER = 'bayer'
    YUV422 = 'yuv422'
    SEMI_PLANAR = 'semi-planar'

    @property
    def is_packed(self) -> bool:
        """Whether every pixel holds all of its channels, so that pixels need no conversion."""
        return self not in (Layout.BAYER, Layout.YUV422, Layout.SEMI_PLANAR)


@dataclass(frozen=True, slots=True)
class Encoding:
    """One line of the table.

    Attributes:
        name: as in sensor_msgs/Image.encoding.
        layout: how the samples are arranged.
        rgb_code: OpenCV's colour conversion code to RGB; None where the bytes are RGB already.
        bgr_code: the same to BGR.
        bits: 8 or 16 per sample.
        channels: samples per pixel in a row of the image (luma only where it is semi-planar).
        multiple_hw: what height and width must be multiples of, because chroma is shared.
        min_side: the smallest height and width that can be converted.
        chroma_rows_per_row: semi-planar only, bytes of chroma over bytes of luma.
    """

    name: str
    layout: Layout
    rgb_code: int | None
    bgr_code: int | None
    bits: int = 8
    channels: int = 1
    multiple_hw: tuple[int, int] = (1, 1)
    min_side: int = 1
    chroma_rows_per_row: float = 0.0

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Type of one sample in native byte order: uint8 or uint16."""
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype(np.uint16)

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes from one pixel of a row to the next."""
        return self.channels * self.bits // 8

    def num_bytes(self, height: int, step: int) -> int:
        """Length of the data of an image, padding and chroma plane included."""
        return height * step + int(height * step * self.chroma_rows_per_row)


_MONO = (Layout.MONO, cv2.COLOR_GRAY2RGB, cv2.COLOR_GRAY2BGR)
_RGB = (Layout.RGB, None, cv2.COLOR_RGB2BGR)
_BGR = (Layout.BGR, cv2.COLOR_BGR2RGB, None)
_RGBA = (Layout.RGBA, cv2.COLOR_RGBA2RGB, cv2.COLOR_RGBA2BGR)
_BGRA = (Layout.BGRA, cv2.COLOR_BGRA2RGB, cv2.COLOR_BGRA2BGR)
_UYVY = (Layout.YUV422, cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2BGR_UYVY)
_YUYV = (Layout.YUV422, cv2.COLOR_YUV2RGB_YUY2, cv2.COLOR_YUV2BGR_YUY2)

# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's
# first two: rggb is OpenCV's BG. (OpenCV's own COLOR_BayerRGGB2RGB aliases agree.)
_BAYER = {
    'rggb': (Layout.BAYER, cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2BGR),
    'bggr': (Layout.BAYER, cv2.COLOR_BayerRG2RGB, cv2.COLOR_BayerRG2BGR),
    'gbrg': (Layout.BAYER, cv2.COLOR_BayerGR2RGB, cv2.COLOR_BayerGR2BGR),
    'grbg': (Layout.BAYER, cv2.COLOR_BayerGB2RGB, cv2.COLOR_BayerGB2BGR),
}

_TABLE = (
    Encoding('rgb8', *_RGB, channels=3),
    Encoding('bgr8', *_BGR, channels=3),
    Encoding('rgba8', *_RGBA, channels=4),
    Encoding('bgra8', *_BGRA, channels=4),
    Encoding('mono8', *_MONO),
    Encoding('rgb16', *_RGB, bits=16, channels=3),
    Encoding('bgr16', *_BGR, bits=16, channels=3),
    Encoding('rgba16', *_RGBA, bits=16, channels=4),
    Encoding('bgra16', *_BGRA, bits=16, channels=4),
    Encoding('mono16', *_MONO, bits=16),
    # The bare OpenCV types say nothing of colour; these are OpenCV's own conventions for them.
    Encoding('8UC1', *_MONO),
    Encoding('8UC3', *_BGR, channels=3),
    Encoding('8UC4', *_BGRA, channels=4),
    Encoding('16UC1', *_MONO, bits=16),
    Encoding('16UC3', *_BGR, bits=16, channels=3),
    Encoding('16UC4', *_BGRA, bits=16, channels=4),
    # Below 3x3 no pixel has all its neighbours and OpenCV's demosaicing gives black.
    *(
        Encoding(f'bayer_{pattern}{bits}', *codes, bits=bits, min_side=3)
        for bits in (8, 16)
        for pattern, codes in _BAYER.items()
    ),
    Encoding('uyvy', *_UYVY, channels=2, multiple_hw=(1, 2)),
    Encoding('yuv422', *_UYVY, channels=2, multiple_hw=(1, 2)),  # the older name of uyvy
    Encoding('yuyv', *_YUYV, channels=2, multiple_hw=(1, 2)),
    Encoding('yuv422_yuy2', *_YUYV, channels=2, multiple_hw=(1, 2)),  # the older name of yuyv
    Encoding(
        'nv12',
        Layout.SEMI_PLANAR,
        cv2.COLOR_YUV2RGB_NV12,
        cv2.COLOR_YUV2BGR_NV12,
        multiple_hw=(2, 2),
        chroma_rows_per_row=0.5,
    ),
    Encoding(
        'nv21',
        Layout.SEMI_PLANAR,
        cv2.COLOR_YUV2RGB_NV21,
        cv2.COLOR_YUV2BGR_NV21,
        multiple_hw=(2, 2),
        chroma_rows_per_row=0.5,
    ),
    # OpenCV has no 4:4:4 code; convert.py repacks it as YUYV of twice the width.
    Encoding(
        'nv24',
        Layout.SEMI_PLANAR,
        cv2.COLOR_YUV2RGB_YUY2,
        cv2.COLOR_YUV2BGR_YUY2,
        chroma_rows_per_row=2.0,
    ),
)

ENCODINGS: Mapping[str, Encoding] = MappingProxyType({line.name: line for line in _TABLE})
"""Every encoding this package can turn into RGB, by name."""
