"""The batch that goes into a model: checked, and filled up where a file fixes its count."""

from __future__ import annotations

import torch

from seg_perception.errors import InferenceError
from seg_perception.imaging.quantise import Quantisation


def check_batch(
    batch_B3HW: torch.Tensor,
    model: str,
    device: torch.device,
    input_hw_fixed: tuple[int, int] | None,
    max_batch: int | None,
    quantisation: Quantisation | None = None,
) -> None:
    """Checks what goes into a model before a library says it in its own words.

    Raises:
        InferenceError: another device, shape, size or batch than the model takes.
    """
    shape = tuple(batch_B3HW.shape)
    is_stored = quantisation is not None and batch_B3HW.dtype == getattr(torch, quantisation.dtype)
    is_right = batch_B3HW.is_floating_point() or is_stored
    if len(shape) != 4 or shape[1] != 3 or 0 in shape or not is_right:
        raise InferenceError(
            f'{model}: expected a floating-point batch of shape (B, 3, H, W), got '
            f'{batch_B3HW.dtype} {shape}'
        )
    if batch_B3HW.device.type != device.type:
        raise InferenceError(f'{model}: expected input on {device}, got {batch_B3HW.device}')
    if input_hw_fixed is not None and shape[2:] != input_hw_fixed:
        raise InferenceError(
            f'{model}: expected input of {input_hw_fixed[0]}x{input_hw_fixed[1]} px (height x '
            f'width, fixed in the file), got {shape[2]}x{shape[3]}'
        )
    if max_batch is not None and shape[0] > max_batch:
        raise InferenceError(
            f'{model}: expected at most {max_batch} images at once (fixed in the file), '
            f'got {shape[0]}'
        )


def filled_up(batch: torch.Tensor, num_images: int) -> torch.Tensor:
    """The batch with its last image repeated up to a count (for graphs of a fixed batch)."""
    missing = num_images - batch.shape[0]
    if missing <= 0:
        return batch
    return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
