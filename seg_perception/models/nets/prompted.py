"""What networks that segment what prompts point at have in common.

The image goes through an encoder once; a light decoder then answers any number of prompts.

N objects, P prompt tokens per object, H/W the grid of the masks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

NOT_A_POINT, BESIDE, ON, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
"""What a prompt token says of its place (Segment Anything's own numbers): nothing, a point beside
the object, a point on it, and two corners of a box around it."""


class PromptedNetwork(nn.Module, ABC):
    """Segments what prompts point at.

    Attributes:
        input_hw_fixed: the only input size of the encoder; None where any fits.
    """

    input_hw_fixed: tuple[int, int] | None = None

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """Maps images (B, 3, height, width) to features: a tensor or several, each (B, …)."""

    @abstractmethod
    def decode(
        self,
        features: tuple[torch.Tensor, ...],
        input_hw: tuple[int, int],
        places_NP2: torch.Tensor,
        kinds_NP: torch.Tensor,
        *,
        best_of_several: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of objects in one image.

        Args:
            features: what the encoder made of one image, each (1, …), float32.
            input_hw: size of the encoder's input.
            places_NP2: x and y in pixels of that input, whole numbers at pixel centres; float32.
            kinds_NP: what each place is, see `ON` and its neighbours.
            best_of_several: the decoder offers several masks for prompts that leave open what is
                meant (a point on a button: the button, or the shirt) and the one that it trusts
                most is taken; False asks for the one that fits prompts that do not.

        Returns:
            Mask logits (N, H, W), above 0 inside, and how well the network expects each to fit
            its object: intersection over union, about 0 to 1, (N,).
        """
