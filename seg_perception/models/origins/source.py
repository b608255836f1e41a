"""What a source of models is: one way to say which model, and how to get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.models.card import ModelCard

if TYPE_CHECKING:
    import torch

BuildNetwork = Callable[[ModelCard, Path], 'torch.nn.Module']
"""Makes the network of a card from its verified weights file: maps images (B, 3, H, W),
normalised as the card says, to a tensor or a tuple of tensors of a fixed order, on the CPU."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """One way to say which model.

    Attributes:
        name: what it is called, also in the line that says what was understood.
        syntax: what to write for ``model``, for people.
        takes: whether a text is meant for this source. Sources are asked in the order of the
            table; the first that takes it answers for it.
        card: the model's card, made from what the source knows. Raises `ModelNotFoundError`,
            `ModelCardError`, `WeightsError` or `MissingExtraError`.
        networks: how to build the torch network of each weights format that the source brings.
    """

    name: str
    syntax: str
    takes: Callable[[str], bool]
    card: Callable[[str], ModelCard]
    networks: Mapping[str, BuildNetwork] = field(default_factory=dict)


def after(prefix: str) -> Callable[[str], bool]:
    """Takes what starts with ``prefix:``."""
    return lambda model: model.startswith(f'{prefix}:')
