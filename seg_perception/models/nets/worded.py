"""What networks that segment what words name have in common.

The image goes through an encoder once; a light decoder then looks for each of the words.

B batch, W words, D channels of a word's embedding, H/W grid of the scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn


class WordedNetwork(nn.Module, ABC):
    """Segments what words name."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """Maps images (B, 3, height, width) to features: a tensor or several, each (B, …)."""

    @abstractmethod
    def embed(self, words: Sequence[str]) -> torch.Tensor:
        """What the decoder looks for, (W, D), on the network's device; W is at least 1."""

    @abstractmethod
    def decode(self, features: tuple[torch.Tensor, ...], words_WD: torch.Tensor) -> torch.Tensor:
        """How well each word fits each place.

        Args:
            features: what the encoder made of images, each (B, …), float32.
            words_WD: from `embed`.

        Returns:
            Logits (B, W, H, W); above 0 where the word is more likely there than not.
        """
