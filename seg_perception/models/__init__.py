"""Models: cards that describe them, a catalog that finds them, weights and networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_perception.models.card import ModelCard, load_card
    from seg_perception.models.catalog import list_models
    from seg_perception.models.origins import resolve

DEFAULT_MODEL = 'deeplabv3_mobilenetv2.voc21'
"""The model the package carries in itself: 21 everyday classes, small enough for two CPU cores."""

__all__ = ['DEFAULT_MODEL', 'ModelCard', 'list_models', 'load_card', 'resolve']

# Imported on first use: a shell that completes a model's name must not wait for NumPy.
_HOME = {
    'ModelCard': 'card',
    'list_models': 'catalog',
    'load_card': 'card',
    'resolve': 'origins',
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f'{__name__}.{_HOME[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
