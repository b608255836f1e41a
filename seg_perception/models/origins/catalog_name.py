"""Models of the catalog, by name."""

from __future__ import annotations

from seg_perception.models.card import ModelCard, load_card
from seg_perception.models.catalog import card_paths
from seg_perception.models.origins.source import ModelSource


def is_name(model: str) -> bool:
    """Whether the catalog has a model of that name."""
    return model in card_paths()


def card_of(name: str) -> ModelCard:
    """The card of a model of the catalog.

    Raises:
        ModelCardError: the card is wrong.
    """
    return load_card(card_paths()[name])


SOURCE = ModelSource('catalog', 'a name of the catalog', is_name, card_of)
