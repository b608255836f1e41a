"""Whether what is timed is right: nothing is measured before its labels are.

Legend: C classes, H/W model grid, Y/X image pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seg_perception.errors import SegPerceptionError
from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.structures import Labels

Array = npt.NDArray[np.float64]

TIE = 1e-3
"""Two classes whose upsampled logits are closer than this, relative to the logits' range, may
both win: single and double precision round differently."""
MAX_TIED_SHARE = 1e-3


class ParityError(SegPerceptionError):
    """What would be timed does not do what it promises."""


def slow_labels(
    logits_CHW: npt.NDArray[np.float32], geometry: ResizeGeometry, *, align_corners: bool
) -> tuple[npt.NDArray[np.int64], Array]:
    """Upsamples the logits bilinearly in double precision, row by row, then takes the argmax.

    Args:
        logits_CHW: on the model's grid.
        geometry: how the image lies in the model's input.
        align_corners: as the model's card says.

    Returns:
        Labels (Y, X), and by how much the winner leads the runner-up (Y, X).
    """
    lows, fractions = zip(
        *(_positions(logits_CHW.shape[1 + a], geometry, a, align_corners) for a in (0, 1)),
        strict=True,
    )
    logits = logits_CHW.astype(np.float64)
    height, width = geometry.source_hw
    labels_YX = np.empty((height, width), np.int64)
    leads_YX = np.empty((height, width))
    right = np.minimum(lows[1] + 1, logits.shape[2] - 1)
    for y in range(height):
        below = min(lows[0][y] + 1, logits.shape[1] - 1)
        row_CW = (
            logits[:, lows[0][y]] * (1.0 - fractions[0][y]) + logits[:, below] * (fractions[0][y])
        )
        row_CX = row_CW[:, lows[1]] * (1.0 - fractions[1]) + row_CW[:, right] * fractions[1]
        labels_YX[y] = row_CX.argmax(0)
        best_2X = np.sort(row_CX, axis=0)[-2:]
        leads_YX[y] = best_2X[-1] - best_2X[0] if len(row_CX) > 1 else np.inf
    return labels_YX, leads_YX


def _positions(
    num_cells: int, geometry: ResizeGeometry, axis: int, align_corners: bool
) -> tuple[npt.NDArray[np.int64], Array]:
    """Cell before each pixel, and how far the pixel is on the way to the next cell."""
    pixels = np.arange(geometry.source_hw[axis], dtype=np.float64)
    scale = geometry.content_hw[axis] / geometry.source_hw[axis]
    in_input = (pixels + 0.5) * scale + geometry.offset_yx[axis] - 0.5
    num_input = geometry.input_hw[axis]
    if align_corners:
        position = in_input * (num_cells - 1) / max(num_input - 1, 1)
    else:
        position = (in_input + 0.5) * num_cells / num_input - 0.5
    position = np.clip(position, 0.0, num_cells - 1)
    low = np.floor(position).astype(np.int64)
    return low, position - low


def check_exact(
    who: str,
    labels_YX: Labels,
    reference_YX: npt.NDArray[np.int64],
    leads_YX: Array,
    logits_CHW: npt.NDArray[np.float32],
) -> float:
    """Asserts labels equal the slow reference wherever that is certain.

    Returns:
        The share of pixels that differ, all of them ties.

    Raises:
        ParityError: they differ.
    """
    if labels_YX.shape != reference_YX.shape:
        raise ParityError(
            f'{who}: expected labels of shape {reference_YX.shape}, got {labels_YX.shape}'
        )
    differs_YX = labels_YX != reference_YX
    is_certain_YX = leads_YX > TIE * np.ptp(logits_CHW)
    num_wrong = int(np.count_nonzero(differs_YX & is_certain_YX))
    share = float(differs_YX.mean())
    if num_wrong or share > MAX_TIED_SHARE:
        raise ParityError(
            f'{who}: expected the argmax of the upsampled logits, got {num_wrong} wrong labels '
            f'and {share:.2%} different ones, most of them {_most_common(labels_YX[differs_YX])} '
            f'instead of {_most_common(reference_YX[differs_YX])}; nothing was timed'
        )
    return share


def _most_common(labels: npt.NDArray[np.integer]) -> int:
    return int(np.bincount(labels).argmax())


def check_nearest(
    who: str, labels_YX: Labels, grid_HW: npt.NDArray[np.integer], min_agreement: float
) -> float:
    """Asserts labels are a smaller label image, enlarged to the nearest cell.

    The plain node promises that. Its own resize of the image differs a little from ours, so
    that some cells may differ.

    Args:
        who: for the message.
        labels_YX: what is checked.
        grid_HW: the smaller label image.
        min_agreement: share of its cells that must agree.

    Returns:
        The share that does.

    Raises:
        ParityError: they are something else.
    """
    (num_rows, num_columns), (height, width) = grid_HW.shape, labels_YX.shape
    row_of = np.arange(height) * num_rows // height
    column_of = np.arange(width) * num_columns // width
    # Of cells that no pixel falls into, nothing can be said.
    rows, first_y = np.unique(row_of, return_index=True)
    columns, first_x = np.unique(column_of, return_index=True)
    cells_HW = np.zeros_like(labels_YX, shape=grid_HW.shape)
    cells_HW[np.ix_(rows, columns)] = labels_YX[np.ix_(first_y, first_x)]
    if not np.array_equal(cells_HW[np.ix_(row_of, column_of)], labels_YX):
        raise ParityError(f'{who}: expected one label per cell; nothing was timed')
    agreement = float((cells_HW == grid_HW)[np.ix_(rows, columns)].mean())
    if agreement < min_agreement:
        raise ParityError(
            f'{who}: expected the argmax of the logits in at least {min_agreement:.0%} of the '
            f'cells, got {agreement:.1%}; nothing was timed'
        )
    return agreement
