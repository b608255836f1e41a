"""Gives pictures the size and encoding that were asked for."""

from __future__ import annotations

import cv2
import numpy as np

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.compressed import decode
from seg_perception.imaging.convert import to_rgb
from seg_perception.sources.pixels import ENCODERS, encode_rgb
from seg_perception.structures import CompressedFrame, Frame

KEEP = 'keep'
"""The encoding that stands for the source's own."""


def check_shape(size_wh: tuple[int, int], encoding: str) -> None:
    """Checks what was asked for before the first picture is there.

    Raises:
        ConfigurationError: one of the sizes is 0 and the other is not, or a negative size, or
            an encoding that cannot be written.
    """
    if min(size_wh) < 0 or (size_wh[0] == 0) != (size_wh[1] == 0):
        raise ConfigurationError(
            f'expected a size of [width, height], both 0 or both positive, got {list(size_wh)}'
        )
    if encoding != KEEP and encoding not in ENCODERS:
        raise ConfigurationError(
            f"expected an encoding of {', '.join((KEEP, *ENCODERS))}, got '{encoding}'"
        )


def shape_frame(
    frame: Frame | CompressedFrame, size_wh: tuple[int, int] = (0, 0), encoding: str = KEEP
) -> Frame:
    """The picture, uncompressed, in the given size and encoding.

    Args:
        frame: any picture.
        size_wh: width and height; (0, 0) for its own. Other proportions stretch the picture.
        encoding: a name in ``ENCODERS``, or ``KEEP``.

    Returns:
        The very same frame where nothing changes. Stamp and frame id are kept.

    Raises:
        ConfigurationError: the source's own encoding cannot be written and would have to be.
        InputError: the picture cannot be decoded.
    """
    raw = decode(frame) if isinstance(frame, CompressedFrame) else frame
    size_wh = (raw.width, raw.height) if size_wh == (0, 0) else size_wh
    target = raw.encoding if encoding == KEEP else encoding
    if size_wh == (raw.width, raw.height) and target == raw.encoding:
        return raw
    if target not in ENCODERS:
        raise ConfigurationError(
            f'a picture of encoding {target} cannot be resized and keep it: set the encoding to '
            f'one of {", ".join(ENCODERS)}'
        )
    rgb = to_rgb(raw)
    if size_wh != (raw.width, raw.height):
        is_smaller = size_wh[0] < raw.width and size_wh[1] < raw.height
        interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
        rgb = np.asarray(cv2.resize(rgb, size_wh, interpolation=interpolation), np.uint8)
    written = encode_rgb(rgb, target)
    return Frame(
        data=written.data,
        height=written.height,
        width=written.width,
        encoding=target,
        step=written.step,
        stamp_ns=raw.stamp_ns,
        frame_id=raw.frame_id,
        camera=raw.camera,
    )
