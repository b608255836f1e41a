"""Finds the card of a model: by catalog name, by card, or by the model's own file.

The catalog is the package's ``models/cards/*.yaml`` plus the folders in
``$SEG_PERCEPTION_MODELS`` (separated as in PATH), which win where names repeat. A card's file
name without ``.yaml`` is the model's name.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path

from seg_perception.errors import ModelCardError, ModelNotFoundError
from seg_perception.models.card import FORMAT_BY_SUFFIX, ModelCard, load_card
from seg_perception.models.graph_facts import read_graph_facts
from seg_perception.models.weights import sha256_of

FOLDERS_VARIABLE = 'SEG_PERCEPTION_MODELS'
CARD_FILE = 'card.yaml'
_PACKAGE_CARDS = Path(__file__).parent / 'cards'


def list_models() -> list[str]:
    """The names of all models in the catalog, sorted. Their cards are not read."""
    return sorted(_catalog())


def resolve(model: str | Path) -> ModelCard:
    """The card of a model.

    Args:
        model: a catalog name; a card (``.yaml``); a folder with a ``card.yaml``; or a model file
            (``.onnx``, ``.tflite``, ``.pt2``, ``.safetensors``, ``.pth``, ``.pt``) with its card
            beside it: same name with ``.yaml``, else ``card.yaml``. An ONNX file may carry the
            card's text itself, as metadata ``seg_perception_card``. A file that the catalog knows
            by its SHA-256 needs no card beside it. With a model file the card's
            ``weights.uri`` becomes that file; its hash, where the card has one, still holds.

    Raises:
        ModelNotFoundError: there is no such model or file.
        ModelCardError: the card is wrong, or a model file has none; the message then shows the
            card to write, with what the file tells filled in.
    """
    name = str(model)
    catalog = _catalog()
    if name in catalog:
        return load_card(catalog[name])
    path = Path(name).expanduser()
    if path.is_dir() and (path / CARD_FILE).is_file():
        return load_card(path / CARD_FILE)
    suffix = path.suffix.lower()
    if path.is_file() and suffix in ('.yaml', '.yml'):
        return load_card(path)
    if path.is_file() and suffix in FORMAT_BY_SUFFIX:
        return _card_of_file(path.absolute())
    if suffix in ('.yaml', '.yml', *FORMAT_BY_SUFFIX) or os.sep in name:
        raise ModelNotFoundError(
            f'model: expected a model card or model file, found none at {path.absolute()}'
            if not path.exists()
            else f'model: expected {", ".join(FORMAT_BY_SUFFIX)}, a .yaml card or a folder with '
            f'{CARD_FILE}, got {path.absolute()}'
        )
    close = difflib.get_close_matches(name, catalog, 3, cutoff=0.4)
    raise ModelNotFoundError(
        f"model: no '{name}' in the catalog"
        + (f', did you mean {" or ".join(close)}?' if close else ';')
        + f' It has: {", ".join(sorted(catalog)) or "nothing"}; or give the path of a card or '
        f'model file'
    )


def _catalog() -> dict[str, Path]:
    """Card files by model name."""
    chosen = os.environ.get(FOLDERS_VARIABLE, '').split(os.pathsep)
    folders = [_PACKAGE_CARDS, *(Path(f).expanduser() for f in reversed(chosen) if f)]
    return {path.stem: path for folder in folders for path in sorted(folder.glob('*.yaml'))}


def _card_of_file(path: Path) -> ModelCard:
    beside = path.with_suffix('.yaml')
    for card_path in (beside, path.parent / CARD_FILE):
        if card_path.is_file():
            return _with_file(load_card(card_path), path)
    weights_format = FORMAT_BY_SUFFIX[path.suffix.lower()]
    facts = read_graph_facts(path, weights_format)
    if facts.card is not None:
        return _with_file(facts.card, path)
    if (known := _known_by_hash(path, weights_format)) is not None:
        return _with_file(known, path)
    raise ModelCardError(
        f'{path}: expected a model card at {beside}, found none; nothing in the file says '
        f'{facts.unknown}. Write it, replacing each ???:\n\n{facts.template(path, weights_format)}'
    )


def _known_by_hash(path: Path, weights_format: str) -> ModelCard | None:
    """The catalog's card for exactly this file, under whatever name it lies here."""
    digest = ''
    for card_path in _catalog().values():
        card = load_card(card_path)
        if card.weights.format == weights_format and card.weights.sha256:
            digest = digest or sha256_of(path)
            if card.weights.sha256 == digest:
                return card
    return None


def _with_file(card: ModelCard, path: Path) -> ModelCard:
    weights_format = FORMAT_BY_SUFFIX[path.suffix.lower()]
    if card.weights.format != weights_format:
        raise ModelCardError(
            f'{card.path or path}: weights.format: expected {weights_format}, because it is the '
            f'card of {path.name}, got {card.weights.format}'
        )
    weights = dataclasses.replace(card.weights, uri=str(path))
    return dataclasses.replace(card, weights=weights)
