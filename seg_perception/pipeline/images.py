"""What can be segmented: images, and what is asked about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.imaging import decode
from seg_perception.models import ModelCard
from seg_perception.structures import CompressedFrame, Frame, Prompt

Image = Frame | CompressedFrame | npt.NDArray[np.uint8]
"""A frame, a compressed frame, or an array of 8-bit pixels."""


def to_frame(image: Image, max_pixels: int) -> Frame:
    """An image as a frame, decoded where it is compressed.

    Args:
        image: see `Image`; an array is grey (Y, X) or RGB (Y, X, 3).
        max_pixels: larger ones are refused before anything is allocated.

    Raises:
        InputError: it cannot be used.
    """
    if isinstance(image, Frame):
        return image
    if isinstance(image, CompressedFrame):
        return decode(image, max_pixels=max_pixels)
    is_gray = isinstance(image, np.ndarray) and image.ndim == 2
    is_rgb = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3
    if not (is_gray or is_rgb) or image.dtype != np.uint8:
        got = f'{image.dtype} of shape {image.shape}' if hasattr(image, 'dtype') else type(image)
        raise InputError(
            f'expected a Frame, a CompressedFrame, or a uint8 array of shape (Y, X, 3) in RGB '
            f'or (Y, X) in grey, got {got}; for other pixels use Frame.from_array'
        )
    return Frame.from_array(image, 'mono8' if is_gray else 'rgb8')


def check_prompts(
    card: ModelCard, prompts: Sequence[Sequence[Prompt]] | None, num_images: int
) -> None:
    """Checks that a model that takes prompts gets some for each image, and no other does.

    Raises:
        ConfigurationError: it is not so.
    """
    takes_prompts = card.output.kind == 'prompts'
    if prompts is None and takes_prompts:
        raise ConfigurationError(
            f'prompts: expected a list for each image, because {card.name} segments what prompts '
            f'point at, got none'
        )
    if prompts is not None and not takes_prompts:
        raise ConfigurationError(
            f'prompts: expected none, because {card.name} does not take any; use a model that '
            f'does, such as mobile_sam'
        )
    if prompts is not None and len(prompts) != num_images:
        raise ConfigurationError(
            f'prompts: expected a list for each of {num_images} images, got {len(prompts)}'
        )
