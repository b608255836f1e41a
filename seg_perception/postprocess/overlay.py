"""The picture people look at: the camera image with the classes painted over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import InputError
from seg_perception.imaging import to_rgb
from seg_perception.postprocess.painting import PAINT_ONE, largest_squares, paint
from seg_perception.structures import BACKGROUND_NAMES, U8, ClassTable, Frame, Labels, Objects

_MIN_NAMED_FRACTION = 0.002
_NAMING_SIDE_PX = 90


def draw_overlay(
    frame: Frame,
    labels_YX: Labels,
    classes: ClassTable,
    *,
    opacity: float = 0.5,
    draw_names: bool = True,
    objects: Objects | None = None,
    out: U8 | None = None,
) -> U8:
    """Blends class colours over an image, outlines the regions and names the larger ones.

    Background and unlabelled pixels stay as they are.

    Args:
        frame: the image, which says itself in what order its channels are; resized to the labels
            where their size differs. ``Frame.from_array`` makes one of an array.
        labels_YX: class id per pixel.
        classes: names and colours.
        opacity: 0 leaves the image, 1 paints solid colours.
        draw_names: writes each class's name onto its largest region.
        objects: boxes to draw, of the labels' size; their names and ids stand at the boxes, and
            then not on the regions of their classes.
        out: where to draw, contiguous and of the labels' size; new memory where None.

    Returns:
        An (Y, X, 3) uint8 RGB image of the labels' size, ``out`` where that is given.

    Raises:
        InputError: the frame is not one, or its pixels cannot be used (as ``check_frame``), or the
            opacity is outside [0, 1].
    """
    if not isinstance(frame, Frame):
        raise InputError(
            f'expected a Frame, got {type(frame).__name__}; Frame.from_array(image, encoding) '
            f"makes one of an array: 'rgb8', or 'bgr8' of what cv2.imread gives"
        )
    if not 0.0 <= opacity <= 1.0:
        raise InputError(f'expected an opacity in [0, 1], got {opacity}')
    # How large a frame may be was decided where it came in.
    image_rgb = to_rgb(frame, max_pixels=frame.height * frame.width)
    height, width = labels_YX.shape
    if image_rgb.shape[:2] != (height, width):
        resized = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
        image_rgb = np.asarray(resized, np.uint8)
    overlay = np.empty((height, width, 3), np.uint8) if out is None else out
    is_shown = np.array([name not in BACKGROUND_NAMES for name in classes.names])
    paint(
        np.ascontiguousarray(image_rgb).reshape(height, width * 3),
        _contiguous(labels_YX),
        np.array(classes.colors_rgb, np.uint8),
        is_shown,
        round(opacity * PAINT_ONE),
        overlay.reshape(height, width * 3),
    )
    items = () if objects is None else objects.items
    if draw_names:
        is_shown[list({item.class_id for item in items})] = False
        for class_id, x, y in _places(labels_YX, is_shown):
            _write(overlay, classes.names[class_id], x, y, classes.colors_rgb[class_id])
    for item in items:
        left, top, right, bottom = item.box_xyxy_px
        color_rgb = classes.colors_rgb[item.class_id]
        cv2.rectangle(overlay, (left, top), (right - 1, bottom - 1), color_rgb, 2)
        if draw_names:
            name = f'{classes.names[item.class_id]} {item.id}'
            _write(overlay, name, (left + right) // 2, top, color_rgb)
    return overlay


def _places(labels_YX: Labels, is_named: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Where to write the names of classes: class, x and y of the middle of its largest square.

    Classes without a square of a certain size have no place. Where to write need not be known to
    the pixel, so that few are looked at.
    """
    step = max(1, min(labels_YX.shape) // _NAMING_SIDE_PX)
    coarse_YX = _contiguous(labels_YX[::step, ::step])
    squares = largest_squares(coarse_YX, len(is_named))
    least_side = max(2.0, (_MIN_NAMED_FRACTION * coarse_YX.size) ** 0.5)
    for class_id in np.flatnonzero(is_named & (squares[:, 0] >= least_side)).tolist():
        side, right, bottom = squares[class_id].tolist()
        yield class_id, (right - side // 2) * step, (bottom - side // 2) * step


def _contiguous(labels_YX: Labels) -> Any:
    return np.ascontiguousarray(labels_YX)


def _write(image_rgb: U8, name: str, x: int, y: int, color_rgb: tuple[int, ...]) -> None:
    """Writes on a plate of that colour, centred on x and standing on y; in place."""
    height, width = image_rgb.shape[:2]
    scale = max(0.4, min(height, width) / 900)
    (text_width, text_height), baseline = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = int(np.clip(x - text_width // 2, 2, max(2, width - text_width - 2)))
    bottom = int(np.clip(y, text_height + 2, max(text_height + 2, height - baseline - 2)))
    top_left = (left - 2, bottom - text_height - 2)
    cv2.rectangle(image_rgb, top_left, (left + text_width + 2, bottom + baseline), color_rgb, -1)
    # Black or white, whichever stands out (ITU-R BT.601 luma).
    luma = 0.299 * color_rgb[0] + 0.587 * color_rgb[1] + 0.114 * color_rgb[2]
    text_color = (0, 0, 0) if luma > 140 else (255, 255, 255)
    cv2.putText(
        image_rgb,
        name,
        (left, bottom),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        text_color,
        1,
        cv2.LINE_AA,
    )
