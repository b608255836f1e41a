"""The catalog: models by name.

It is the package's ``models/cards/*.yaml`` plus the folders in ``$SEG_PERCEPTION_MODELS``
(separated as in PATH), which win where names repeat. A card's file name without ``.yaml`` is the
model's name.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS_VARIABLE = 'SEG_PERCEPTION_MODELS'
_PACKAGE_CARDS = Path(__file__).parent / 'cards'


def list_models() -> list[str]:
    """The names of all models in the catalog, sorted. Their cards are not read."""
    return sorted(card_paths())


def card_paths() -> dict[str, Path]:
    """Card files by model name."""
    chosen = os.environ.get(FOLDERS_VARIABLE, '').split(os.pathsep)
    folders = [_PACKAGE_CARDS, *(Path(f).expanduser() for f in reversed(chosen) if f)]
    return {path.stem: path for folder in folders for path in sorted(folder.glob('*.yaml'))}
