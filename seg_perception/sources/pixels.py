"""Turns an RGB picture into the bytes that a camera driver would publish.

The opposite way of ``imaging``, for sources that imitate a camera. Y/X are source pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError
from seg_perception.structures import U8, Frame

# BT.601 with limited range, what UVC cameras and video codecs send; the rows give Y, U, V and
# the last column is added. The output is rounded and saturated to 0..255.
_RGB_TO_YUV = np.array(
    [
        [0.256788, 0.504129, 0.097906, 16.0],
        [-0.148223, -0.290993, 0.439216, 128.0],
        [0.439216, -0.367788, -0.071427, 128.0],
    ]
)


def encode_rgb(rgb_YX3: U8, encoding: str) -> Frame:
    """A frame of the given encoding that shows the picture.

    Args:
        rgb_YX3: uint8 of shape (Y, X, 3).
        encoding: a name in ``ENCODERS``; the chroma-subsampled ones need even sizes.

    Raises:
        ConfigurationError: the encoding cannot be written, or not at this size.
    """
    encoder = ENCODERS.get(encoding)
    if encoder is None:
        raise ConfigurationError(
            f"expected an encoding that can be written ({', '.join(ENCODERS)}), got '{encoding}'"
        )
    height, width = rgb_YX3.shape[:2]
    odd_width = width % 2 and encoding.startswith(('yuv', 'nv'))
    if odd_width or (height % 2 and encoding.startswith('nv')):
        raise ConfigurationError(f'expected an even size for {encoding}, got {width}x{height}')
    rows = np.ascontiguousarray(encoder(rgb_YX3))
    return Frame(
        data=rows.reshape(-1).view(np.uint8),
        height=height,
        width=width,
        encoding=encoding,
        step=rows.strides[0],
    )


def _mono16(rgb: U8) -> npt.NDArray[np.uint16]:
    gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)).astype('<u2')
    return gray * np.uint16(257)  # 0..255 onto 0..65535


def _bayer(pattern: str) -> Callable[[U8], U8]:
    """Keeps of each pixel the one colour that a sensor with this filter measures."""

    def encode(rgb: U8) -> U8:
        mosaic = np.empty(rgb.shape[:2], np.uint8)
        for i, color in enumerate(pattern):
            y, x = divmod(i, 2)
            mosaic[y::2, x::2] = rgb[y::2, x::2, 'rgb'.index(color)]
        return mosaic

    return encode


def _yuv(rgb: U8) -> U8:
    return np.asarray(cv2.transform(rgb, _RGB_TO_YUV), np.uint8)


def _mean(values: U8, axis: tuple[int, ...] | int) -> U8:
    return np.asarray(np.rint(values.mean(axis=axis)), np.uint8)


def _yuv422(order: str) -> Callable[[U8], U8]:
    """Packed 4:2:2: two pixels share U and V; ``order`` names the four bytes of a pair."""

    def encode(rgb: U8) -> U8:
        yuv = _yuv(rgb)
        height, width = yuv.shape[:2]
        pairs = yuv.reshape(height, width // 2, 2, 3)
        chroma = _mean(pairs[..., 1:], axis=2)
        planes = {
            '0': pairs[:, :, 0, 0],
            '1': pairs[:, :, 1, 0],
            'u': chroma[..., 0],
            'v': chroma[..., 1],
        }
        return np.stack([planes[name] for name in order], axis=-1).reshape(height, width * 2)

    return encode


def _semi_planar(order: str) -> Callable[[U8], U8]:
    """4:2:0: a plane of Y, then one of U and V by turns at half the size each way."""

    def encode(rgb: U8) -> U8:
        yuv = _yuv(rgb)
        height, width = yuv.shape[:2]
        blocks = yuv.reshape(height // 2, 2, width // 2, 2, 3)
        chroma = _mean(blocks[..., 1:], axis=(1, 3))
        chroma = chroma if order == 'uv' else chroma[..., ::-1]
        return np.concatenate([yuv[..., 0], chroma.reshape(height // 2, width)])

    return encode


ENCODERS: Mapping[str, Callable[[U8], npt.NDArray[np.generic]]] = {
    'rgb8': lambda rgb: rgb.reshape(rgb.shape[0], -1),
    'bgr8': lambda rgb: rgb[..., ::-1].reshape(rgb.shape[0], -1),
    'rgba8': lambda rgb: np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA)).reshape(len(rgb), -1),
    'bgra8': lambda rgb: np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)).reshape(len(rgb), -1),
    'mono8': lambda rgb: np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)),
    'mono16': _mono16,
    'bayer_rggb8': _bayer('rggb'),
    'bayer_bggr8': _bayer('bggr'),
    'bayer_gbrg8': _bayer('gbrg'),
    'bayer_grbg8': _bayer('grbg'),
    'yuv422': _yuv422('u0v1'),
    'yuv422_yuy2': _yuv422('0u1v'),
    'nv12': _semi_planar('uv'),
    'nv21': _semi_planar('vu'),
}
"""The encodings that can be written, each with how."""
