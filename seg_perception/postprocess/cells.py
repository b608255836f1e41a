"""Which classes can win where, between the samples of a model's grid.

A *cell* is what lies between four neighbouring samples; beyond the outer samples, where the grid
is continued by its own border, cells have equal corners. Inside a cell every class's score is
bilinear in its four corners: nowhere above the largest of them, nowhere below the smallest. So
most classes can be ruled out without a look at any pixel.

Legend: C classes, I/J cells, P pairs of a cell and a class that may win in it, K cells with
several such classes, Q corners of a cell (top left, top right, bottom left, bottom right), Y its
pixels along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# Interpolation in float32 errs by less than 2**-19 of the largest corner.
_MARGIN = 2.0**-18
# Corners and centre of a cell as weights of its corners.
_SAMPLES_5Q = np.vstack([np.eye(4), np.full((1, 4), 0.25)]).astype(np.float32)


# Pairs looked at together; their temporary arrays stay small enough for the allocator's cache.
_BLOCK_PAIRS = 4096


class Scratch:
    """Memory for intermediate results, kept from frame to frame.

    Fresh megabytes are given out by the operating system page by page, at more than the cost of
    filling them.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of any content, valid until the next call with this name."""
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._arrays or self._arrays[name].size < num_bytes:
            self._arrays[name] = np.empty(num_bytes, np.uint8)
        return self._arrays[name][:num_bytes].view(dtype).reshape(shape)


@dataclass(frozen=True, slots=True)
class CellAxis:
    """Where the pixels of one axis lie among the cells that any of them lies in.

    Attributes:
        corners: the grid's sample at each cell's start and, last, at the end of the last cell.
        of_pixel: cell of each pixel, never falling.
        first_pixel: of each cell.
        num_pixels: of each cell; 0 where pixels are farther apart than samples.
        fraction_of_pixel: how far each pixel is from its cell's start to its end.
        fraction_YI: the same by pixel of a cell and cell; anything past a cell's last pixel.
    """

    corners: Indices
    of_pixel: Indices
    first_pixel: Indices
    num_pixels: Indices
    fraction_of_pixel: Floats
    fraction_YI: torch.Tensor

    @classmethod
    def of(cls, position: npt.NDArray[np.floating], num_samples: int) -> CellAxis:
        """The cells of pixels at rising positions in a grid of some samples."""
        low = np.clip(np.floor(position), -1, num_samples - 1).astype(np.int64)
        corners = np.arange(low[0], low[-1] + 2).clip(0, num_samples - 1)
        of_pixel = low - low[0]
        num_pixels = np.bincount(of_pixel)
        first_pixel = np.cumsum(num_pixels) - num_pixels
        # Beyond the outer samples both corners are the same, and any fraction is right.
        fraction = (position - low).clip(0.0, 1.0).astype(np.float32)
        fraction_YI = np.zeros((num_pixels.max(), len(num_pixels)), np.float32)
        fraction_YI[np.arange(len(low)) - first_pixel[of_pixel], of_pixel] = fraction
        return cls(
            corners, of_pixel, first_pixel, num_pixels, fraction, torch.from_numpy(fraction_YI)
        )


@dataclass(frozen=True, slots=True)
class ContestedCells:
    """Cells in which several classes may win, most classes first.

    Attributes:
        row_K, column_K: which cells.
        first_K, num_K: each cell's pairs, ``first`` to ``first + num - 1``, by rising class.
        class_P: class of each pair.
        corners_QP: its scores at the cell's corners.
    """

    row_K: Indices
    column_K: Indices
    first_K: Indices
    num_K: Indices
    class_P: Indices
    corners_QP: Floats


def winners_of_cells(
    scores_CHW: Floats, has_pixels_IJ: npt.NDArray[np.bool_], scratch: Scratch
) -> tuple[Indices, ContestedCells | None]:
    """The class of every cell, and the cells where it is not the only one.

    Args:
        scores_CHW: finite scores at the cells' corners; C, I + 1, J + 1.
        has_pixels_IJ: cells without pixels are of no interest.
        scratch: for large intermediate results.

    Returns:
        The class that wins everywhere in a cell, (I, J), any number where cells are contested;
        and the contested cells, if there are any.
    """
    num_classes, num_rows, num_columns = (len(scores_CHW), *has_pixels_IJ.shape)
    extreme_CIJ = _of_corners(np.minimum, scores_CHW, scratch)
    highest_least_IJ = extreme_CIJ.max(0)
    extreme_CIJ = _of_corners(np.maximum, scores_CHW, scratch)
    # A class that nowhere reaches what another nowhere falls below does not win.
    is_candidate_CIJ = scratch.array('is_candidate', extreme_CIJ.shape, np.bool_)
    np.greater_equal(extreme_CIJ, highest_least_IJ, out=is_candidate_CIJ)
    is_candidate_IJC = scratch.array('transposed', (num_rows, num_columns, num_classes), np.bool_)
    np.copyto(is_candidate_IJC, is_candidate_CIJ.transpose(1, 2, 0))
    # Pairs in order of cells, then classes; every cell has at least one.
    pair_P = np.flatnonzero(is_candidate_IJC)
    cell_P = pair_P // num_classes
    num_K = np.bincount(cell_P)
    winner_K = pair_P[np.cumsum(num_K) - num_K] % num_classes
    is_contested_K = (num_K > 1) & has_pixels_IJ.reshape(-1)
    if not is_contested_K.any():
        return winner_K.reshape(num_rows, num_columns), None
    is_contested_P = is_contested_K[cell_P]
    cell_P, pair_P = cell_P[is_contested_P], pair_P[is_contested_P]
    class_P = pair_P - cell_P * num_classes
    row_P = cell_P // num_columns
    # A row of corners is one longer than a row of cells, and there is one row more.
    width = num_columns + 1
    top_left_P = class_P * ((num_rows + 1) * width) + cell_P + row_P
    offset_Q1 = np.array([[0], [1], [width], [width + 1]])
    corners_QP = scores_CHW.reshape(-1).take(top_left_P + offset_Q1)
    num_K = num_K[is_contested_K]
    is_kept_P = np.concatenate(
        [_may_win(corners_QP[:, pairs], num_K[cells]) for cells, pairs in _blocks(num_K)]
    )
    cell_P, class_P = cell_P[is_kept_P], class_P[is_kept_P]
    first_K = np.flatnonzero(np.diff(cell_P, prepend=-1))
    num_K = np.diff(first_K, append=len(cell_P))
    winner_K[cell_P[first_K]] = class_P[first_K]
    order_K = np.argsort(-num_K, kind='stable')[: np.count_nonzero(num_K > 1)]
    first_K = first_K[order_K]
    row_K, column_K = np.divmod(cell_P[first_K], num_columns)
    return winner_K.reshape(num_rows, num_columns), ContestedCells(
        row_K, column_K, first_K, num_K[order_K], class_P, corners_QP.compress(is_kept_P, axis=1)
    )


def _of_corners(function: np.ufunc, scores_CHW: Floats, scratch: Scratch) -> Floats:
    """The smallest or largest of each cell's corners, in ``scratch``."""
    num_classes, height, width = scores_CHW.shape
    rows_CIW = scratch.array('rows', (num_classes, height - 1, width), np.float32)
    function(scores_CHW[:, :-1], scores_CHW[:, 1:], out=rows_CIW)
    cells_CIJ = scratch.array('cells', (num_classes, height - 1, width - 1), np.float32)
    function(rows_CIW[..., :-1], rows_CIW[..., 1:], out=cells_CIJ)
    return cells_CIJ


