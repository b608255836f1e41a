"""How a file's graph wants its image, as the libraries that open such files say it.

B batch, H/W the model's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seg_perception.backends.batches import filled_up
from seg_perception.imaging.quantise import Quantisation


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The only input of a graph.

    uint8 takes the normalised values rounded, so its card says mean 0 and std 1.

    Attributes:
        dtype: what it takes: float32, float16, bfloat16 or uint8.
        is_nhwc: channels last in the shape itself: (B, H, W, 3), not (B, 3, H, W).
        hw_fixed: the only size it takes; None where any fits.
        batch_fixed: the only batch it takes; None where any fits.
    """

    dtype: torch.dtype
    is_nhwc: bool
    hw_fixed: tuple[int, int] | None
    batch_fixed: int | None

    @classmethod
    def of_shape(cls, shape: Sequence[object], dtype: torch.dtype) -> GraphInput:
        """The input of a shape in which all but positive numbers are open.

        Raises:
            ValueError: it is no image batch of three channels.
        """
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ValueError('expected [B, 3, H, W] or [B, H, W, 3]')
        is_nhwc = shape[3] == 3 and shape[1] != 3
        batch, height, width = (_known(shape[i]) for i in ((0, 1, 2) if is_nhwc else (0, 2, 3)))
        hw_fixed = (height, width) if height and width else None
        return cls(dtype, is_nhwc, hw_fixed, batch)

    def quantisation(self, device: torch.device) -> Quantisation | None:
        """How pixels can be given as they are: bytes, for a graph that takes such, on the CPU."""
        is_bytes = self.dtype == torch.uint8 and device.type == 'cpu'
        return Quantisation('uint8', 0.0, 0) if is_bytes else None

    def take(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """A normalised batch as the graph wants it: filled up, converted, in its layout."""
        image = batch_B3HW
        if self.batch_fixed is not None:
            image = filled_up(image, self.batch_fixed)
        if not self.dtype.is_floating_point and image.is_floating_point():
            image = image.round().clamp(0, 255)
        image = image.to(self.dtype)
        return (image.permute(0, 2, 3, 1) if self.is_nhwc else image).contiguous()


def _known(side: object) -> int | None:
    return side if isinstance(side, int) and side > 0 else None
