"""Labels and confidence on a GPU in two kernels, without logits at the image's size.

The first finds winner and probability at every sample of the model's grid, the second fills the
cells between the samples (see `cells`): at once where the four corners have the same winner, else
by interpolating the classes that can win, in registers.

Imported only where a CUDA device is used and Triton (part of torch's CUDA builds) is installed.

Legend: B batch, C classes, H/W model grid, Y/X output pixels, I/J cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from seg_perception.postprocess.cells import CellAxis

_BLOCK_SAMPLES = 32
_BLOCK_CLASSES = 32
_BLOCK_Y, _BLOCK_X = 16, 32

Axis = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def on_device(axis: CellAxis, device: torch.device) -> Axis:
    """Corners, first pixel, number of pixels (int32) and fractions (float32) of an axis' cells."""
    corners, first, num = (
        torch.from_numpy(array).to(device, torch.int32)
        for array in (axis.corners, axis.first_pixel, axis.num_pixels)
    )
    return corners, first, num, torch.from_numpy(axis.fraction_of_pixel).to(device)


def label_images(
    logits_BCHW: torch.Tensor,
    rows: Axis,
    columns: Axis,
    labels_BYX: torch.Tensor,
    confidence_BYX: torch.Tensor | None,
    is_nan: torch.Tensor,
    *,
    temperature: float,
    is_probabilities: bool,
    threshold: float,
    unlabeled_id: int,
) -> None:
    """Writes labels and confidence of a batch; only enqueues work on the current stream.

    Args:
        logits_BCHW: floating point, any strides.
        rows: the cells along the vertical axis, from `on_device`.
        columns: the same along the horizontal axis.
        labels_BYX: uint8 or uint16, contiguous, written whole.
        confidence_BYX: uint8, contiguous, written whole; None where nobody wants it.
        is_nan: int32 (1,); becomes 1 where a logit is NaN.
        temperature: logits are divided by it before the softmax.
        is_probabilities: the scores need no softmax.
        threshold: pixels less sure than this get ``unlabeled_id``.
        unlabeled_id: see ``ClassTable``.
    """
    num_images, num_classes, height, width = logits_BCHW.shape
    num_y, num_x = labels_BYX.shape[1:]
    shape = (num_images, height, width)
    winner_BHW = torch.empty(shape, dtype=torch.int32, device=logits_BCHW.device)
    wants_probability = confidence_BYX is not None or threshold > 0.0
    probability_BHW = torch.empty(
        shape if wants_probability else (1,), dtype=torch.float32, device=logits_BCHW.device
    )
    _winners[(triton.cdiv(height * width, _BLOCK_SAMPLES), num_images)](
        logits_BCHW,
        winner_BHW,
        probability_BHW,
        is_nan,
        num_classes,
        height,
        width,
        *logits_BCHW.stride(),
        1.0 / temperature,
        WANTS_PROBABILITY=wants_probability,
        IS_PROBABILITIES=is_probabilities,
        BLOCK_P=_BLOCK_SAMPLES,
        BLOCK_C=_BLOCK_CLASSES,
    )
    _cells[(len(columns[1]), len(rows[1]), num_images)](
        logits_BCHW,
        winner_BHW,
        probability_BHW,
        labels_BYX,
        labels_BYX if confidence_BYX is None else confidence_BYX,
        *rows,
        *columns,
        num_classes,
        height,
        width,
        num_y,
        num_x,
        *logits_BCHW.stride(),
        threshold,
        unlabeled_id,
        HAS_CONFIDENCE=confidence_BYX is not None,
        HAS_THRESHOLD=threshold > 0.0,
        BLOCK_C=_BLOCK_CLASSES,
        BLOCK_Y=_BLOCK_Y,
        BLOCK_X=_BLOCK_X,
    )


# Compiled anew for no size: a camera that changes its size must not stop the node for seconds.
_jit: Callable[[Callable[..., Any]], Any] = triton.jit(
    do_not_specialize=[
        'num_classes', 'height', 'width', 'num_y', 'num_x', 'stride_b', 'stride_c', 'stride_h',
        'stride_w', 'inverse_temperature', 'threshold', 'unlabeled_id',
    ]
)  # fmt: skip


