"""What the benchmark's camera sees: the same pictures in every process that asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

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
_CHECKERS_HW = (4, 5)
_STEP_PX = 8
_JPEG_QUALITY = 90


def pictures(
    size_wh: tuple[int, int], encoding: str, *, scene: str, num: int = NUM_PICTURES
) -> list[Frame] | list[CompressedFrame]:
    """A camera's pan over a scene, a few pixels from one picture to the next.

    Args:
        size_wh: of each picture, pixels.
        encoding: a name of ``sources.pixels.ENCODERS``, or ``jpeg``.
        scene: a name of ``SCENES``.
        num: how many pictures.

    Raises:
        ConfigurationError: no such encoding, or not at this size.
        MissingExtraError: a photograph is wanted and scikit-image is not installed.
    """
    width, height = size_wh
    margin = _STEP_PX * (num - 1)
    scene_YX3 = SCENES[scene](width + margin, height + margin)
    starts = range(0, _STEP_PX * num, _STEP_PX)
    views = [np.ascontiguousarray(scene_YX3[i : i + height, i : i + width]) for i in starts]
    if encoding != 'jpeg':
        return [encode_rgb(view, encoding) for view in views]
    compressed = [encode(Frame.from_array(view), 'jpeg', _JPEG_QUALITY) for view in views]
    return [CompressedFrame(data, 'rgb8; jpeg compressed bgr8') for data in compressed]


def regions(width: int, height: int) -> U8:
    """``NUM_REGIONS`` plain regions with straight borders and a camera's noise, (Y, X, 3).

    The more classes a null model has, the more of the regions are classes of their own: of its
    cells 2 % have a border with 2 classes, 14 % with 21 and 15 % with 150.
    """
    rng = np.random.default_rng(4)
    centers_N2 = rng.uniform(0.0, 1.0, (NUM_REGIONS, 2)) * (height, width)
    y, x = np.mgrid[0:height:4, 0:width:4]
    offsets = np.stack([y, x], -1)[:, :, None] - centers_N2
    nearest_YX = (offsets**2).sum(-1).argmin(-1).astype(np.uint8)
    nearest_YX = cv2.resize(nearest_YX, (width, height), interpolation=cv2.INTER_NEAREST)
    return _colored(nearest_YX, rng)


def checkers(width: int, height: int) -> U8:
    """Rectangles of two colours with a camera's noise, (Y, X, 3).

    For null models of any number of classes they are two classes, with the same borders.
    """
    y, x = np.mgrid[0:height, 0:width]
    rows, columns = _CHECKERS_HW
    fields_YX = (y * rows // height + x * columns // width) % 2
    return _colored(fields_YX.astype(np.uint8), np.random.default_rng(4))


def _colored(regions_YX: U8, rng: np.random.Generator) -> U8:
    colors_N3 = (spread_colors(NUM_REGIONS) * 255.0).astype(np.int16)
    noise_YX3 = rng.normal(0.0, 4.0, (*regions_YX.shape, 3)).astype(np.int16)
    scene_YX3: U8 = np.clip(colors_N3[regions_YX] + noise_YX3, 0, 255).astype(np.uint8)
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


SCENES: Mapping[str, Callable[[int, int], U8]] = MappingProxyType(
    {'regions': regions, 'checkers': checkers, 'photograph': photograph}
)
"""What can be seen: functions of width and height. Models that know people need a photograph."""
