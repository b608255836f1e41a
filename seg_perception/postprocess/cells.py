"""Fills images from a grid's samples, cell by cell.

A *cell* is what lies between four neighbouring samples; beyond the outer samples, where the grid
is continued by its own border, cells have equal corners. Inside a cell every class's score is
bilinear in its four corners: nowhere above the largest of them, nowhere below the smallest. So
most cells have one winner, and in the others most classes can be ruled out without a look at any
pixel.

Legend: C classes, H/W grid, N its samples, I/J cells, Q corners of a cell (top left, top right,
bottom left, bottom right), K classes that may win in a cell, Y/X pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from seg_perception.compiled import compiled
from seg_perception.postprocess.ranking import ClassIds, Floats, RankedScores
from seg_perception.structures import U8

Indices = npt.NDArray[np.int64]

_ZERO, _HALF, _ONE, _LEVELS = (np.float32(value) for value in (0.0, 0.5, 1.0, 255.0))
_LEAST = np.float32(-np.inf)
# Interpolation in float32 errs by less than 2**-19 of the largest corner.
_MARGIN = np.float32(2.0**-18)
_LANES = 32


class CellAxis(NamedTuple):
    """Where the pixels of one axis lie among the cells that any of them lies in.

    Attributes:
        corners: the grid's sample at each cell's start and, last, at the end of the last cell.
        first_pixel: of each cell.
        num_pixels: of each cell; 0 where pixels are farther apart than samples.
        fraction_of_pixel: how far each pixel is from its cell's start to its end.
    """

    corners: Indices
    first_pixel: Indices
    num_pixels: Indices
    fraction_of_pixel: Floats

    @classmethod
    def of(cls, position: npt.NDArray[np.floating], num_samples: int) -> CellAxis:
        """The cells of pixels at rising positions in a grid of some samples."""
        low = np.clip(np.floor(position), -1, num_samples - 1).astype(np.int64)
        corners = np.arange(low[0], low[-1] + 2).clip(0, num_samples - 1)
        num_pixels = np.bincount(low - low[0])
        # Beyond the outer samples both corners are the same, and any fraction is right.
        fraction = (position - low).clip(0.0, 1.0).astype(np.float32)
        return cls(corners, np.cumsum(num_pixels) - num_pixels, num_pixels, fraction)


def fill_labels(
    ranked: RankedScores,
    rows: CellAxis,
    columns: CellAxis,
    width: int,
    labels_YX: npt.NDArray[np.uint8] | npt.NDArray[np.int32],
) -> None:
    """Writes the class with the best score at every pixel; ties go to the lower id.

    Scores are interpolated as ``a + f * (b - a)``, along columns first, in float32.

    Args:
        ranked: the grid's scores.
        rows: where the rows of pixels lie.
        columns: where their columns lie.
        width: of the grid.
        labels_YX: written to.
    """
    _fill_labels(
        ranked.scores_NC,
        ranked.winner_N,
        ranked.lead_N,
        ranked.largest_N,
        rows,
        columns,
        width,
        labels_YX,
    )


@compiled
def _fill_labels(
    scores_NC: Floats,
    winner_N: ClassIds,
    lead_N: Floats,
    largest_N: Floats,
    rows: CellAxis,
    columns: CellAxis,
    width: int,
    labels_YX: npt.NDArray[np.uint8] | npt.NDArray[np.int32],
) -> None:
    """Fills each cell with its winner, and contested ones with the best of several classes."""
    num_classes, num_columns = scores_NC.shape[1], len(columns.num_pixels)
    sample_Q = np.empty(4, np.int64)
    margin_J = np.empty(num_columns, np.float32)
    is_contested_J = np.empty(num_columns, np.bool_)
    class_K = np.empty(num_classes, np.int32)
    corner_QK = np.empty((4, num_classes), np.float32)
    side_2K = np.empty((2, num_classes), np.float32)
    is_out_K = np.empty(num_classes, np.bool_)
    for i in range(len(rows.num_pixels)):
        first_y, num_y = rows.first_pixel[i], rows.num_pixels[i]
        if num_y == 0:
            continue
        top_N, bottom_N = rows.corners[i] * width, rows.corners[i + 1] * width
        # As if nothing was contested: one row of pixels, and its copies.
        for j in range(num_columns):
            left, right = columns.corners[j], columns.corners[j + 1]
            one, two, three, four = top_N + left, top_N + right, bottom_N + left, bottom_N + right
            winner = winner_N[one]
            margin_J[j] = _MARGIN * max(
                max(largest_N[one], largest_N[two]), max(largest_N[three], largest_N[four])
            )
            lead = min(min(lead_N[one], lead_N[two]), min(lead_N[three], lead_N[four]))
            is_contested_J[j] = (
                (winner != winner_N[two])
                | (winner != winner_N[three])
                | (winner != winner_N[four])
                | (lead <= margin_J[j])
            )
            first_x = columns.first_pixel[j]
            for x in range(first_x, first_x + columns.num_pixels[j]):
                labels_YX[first_y, x] = winner
        for y in range(first_y + 1, first_y + num_y):
            labels_YX[y] = labels_YX[first_y]
        for j in range(num_columns):
            first_x, num_x = columns.first_pixel[j], columns.num_pixels[j]
            if not is_contested_J[j] or num_x == 0:
                continue
            left, right = columns.corners[j], columns.corners[j + 1]
            sample_Q[0], sample_Q[1] = top_N + left, top_N + right
            sample_Q[2], sample_Q[3] = bottom_N + left, bottom_N + right
            num = _candidates(scores_NC, sample_Q, margin_J[j], class_K, corner_QK)
            if num > 2:
                num = _unmixed(
                    scores_NC, winner_N, sample_Q, margin_J[j], num, class_K, corner_QK, is_out_K
                )
            _fill_cell(
                num,
                class_K,
                corner_QK,
                margin_J[j],
                (first_y, first_y + num_y),
                (first_x, num_x),
                rows.fraction_of_pixel,
                columns.fraction_of_pixel,
                side_2K,
                labels_YX,
            )


@compiled
def _candidates(
    scores_NC: Floats, sample_Q: Indices, margin: np.float32, class_K: ClassIds, corner_QK: Floats
) -> int:
    """Finds the classes that somewhere reach what another nowhere falls below.

    Args:
        scores_NC: of the grid's samples.
        sample_Q: the cell's corners among them.
        margin: what rounding may change a score by.
        class_K: written to, the classes by rising id.
        corner_QK: written to, their scores at the corners.

    Returns:
        How many they are.
    """
    one_C, two_C = scores_NC[sample_Q[0]], scores_NC[sample_Q[1]]
    three_C, four_C = scores_NC[sample_Q[2]], scores_NC[sample_Q[3]]
    bound = _LEAST
    for c in range(len(one_C)):
        bound = max(bound, min(min(one_C[c], two_C[c]), min(three_C[c], four_C[c])))
    bound -= margin
    num = 0
    for c in range(len(one_C)):
        if max(max(one_C[c], two_C[c]), max(three_C[c], four_C[c])) >= bound:
            class_K[num] = c
            corner_QK[0, num], corner_QK[1, num] = one_C[c], two_C[c]
            corner_QK[2, num], corner_QK[3, num] = three_C[c], four_C[c]
            num += 1
    return num


@compiled
def _unmixed(
    scores_NC: Floats,
    winner_N: ClassIds,
    sample_Q: Indices,
    margin: np.float32,
    num: int,
    class_K: ClassIds,
    corner_QK: Floats,
    is_out_K: npt.NDArray[np.bool_],
) -> int:
    """Rules out classes that stay below a mixture of two others at all four corners.

    A mixture of two classes, with weights that add up to one, lies below the larger of them, here
    as everywhere in the cell. Tried are those that win at the corners. Arguments and result are
    as in `_candidates`, but ``class_K`` and ``corner_QK`` are read too.
    """
    is_out_K[:num] = False
    low_K, high_K = np.empty(num, np.float32), np.empty(num, np.float32)
    for one_q in range(3):
        for two_q in range(one_q + 1, 4):
            one, two = winner_N[sample_Q[one_q]], winner_N[sample_Q[two_q]]
            if one == two:
                continue
            # share * (one - score) + (1 - share) * (two - score) > 0 bounds the share, per corner.
            low_K[:] = _ZERO
            high_K[:] = _ONE
            for q in range(4):
                two_score = scores_NC[sample_Q[q], two]
                slope = scores_NC[sample_Q[q], one] - two_score
                if slope > _ZERO:
                    for k in range(num):
                        low_K[k] = max(low_K[k], (corner_QK[q, k] - two_score) / slope)
                elif slope < _ZERO:
                    for k in range(num):
                        high_K[k] = min(high_K[k], (corner_QK[q, k] - two_score) / slope)
            for k in range(num):
                low_K[k] = _HALF * (min(low_K[k], _ONE) + max(high_K[k], _ZERO))
                high_K[k] = -_LEAST
            for q in range(4):
                two_score = scores_NC[sample_Q[q], two]
                slope = scores_NC[sample_Q[q], one] - two_score
                for k in range(num):
                    mixture = two_score + low_K[k] * slope
                    high_K[k] = min(high_K[k], mixture - corner_QK[q, k])
            for k in range(num):
                is_out_K[k] |= high_K[k] > margin
    num_left = 0
    for k in range(num):
        if not is_out_K[k]:
            class_K[num_left] = class_K[k]
            for q in range(4):
                corner_QK[q, num_left] = corner_QK[q, k]
            num_left += 1
    return num_left


@compiled
def _fill_cell(
    num: int,
    class_K: ClassIds,
    corner_QK: Floats,
    margin: np.float32,
    y_range: tuple[int, int],
    x_start: tuple[int, int],
    fraction_Y: Floats,
    fraction_X: Floats,
    side_2K: Floats,
    labels_YX: npt.NDArray[np.uint8] | npt.NDArray[np.int32],
) -> None:
    """Writes the best of the first ``num`` classes at each pixel of a cell."""
    first_x, num_x = x_start
    # Whole vectors only: what is left over would take as long as all the rest.
    num_padded = -(-num_x // _LANES) * _LANES
    padded_X = np.zeros(num_padded, np.float32)
    padded_X[:num_x] = fraction_X[first_x : first_x + num_x]
    best_X, winner_X = np.empty(num_padded, np.float32), np.empty(num_padded, np.int32)
    for y in range(y_range[0], y_range[1]):
        fraction = fraction_Y[y]
        bound = _LEAST
        for k in range(num):
            side_2K[0, k] = corner_QK[0, k] + fraction * (corner_QK[2, k] - corner_QK[0, k])
            side_2K[1, k] = corner_QK[1, k] + fraction * (corner_QK[3, k] - corner_QK[1, k])
            bound = max(bound, min(side_2K[0, k], side_2K[1, k]))
        bound -= margin
        best_X[:] = _LEAST
        for k in range(num):
            left, step, this_class = side_2K[0, k], side_2K[1, k] - side_2K[0, k], class_K[k]
            # As for whole cells: out is what nowhere reaches what another is everywhere.
            if max(left, side_2K[1, k]) < bound:
                continue
            for x in range(num_padded):
                score = left + padded_X[x] * step
                winner_X[x] = this_class if score > best_X[x] else winner_X[x]
                best_X[x] = max(score, best_X[x])
        labels_X = labels_YX[y, first_x : first_x + num_x]
        for x in range(num_x):
            labels_X[x] = winner_X[x]


@compiled
def fill_levels(values_HW: Floats, rows: CellAxis, columns: CellAxis, levels_YX: U8) -> None:
    """Writes values of 0 to 1, interpolated bilinearly, as whole levels of 0 to 255.

    Args:
        values_HW: of the grid's samples.
        rows: where the rows of pixels lie.
        columns: where their columns lie.
        levels_YX: written to.
    """
    lines_2X = np.empty((2, levels_YX.shape[1]), np.float32)
    for i in range(len(rows.num_pixels)):
        first_y, num_y = rows.first_pixel[i], rows.num_pixels[i]
        if num_y == 0:
            continue
        for side in range(2):
            values_W = values_HW[rows.corners[i + side]]
            for j in range(len(columns.num_pixels)):
                start = _LEVELS * values_W[columns.corners[j]]
                step = _LEVELS * values_W[columns.corners[j + 1]] - start
                first_x = columns.first_pixel[j]
                for x in range(first_x, first_x + columns.num_pixels[j]):
                    lines_2X[side, x] = start + columns.fraction_of_pixel[x] * step
        for x in range(len(lines_2X[0])):
            lines_2X[1, x] -= lines_2X[0, x]
            lines_2X[0, x] += _HALF  # rounds where it is cut off below
        for y in range(first_y, first_y + num_y):
            fraction = rows.fraction_of_pixel[y]
            for x in range(len(lines_2X[0])):
                level = lines_2X[0, x] + fraction * lines_2X[1, x]
                levels_YX[y, x] = np.uint8(np.int32(level))
