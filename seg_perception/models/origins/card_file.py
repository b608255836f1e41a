"""Models described by a card that the user has."""

from __future__ import annotations

from pathlib import Path

from seg_perception.models.card import ModelCard, load_card
from seg_perception.models.origins.source import ModelSource

CARD_FILE = 'card.yaml'
"""The card of a folder, and of model files in it that have none of their own."""

CARD_SUFFIXES = ('.yaml', '.yml')


def is_card(model: str) -> bool:
    """Whether there is a card of that path, or a folder with one."""
    path = Path(model).expanduser()
    if path.is_dir():
        return (path / CARD_FILE).is_file()
    return path.suffix.lower() in CARD_SUFFIXES and path.is_file()


def card_of(model: str) -> ModelCard:
    """Reads the card.

    Raises:
        ModelCardError: the card is wrong.
    """
    path = Path(model).expanduser()
    return load_card(path / CARD_FILE if path.is_dir() else path)


SOURCE = ModelSource('card', f'a card (.yaml) or a folder with {CARD_FILE}', is_card, card_of)