@triton.jit
def _finite(score):
    """Infinite scores (a class that is masked out) would make NaN of what lies between them."""
    score = tl.where(score != score, -1e30, score)
    return tl.minimum(tl.maximum(score, -1e30), 1e30)


@triton.jit
def _score(at, mask):
    return _finite(tl.load(at, mask=mask, other=0.0).to(tl.float32))


@triton.jit
def _lerp(low, high, fraction):
    """As torch.lerp, which is exact at both ends."""
    step = high - low
    return tl.where(fraction < 0.5, low + fraction * step, high - step * (1.0 - fraction))


@_jit
def _winners(
    logits,
    winner,
    probability,
    is_nan,
    num_classes,
    height,
    width,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    inverse_temperature,
    WANTS_PROBABILITY: tl.constexpr,
    IS_PROBABILITIES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image = tl.program_id(1)
    sample = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = sample < height * width
    row = sample // width
    at = logits + image.to(tl.int64) * stride_b
    at += row * stride_h + (sample - row * width) * stride_w
    best = tl.full((BLOCK_P,), -2e30, tl.float32)
    best_class = tl.zeros((BLOCK_P,), tl.int32)
    total = tl.zeros((BLOCK_P,), tl.float32)
    num_nan = tl.full((), 0, tl.int32)
    for start in range(0, num_classes, BLOCK_C):
        klass = start + tl.arange(0, BLOCK_C)
        mask = inside[:, None] & (klass < num_classes)[None, :]
        raw = tl.load(at[:, None] + klass[None, :] * stride_c, mask=mask, other=0.0)
        raw = raw.to(tl.float32)
        num_nan += tl.sum(tl.sum((raw != raw).to(tl.int32), 1), 0)
        score = tl.where((klass < num_classes)[None, :], _finite(raw), -2e30)
        block_best = tl.max(score, 1)
        block_class = start + tl.argmax(score, 1, tie_break_left=True)
        is_better = block_best > best
        higher = tl.maximum(best, block_best)
        if WANTS_PROBABILITY and not IS_PROBABILITIES:
            # The softmax of the winner is 1 over the sum of these.
            power = tl.exp((score - higher[:, None]) * inverse_temperature)
            power = tl.where((klass < num_classes)[None, :], power, 0.0)
            total = total * tl.exp((best - higher) * inverse_temperature) + tl.sum(power, 1)
        best_class = tl.where(is_better, block_class, best_class)
        best = higher
    out = image * height * width + sample
    tl.store(winner + out, best_class, mask=inside)
    if WANTS_PROBABILITY:
        sure = tl.minimum(tl.maximum(best, 0.0), 1.0) if IS_PROBABILITIES else 1.0 / total
        tl.store(probability + out, sure, mask=inside)
    if num_nan > 0:
        tl.atomic_max(is_nan, 1)


@_jit
def _cells(
    logits,
    winner,
    probability,
    labels,
    confidence,
    corner_row,
    first_y,
    num_rows,
    fraction_y,
    corner_column,
    first_x,
    num_columns,
    fraction_x,
    num_classes,
    height,
    width,
    num_y,
    num_x,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    threshold,
    unlabeled_id,
    HAS_CONFIDENCE: tl.constexpr,
    HAS_THRESHOLD: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    cell_row, cell_column, image = tl.program_id(1), tl.program_id(0), tl.program_id(2)
    rows, columns = tl.load(num_rows + cell_row), tl.load(num_columns + cell_column)
    if rows * columns == 0:  # output pixels lie farther apart than samples
        return
    top, bottom = tl.load(corner_row + cell_row), tl.load(corner_row + cell_row + 1)
    left, right = tl.load(corner_column + cell_column), tl.load(corner_column + cell_column + 1)
    grid = image * height * width
    winner_0 = tl.load(winner + grid + top * width + left)
    winner_1 = tl.load(winner + grid + top * width + right)
    winner_2 = tl.load(winner + grid + bottom * width + left)
    winner_3 = tl.load(winner + grid + bottom * width + right)
    is_contested = (winner_0 != winner_1) | (winner_0 != winner_2) | (winner_0 != winner_3)
    logits += image.to(tl.int64) * stride_b
    at_0 = logits + top * stride_h + left * stride_w
    at_1 = logits + top * stride_h + right * stride_w
    at_2 = logits + bottom * stride_h + left * stride_w
    at_3 = logits + bottom * stride_h + right * stride_w
    floor = tl.full((), -2e30, tl.float32)
    if is_contested:
        # Some class is nowhere in the cell below this: classes that never reach it cannot win.
        for start in range(0, num_classes, BLOCK_C):
            klass = start + tl.arange(0, BLOCK_C)
            known = klass < num_classes
            lowest = _finite(
                tl.load(at_0 + klass * stride_c, mask=known, other=0.0).to(tl.float32)
            )
            score = _finite(tl.load(at_1 + klass * stride_c, mask=known, other=0.0).to(tl.float32))
            lowest = tl.minimum(lowest, score)
            score = _finite(tl.load(at_2 + klass * stride_c, mask=known, other=0.0).to(tl.float32))
            lowest = tl.minimum(lowest, score)
            score = _finite(tl.load(at_3 + klass * stride_c, mask=known, other=0.0).to(tl.float32))
            lowest = tl.where(known, tl.minimum(lowest, score), -2e30)
            floor = tl.maximum(floor, tl.max(lowest, 0))
        # Interpolation rounds.
        floor -= tl.abs(floor) * 1e-5
    first_row, first_column = tl.load(first_y + cell_row), tl.load(first_x + cell_column)
    for y_start in range(0, rows, BLOCK_Y):
        y = y_start + tl.arange(0, BLOCK_Y)
        down = tl.load(fraction_y + first_row + y, mask=y < rows, other=0.0)[:, None]
        for x_start in range(0, columns, BLOCK_X):
            x = x_start + tl.arange(0, BLOCK_X)
            across = tl.load(fraction_x + first_column + x, mask=x < columns, other=0.0)[None, :]
            inside = (y < rows)[:, None] & (x < columns)[None, :]
            label = tl.full((BLOCK_Y, BLOCK_X), 0, tl.int32) + winner_0
            if is_contested:
                best = tl.full((BLOCK_Y, BLOCK_X), -2e30, tl.float32)
                for klass in range(num_classes):
                    score_0 = _score(at_0 + klass * stride_c, True)
                    score_1 = _score(at_1 + klass * stride_c, True)
                    score_2 = _score(at_2 + klass * stride_c, True)
                    score_3 = _score(at_3 + klass * stride_c, True)
                    highest = tl.maximum(
                        tl.maximum(score_0, score_1), tl.maximum(score_2, score_3)
                    )
                    if highest >= floor:
                        score = _lerp(
                            _lerp(score_0, score_2, down), _lerp(score_1, score_3, down), across
                        )
                        is_better = score > best
                        label = tl.where(is_better, klass, label)
                        best = tl.where(is_better, score, best)
            out = image * num_y * num_x + (first_row + y)[:, None] * num_x
            out += first_column + x[None, :]
            if HAS_CONFIDENCE or HAS_THRESHOLD:
                level_0 = tl.load(probability + grid + top * width + left)
                level_1 = tl.load(probability + grid + top * width + right)
                level_2 = tl.load(probability + grid + bottom * width + left)
                level_3 = tl.load(probability + grid + bottom * width + right)
                level = _lerp(_lerp(level_0, level_2, down), _lerp(level_1, level_3, down), across)
                if HAS_THRESHOLD:
                    label = tl.where(level < threshold, unlabeled_id, label)
                if HAS_CONFIDENCE:
                    level = tl.minimum(tl.maximum(level, 0.0), 1.0) * 255.0
                    tl.store(confidence + out, (level + 0.5).to(tl.uint8), mask=inside)
            tl.store(labels + out, label.to(labels.dtype.element_ty), mask=inside)
