"""Normalises small images into a network's input, in one pass from bytes to floats.

Legend: C channels, S an image's samples along a row (three per pixel), H/W network input, Y/X
pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.compiled import compiled
from seg_perception.structures import U8

Floats = npt.NDArray[np.float32]


def normalise(
    pixels: U8, gain_C: Floats, bias_C: Floats, input_CHW: torch.Tensor, top: int, left: int
) -> None:
    """Writes ``pixels * gain + bias`` over a part of an input.

    Args:
        pixels: (Y, X, 3), in the input's channel order.
        gain_C: per channel.
        bias_C: per channel.
        input_CHW: float32 on the CPU; contiguous, or with channels last.
        top: the input's row of the first pixel.
        left: its column.
    """
    height, width, _ = pixels.shape
    # Of both kinds of arrays there are; the loops are compiled for one of them.
    samples_YS = np.ascontiguousarray(pixels).reshape(height, 3 * width).view()
    samples_YS.flags.writeable = False
    if input_CHW.stride(0) == 1:
        # Coefficients as long as a row: three of them in turn are not vectorised.
        gain_S, bias_S = np.tile(gain_C, width), np.tile(bias_C, width)
        rows_HS = input_CHW.permute(1, 2, 0).flatten(1).numpy()
        _fill_rows(samples_YS, gain_S, bias_S, rows_HS, top, 3 * left)
    else:
        _fill_planes(samples_YS, gain_C, bias_C, input_CHW.numpy(), top, left)


@compiled
def _fill_rows(
    samples_YS: U8, gain_S: Floats, bias_S: Floats, rows_HS: Floats, top: int, left: int
) -> None:
    for y in range(len(samples_YS)):
        target_S, samples_S = rows_HS[top + y], samples_YS[y]
        for s in range(len(samples_S)):
            target_S[left + s] = np.float32(samples_S[s]) * gain_S[s] + bias_S[s]


@compiled
def _fill_planes(
    samples_YS: U8, gain_C: Floats, bias_C: Floats, planes_CHW: Floats, top: int, left: int
) -> None:
    one_HW, two_HW, three_HW = planes_CHW[0], planes_CHW[1], planes_CHW[2]
    for y in range(len(samples_YS)):
        samples_S = samples_YS[y]
        one_W, two_W, three_W = one_HW[top + y], two_HW[top + y], three_HW[top + y]
        for x in range(len(samples_S) // 3):
            # All three at once: so the bytes are loaded as vectors.
            one_W[left + x] = np.float32(samples_S[3 * x]) * gain_C[0] + bias_C[0]
            two_W[left + x] = np.float32(samples_S[3 * x + 1]) * gain_C[1] + bias_C[1]
            three_W[left + x] = np.float32(samples_S[3 * x + 2]) * gain_C[2] + bias_C[2]
