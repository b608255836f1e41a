"""Loops that paint label images and look for room on them.

Legend: Y/X pixels, S an image's samples along a row (three per pixel), C classes, B pixels or
samples of a block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seg_perception.compiled import compiled
from seg_perception.structures import U8, Labels

PAINT_ONE = 256
"""The opacity of solid colours."""
_BLOCK_PX = 16
_BLOCK = 3 * _BLOCK_PX


@compiled
def paint(
    image_YS: U8,
    labels_YX: Labels,
    palette_C3: U8,
    is_shown_C: npt.NDArray[np.bool_],
    opacity: int,
    out_YS: U8,
) -> None:
    """Blends the colours of classes over an image and outlines their regions with solid ones.

    A pixel is on the outline where one of its four neighbours has another label or lies outside
    of the image.

    Args:
        image_YS: RGB.
        labels_YX: ids; those of C and above are not shown.
        palette_C3: RGB colour of each class.
        is_shown_C: what other classes cover stays as it is.
        opacity: of `PAINT_ONE`.
        out_YS: written to.
    """
    height, width = labels_YX.shape
    num_blocks = width // _BLOCK_PX
    # What colours add to a block of pixels, rounding included.
    tint_CB = np.empty((len(palette_C3), _BLOCK), np.uint16)
    for c in range(len(palette_C3)):
        for b in range(_BLOCK):
            tint_CB[c, b] = palette_C3[c, b % 3] * opacity + PAINT_ONE // 2
    rest = np.uint16(PAINT_ONE - opacity)
    is_edge_X = np.empty(width, np.uint8)
    for y in range(height):
        here_X = labels_YX[y]
        above_X, below_X = labels_YX[max(y - 1, 0)], labels_YX[min(y + 1, height - 1)]
        image_S, out_S = image_YS[y], out_YS[y]
        if y == 0 or y == height - 1:
            is_edge_X[:] = 1
        else:
            for x in range(width):
                is_edge_X[x] = (here_X[x] != above_X[x]) | (here_X[x] != below_X[x])
            left_X, right_X = here_X[: width - 1], here_X[1:]
            is_left_edge_X, is_right_edge_X = is_edge_X[: width - 1], is_edge_X[1:]
            for x in range(width - 1):
                is_left_edge_X[x] |= left_X[x] != right_X[x]
            for x in range(width - 1):
                is_right_edge_X[x] |= left_X[x] != right_X[x]
            is_edge_X[0] = is_edge_X[width - 1] = 1
        for block in range(num_blocks):
            first = block * _BLOCK_PX
            num_edges = 0
            for x in is_edge_X[first : first + _BLOCK_PX]:
                num_edges += x
            if num_edges:
                _paint_pixels(
                    first,
                    first + _BLOCK_PX,
                    here_X,
                    is_edge_X,
                    image_S,
                    palette_C3,
                    tint_CB,
                    is_shown_C,
                    rest,
                    out_S,
                )
                continue
            label = here_X[first]
            image_B, out_B = image_S[3 * first :], out_S[3 * first :]
            if label < len(is_shown_C) and is_shown_C[label]:
                tint_B = tint_CB[label]
                for b in range(_BLOCK):
                    out_B[b] = (np.uint16(image_B[b]) * rest + tint_B[b]) >> 8
            else:
                for b in range(_BLOCK):
                    out_B[b] = image_B[b]
        _paint_pixels(
            num_blocks * _BLOCK_PX,
            width,
            here_X,
            is_edge_X,
            image_S,
            palette_C3,
            tint_CB,
            is_shown_C,
            rest,
            out_S,
        )


@compiled
def _paint_pixels(
    first: int,
    end: int,
    labels_X: Labels,
    is_edge_X: U8,
    image_S: U8,
    palette_C3: U8,
    tint_CB: npt.NDArray[np.uint16],
    is_shown_C: npt.NDArray[np.bool_],
    rest: np.uint16,
    out_S: U8,
) -> None:
    for x in range(first, end):
        label = labels_X[x]
        is_shown = label < len(is_shown_C) and is_shown_C[label]
        for channel in range(3):
            s = 3 * x + channel
            if not is_shown:
                out_S[s] = image_S[s]
            elif is_edge_X[x]:
                out_S[s] = palette_C3[label, channel]
            else:
                out_S[s] = (np.uint16(image_S[s]) * rest + tint_CB[label, channel]) >> 8


@compiled
def largest_squares(labels_YX: Labels, num_classes: int) -> npt.NDArray[np.int64]:
    """The largest square of one class, for each class.

    Args:
        labels_YX: ids; those of ``num_classes`` and above count for nothing.
        num_classes: C.

    Returns:
        (C, 3): side, and column and row of the square's last pixel; a side of 0 for none.
    """
    height, width = labels_YX.shape
    found_C3 = np.zeros((num_classes, 3), np.int64)
    # Side of the largest square that ends at a pixel, for this row and the one above.
    sides_2X = np.zeros((2, width), np.int64)
    for y in range(height):
        side_X, above_X = sides_2X[y % 2], sides_2X[(y + 1) % 2]
        for x in range(width):
            label = labels_YX[y, x]
            side = 1
            if (
                y > 0
                and x > 0
                and label == labels_YX[y - 1, x]
                and label == labels_YX[y, x - 1]
                and label == labels_YX[y - 1, x - 1]
            ):
                side = 1 + min(min(above_X[x], side_X[x - 1]), above_X[x - 1])
            side_X[x] = side
            if label < num_classes and side > found_C3[label, 0]:
                found_C3[label, 0] = side
                found_C3[label, 1] = x
                found_C3[label, 2] = y
    return found_C3