def _blocks(num_K: Indices) -> Iterator[tuple[slice, slice]]:
    """Slices of cells, and of their pairs, of some thousand pairs each."""
    end_K = np.cumsum(num_K)
    cell, pair = 0, 0
    while cell < len(num_K):
        stop = max(cell + 1, int(np.searchsorted(end_K, pair + _BLOCK_PAIRS)))
        yield slice(cell, stop), slice(pair, int(end_K[stop - 1]))
        cell, pair = stop, int(end_K[stop - 1])


def _may_win(corners_QP: Floats, num_K: Indices) -> npt.NDArray[np.bool_]:
    """Rules out classes that stay below a mixture of two others at all four corners.

    A mixture of two classes, with weights that add up to one, lies below the larger of them, here
    as everywhere in the cell. Which two: one wins where the class comes closest to winning, the
    other where the class is best compared with that one.

    Args:
        corners_QP: scores at the corners.
        num_K: how many pairs each cell has; they follow one another.
    """
    first_K = np.cumsum(num_K) - num_K
    samples_5P = _SAMPLES_5Q @ corners_QP
    best_5P = np.maximum.reduceat(samples_5P, first_K, axis=1).repeat(num_K, axis=1)
    lead_5P = samples_5P - best_5P
    # The winner at each sample, as a pair; the same for all pairs of a cell.
    of_cell_P = np.arange(len(num_K)).repeat(num_K)
    sample, pair = _where(lead_5P == 0.0)
    winner_5K = np.empty((5, len(num_K)), np.int64)
    winner_5K[sample, of_cell_P[pair]] = pair
    one_P = winner_5K[_argmax(lead_5P), of_cell_P]
    one_QP = corners_QP.take(one_P, axis=1)
    below_one_QP = one_QP - corners_QP
    two_QP = corners_QP.take(winner_5K[_argmax(-below_one_QP), of_cell_P], axis=1)
    below_two_QP = two_QP - corners_QP
    # share * below_one + (1 - share) * below_two > 0 at all corners bounds the share.
    slope_QP = below_one_QP - below_two_QP
    with np.errstate(all='ignore'):
        zero_QP = -below_two_QP / slope_QP
        low_P = np.where(slope_QP > 0.0, zero_QP, 0.0).max(0)
        high_P = np.where(slope_QP < 0.0, zero_QP, 1.0).min(0)
        share_P = np.clip(0.5 * (low_P.clip(0.0) + high_P.clip(None, 1.0)), 0.0, 1.0)
        gap_QP = below_two_QP + share_P * slope_QP
    largest_QP = np.maximum(np.maximum(np.abs(one_QP), np.abs(two_QP)), np.abs(corners_QP))
    may_win_P: npt.NDArray[np.bool_] = ~(gap_QP > _MARGIN * largest_QP.max(0)).all(0)
    return may_win_P


def _where(mask_NP: npt.NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """As ``np.nonzero``, several times quicker."""
    flat = np.flatnonzero(mask_NP)
    row = flat // mask_NP.shape[1]
    return row, flat - row * mask_NP.shape[1]


def _argmax(values_NP: Floats) -> Indices:
    """As ``argmax(0)``, several times quicker on long rows."""
    row, column = _where(values_NP == values_NP.max(0))
    result_P = np.empty(values_NP.shape[1], np.int64)
    result_P[column] = row
    return result_P
