"""What the benchmark's camera sees: the same pictures in every process that asks for them."""

from __future__ import annotations

import cv2
import numpy as np

from seg_perception.benchmarks.null_model import spread_colors
from seg_perception.imaging import encode
from seg_perception.sources.photographs import load_photograph
from seg_perception.sources.pixels import encode_rgb
from seg_perception.structures import U8, CompressedFrame, Frame

NUM_PICTURES = 6
"""Enough that no cache holds them all."""
NUM_REGIONS = 12
_STEP_PX = 8
_JPEG_QUALITY = 90


def pictures(
    size_wh: tuple[int, int], encoding: str, *, is_photograph: bool, num: int = NUM_PICTURES
) -> list[Frame] | list[CompressedFrame]:
    """A camera's pan over a scene, a few pixels from one picture to the next.

    Args:
        size_wh: of each picture, pixels.
        encoding: a name of ``sources.pixels.ENCODERS``, or ``jpeg``.
        is_photograph: an astronaut, for models that know people; else coloured regions.
        num: how many pictures.

    Raises:
        ConfigurationError: no such encoding, or not at this size.
        MissingExtraError: a photograph is wanted and scikit-image is not installed.
    """
    width, height = size_wh
    margin = _STEP_PX * (num - 1)
    make = photograph if is_photograph else regions
    scene_YX3 = make(width + margin, height + margin)
    starts = range(0, _STEP_PX * num, _STEP_PX)
    views = [np.ascontiguousarray(scene_YX3[i : i + height, i : i + width]) for i in starts]
    if encoding != 'jpeg':
        return [encode_rgb(view, encoding) for view in views]
    compressed = [encode(Frame.from_array(view), 'jpeg', _JPEG_QUALITY) for view in views]
    return [CompressedFrame(data, 'rgb8; jpeg compressed bgr8') for data in compressed]


def regions(width: int, height: int) -> U8:
    """``NUM_REGIONS`` plain regions with straight borders and a camera's noise, (Y, X, 3)."""
    rng = np.random.default_rng(4)
    centers_N2 = rng.uniform(0.0, 1.0, (NUM_REGIONS, 2)) * (height, width)
    y, x = np.mgrid[0:height:4, 0:width:4]
    offsets = np.stack([y, x], -1)[:, :, None] - centers_N2
    nearest_YX = (offsets**2).sum(-1).argmin(-1).astype(np.uint8)
    nearest_YX = cv2.resize(nearest_YX, (width, height), interpolation=cv2.INTER_NEAREST)
    colors_N3 = (spread_colors(NUM_REGIONS) * 255.0).astype(np.int16)
    noise_YX3 = rng.normal(0.0, 4.0, (height, width, 3)).astype(np.int16)
    scene_YX3: U8 = np.clip(colors_N3[nearest_YX] + noise_YX3, 0, 255).astype(np.uint8)
    return scene_YX3


def photograph(width: int, height: int) -> U8:
    """The astronaut, cut and enlarged to the size, (Y, X, 3)."""
    whole = load_photograph('astronaut')
    side = whole.shape[0]
    used_h = min(side, round(side * height / width))
    used_w = min(side, round(side * width / height))
    return np.asarray(
        cv2.resize(whole[:used_h, :used_w], (width, height), interpolation=cv2.INTER_CUBIC),
        np.uint8,
    )
