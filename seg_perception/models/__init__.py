"""Models: cards that describe them, a catalog that finds them, weights and networks."""

from __future__ import annotations

from seg_perception.models.card import ModelCard, load_card
from seg_perception.models.catalog import list_models
from seg_perception.models.origins import resolve

DEFAULT_MODEL = 'deeplabv3_mobilenetv2.voc21'
"""The model the package carries in itself: 21 everyday classes, small enough for two CPU cores."""

__all__ = ['DEFAULT_MODEL', 'ModelCard', 'list_models', 'load_card', 'resolve']
