"""CLIPSeg of the library transformers as a network that segments what words name.

T. Lüddecke and A. Ecker, arXiv:2112.10003. This module does not import the library: it is given
the loaded model and tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from seg_perception.models.nets.worded import WordedNetwork


class ImageEncoder(nn.Module):
    """The part of CLIPSeg that sees the image, as a module of its own.

    Args:
        model: transformers' CLIPSegForImageSegmentation.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.clip.vision_model
        self.layers = tuple(model.extract_layers)

    def forward(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the layers that the decoder reads give, each (B, tokens, channels)."""
        seen = self.vision(batch_B3HW, output_hidden_states=True, interpolate_pos_encoding=True)
        # The first hidden state is what goes into the first layer.
        return tuple(seen.hidden_states[layer + 1] for layer in self.layers)


class TransformersClipSeg(WordedNetwork):
    """CLIPSeg; see `WordedNetwork`.

    Args:
        model: transformers' CLIPSegForImageSegmentation.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self._tokenizer = tokenizer
        self._encoder = ImageEncoder(model)

    @property
    def encoder(self) -> nn.Module:
        """See `WordedNetwork.encoder`."""
        return self._encoder

    def embed(self, words: Sequence[str]) -> torch.Tensor:
        """See `WordedNetwork.embed`."""
        device = next(self.model.parameters()).device
        tokens = self._tokenizer(list(words), padding=True, truncation=True, return_tensors='pt')
        embeddings: torch.Tensor = self.model.get_conditional_embeddings(
            batch_size=len(words),
            input_ids=tokens['input_ids'].to(device),
            attention_mask=tokens['attention_mask'].to(device),
        )
        return embeddings

    def decode(self, features: tuple[torch.Tensor, ...], words_WD: torch.Tensor) -> torch.Tensor:
        """See `WordedNetwork.decode`; the grid is that of the input."""
        num_images, num_words = len(features[0]), len(words_WD)
        # Every image with every word, as if they were so many images.
        repeated = [layer.repeat_interleave(num_words, 0) for layer in features]
        logits = self.model.decoder(repeated, words_WD.repeat(num_images, 1)).logits
        return logits.reshape(num_images, num_words, *logits.shape[-2:])
