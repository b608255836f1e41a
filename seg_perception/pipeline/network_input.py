"""From what a card and a loaded model say of their input to what makes it."""

from __future__ import annotations

import math

from seg_perception.backends import Backend
from seg_perception.errors import ConfigurationError
from seg_perception.imaging.preprocess import Preprocessor
from seg_perception.models import ModelCard
from seg_perception.models.input_spec import InputSpec

_SCALED_MULTIPLE = 32
"""Sides of inputs made smaller are multiples of this: the stride of most networks."""


def input_spec(
    card: ModelCard, backend: Backend, input_size_hw: tuple[int, int] | None
) -> InputSpec:
    """What the loaded model is fed with.

    Args:
        card: the model's, at the size that the user asked for.
        backend: the loaded model.
        input_size_hw: that size, None where the user asked for none.

    Raises:
        ConfigurationError: the model takes another size only.
    """
    fixed_hw = backend.input_hw_fixed
    if fixed_hw is None:
        return card.input
    if input_size_hw not in (None, fixed_hw):
        raise ConfigurationError(
            f'{card.name} takes only images of {fixed_hw[0]}x{fixed_hw[1]} '
            f'(height x width), got input_size_hw {input_size_hw}'
        )
    return card.input.at_fixed_size(fixed_hw)


def scaled_size_hw(spec: InputSpec, scale: float) -> tuple[int, int]:
    """The size of an input made smaller; sides that are small already stay as they are.

    Args:
        spec: the input as it was loaded.
        scale: of its sides, above 0 and up to 1.
    """
    if scale == 1.0:
        return spec.size_hw
    multiple = math.lcm(_SCALED_MULTIPLE, spec.multiple)
    height, width = (
        min(side, max(multiple, round(side * scale / multiple) * multiple))
        for side in spec.size_hw
    )
    return height, width


def make_preprocessor(spec: InputSpec, backend: Backend, max_pixels: int) -> Preprocessor:
    """What makes a model's input of frames of at most ``max_pixels``."""
    is_bgr = spec.channel_order == 'bgr'
    mean, std, pad = spec.mean_rgb, spec.std_rgb, spec.pad_rgb
    return Preprocessor(
        spec.size_hw,
        spec.resize,
        mean[::-1] if is_bgr else mean,
        std[::-1] if is_bgr else std,
        spec.channel_order,
        spec.multiple,
        backend.device,
        backend.dtype,
        backend.channels_last,
        quantisation=backend.input_quantisation,
        pad_C=pad[::-1] if pad is not None and is_bgr else pad,
        interpolation=spec.interpolation,
        canvas_hw=spec.canvas_hw,
        placement=spec.placement,
        max_pixels=max_pixels,
    )
