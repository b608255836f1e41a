"""What backends have in common that decode an encoder's features by what their user asks for.

The encoder runs as any torch network does, by any engine. The decoder is light and its input
changes in shape, so it runs eagerly; in full precision, because places in an image are finer than
half precision tells.
"""

from __future__ import annotations

import torch

from seg_perception.backends.devices import select_device
from seg_perception.backends.failures import translated
from seg_perception.backends.protocol import RunOptions
from seg_perception.backends.torch_eager import Prepare, TorchBackend, give_memory_back
from seg_perception.imaging.quantise import Quantisation
from seg_perception.models.card import ModelCard


class FeatureBackend:
    """An encoder on its device; see `Backend` for what is not said here.

    Args:
        encoder: a part of ``network``.
        network: taken over and changed: device, precision and layout of its encoder.
        card: the model's.
        options: how to run it.
        prepare: see `TorchBackend`; for the encoder.
        input_hw_fixed: the only size that the encoder takes; None where any fits.
    """

    name = 'torch'
    is_capturable = False
    input_quantisation: Quantisation | None = None

    def __init__(
        self,
        encoder: torch.nn.Module,
        network: torch.nn.Module,
        card: ModelCard,
        options: RunOptions,
        prepare: Prepare,
        input_hw_fixed: tuple[int, int] | None = None,
    ) -> None:
        self._card = card
        self._input_hw_fixed = input_hw_fixed
        self._encoder = TorchBackend(encoder, card, options, prepare)
        self._num_parameters = sum(p.numel() for p in network.parameters())
        with translated(card.name, f'on its way to {self.device}'):
            network.eval().requires_grad_(False).to(select_device(options.device))

    @property
    def device(self) -> torch.device:
        """See `Backend.device`."""
        return self._encoder.device

    @property
    def dtype(self) -> torch.dtype:
        """See `Backend.dtype`."""
        return self._encoder.dtype

    @property
    def channels_last(self) -> bool:
        """See `Backend.channels_last`."""
        return self._encoder.channels_last

    @property
    def input_hw_fixed(self) -> tuple[int, int] | None:
        """See `Backend.input_hw_fixed`."""
        return self._input_hw_fixed or self._encoder.input_hw_fixed

    @property
    def max_batch(self) -> int | None:
        """See `Backend.max_batch`."""
        return self._encoder.max_batch

    def description(self) -> dict[str, str]:
        """See `Backend.description`."""
        return {**self._encoder.description(), 'num_parameters': str(self._num_parameters)}

    def free_caches(self) -> None:
        """See `Backend.free_caches`."""
        self._encoder.free_caches()

    def close(self) -> None:
        """See `Backend.close`."""
        self._encoder.close()
        give_memory_back(self.device)

    def _features(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the encoder makes of images, each (B, …), in full precision."""
        return tuple(tensor.float() for tensor in self._encoder.tensors(batch_B3HW))
