"""Which class wins at each sample of a grid, by how much, and how probable it is: on the CPU.

Legend: C classes, H/W grid, N its samples, B samples of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from seg_perception.compiled import compiled

Floats = npt.NDArray[np.float32]
ClassIds = npt.NDArray[np.int32]

_ONE, _LEAST, _HUGE = np.float32(1.0), np.float32(-np.inf), 1e30
_BLOCK = 256
# Of IEEE 754 numbers without their sign, larger bits are larger numbers, and these are infinite.
_WITHOUT_SIGN, _INFINITE = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
# Adding it rounds to a whole number, which is then in the lowest bits.
_ROUNDING = np.float32(1.5 * 2.0**23)
_MANTISSA_BITS, _BITS_OF_ONE = np.uint32(23), np.uint32(0x3F800000)
_LOG2_E = np.float32(1.4426950408889634)
_LEAST_EXPONENT = np.float32(-126.0)
# 2**f for f of -0.5 to 0.5: log(2)**n / n!.
_P1, _P2, _P3, _P4, _P5, _P6 = (
    np.float32(value)
    for value in (
        0.6931471806,
        0.2402265070,
        0.0555041087,
        0.0096181291,
        0.0013333558,
        0.000154035,
    )
)


class RankedScores(NamedTuple):
    """The scores of a grid, and what is known of each sample.

    Attributes:
        scores_CN: float32, finite.
        scores_NC: the same.
        winner_N: the class with the best score; of equal ones that of the lowest id.
        lead_N: by how much it leads.
        largest_N: the largest magnitude of a score.
        best_N: the best score.
        has_nan: whether one was not a number, and counts as the least now.
    """

    scores_CN: Floats
    scores_NC: Floats
    winner_N: ClassIds
    lead_N: Floats
    largest_N: Floats
    best_N: Floats
    has_nan: bool = False


def rank(logits_CHW: torch.Tensor) -> RankedScores:
    """Ranks the classes of a grid on the CPU; infinite scores count as huge ones."""
    logits_CHW = logits_CHW.float()
    ranked, is_finite = _ranked(logits_CHW)
    if is_finite:
        return ranked
    # Infinite scores (a class that is masked out) would make NaN of what lies between them.
    finite_CHW = logits_CHW.nan_to_num(nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
    return _ranked(finite_CHW)[0]._replace(has_nan=bool(logits_CHW.isnan().any()))


def _ranked(logits_CHW: torch.Tensor) -> tuple[RankedScores, bool]:
    num_classes, height, width = logits_CHW.shape
    by_sample_HWC = logits_CHW.permute(1, 2, 0)
    # Nothing else transposes as quickly as OpenCV.
    if by_sample_HWC.is_contiguous():
        scores_NC = by_sample_HWC.numpy().reshape(height * width, num_classes)
        scores_CN = np.asarray(cv2.transpose(scores_NC), np.float32)
    else:
        scores_CN = logits_CHW.contiguous().numpy().reshape(num_classes, height * width)
        scores_NC = np.asarray(cv2.transpose(scores_CN), np.float32)
    winner_N = np.empty(height * width, np.int32)
    lead_N, largest_N, best_N = np.empty((3, height * width), np.float32)
    is_finite = _rank(scores_CN, winner_N, lead_N, largest_N, best_N)
    return RankedScores(scores_CN, scores_NC, winner_N, lead_N, largest_N, best_N), is_finite


@compiled
def _rank(
    scores_CN: Floats, winner_N: ClassIds, lead_N: Floats, largest_N: Floats, best_N: Floats
) -> bool:
    """Writes what `RankedScores` says of each sample; returns whether all scores are finite.

    Where they are not, what it writes means nothing.
    """
    num_classes, num_samples = scores_CN.shape
    bits_CN, largest_bits_N = scores_CN.view(np.uint32), largest_N.view(np.uint32)
    second_N = np.empty(num_samples, np.float32)
    for n in range(num_samples):
        best_N[n] = scores_CN[0, n]
        second_N[n] = _LEAST
        largest_bits_N[n] = bits_CN[0, n] & _WITHOUT_SIGN
        winner_N[n] = 0
    for c in range(1, num_classes):
        for n in range(num_samples):
            score, best = scores_CN[c, n], best_N[n]
            second_N[n] = max(second_N[n], min(score, best))
            winner_N[n] = np.int32(c) if score > best else winner_N[n]
            best_N[n] = max(score, best)
            largest_bits_N[n] = max(largest_bits_N[n], bits_CN[c, n] & _WITHOUT_SIGN)
    largest_bits = np.uint32(0)
    for n in range(num_samples):
        lead_N[n] = best_N[n] - second_N[n]
        largest_bits = max(largest_bits, largest_bits_N[n])
    return bool(largest_bits < _INFINITE)


def winning_probability(ranked: RankedScores, temperature: float) -> Floats:
    """The winner's softmax probability at each sample, (N,), right to a few millionths.

    Args:
        ranked: the scores.
        temperature: scores are divided by it first.
    """
    probability_N = np.empty_like(ranked.best_N)
    _winning_probability(
        ranked.scores_CN, ranked.best_N, np.float32(_LOG2_E / temperature), probability_N
    )
    return probability_N


@compiled
def _winning_probability(
    scores_CN: Floats, best_N: Floats, scale: np.float32, probability_N: Floats
) -> None:
    """Writes 1 / sum(2 ** (scale * (score - best))): the best score's own part of the sum is 1.

    Powers of two are put together from their bits, so that all of it runs in vectors.
    """
    num_classes, num_samples = scores_CN.shape
    rounded_B, whole_B = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.uint32)
    part_B, sum_B = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    rounded_bits_B, power_B = rounded_B.view(np.uint32), whole_B.view(np.float32)
    for start in range(0, num_samples, _BLOCK):
        num = min(_BLOCK, num_samples - start)
        best_B = best_N[start : start + num]
        sum_B[:] = np.float32(0.0)
        for c in range(num_classes):
            score_B = scores_CN[c, start : start + num]
            for n in range(num):
                exponent = max((score_B[n] - best_B[n]) * scale, _LEAST_EXPONENT)
                rounded = exponent + _ROUNDING
                rounded_B[n] = rounded
                f = exponent - (rounded - _ROUNDING)
                part_B[n] = _ONE + f * (
                    _P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * (_P5 + f * _P6))))
                )
            for n in range(num):
                whole_B[n] = (rounded_bits_B[n] << _MANTISSA_BITS) + _BITS_OF_ONE
            for n in range(num):
                sum_B[n] += part_B[n] * power_B[n]
        for n in range(num):
            probability_N[start + n] = _ONE / sum_B[n]
