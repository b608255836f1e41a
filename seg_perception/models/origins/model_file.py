"""Models as files, with a card beside them, in them, or in the catalog."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from seg_perception.errors import ModelCardError
from seg_perception.models.card import FORMAT_BY_SUFFIX, ModelCard, load_card
from seg_perception.models.catalog import card_paths
from seg_perception.models.graph_facts import format_of_file, read_graph_facts
from seg_perception.models.origins.card_file import CARD_FILE
from seg_perception.models.origins.source import ModelSource
from seg_perception.models.weights import sha256_of


def is_model_file(model: str) -> bool:
    """Whether there is a file of that path with the suffix of a model file."""
    path = Path(model).expanduser()
    return path.suffix.lower() in FORMAT_BY_SUFFIX and path.is_file()


def card_of(model: str) -> ModelCard:
    """The card of a model file.

    Looked for beside the file (same name with ``.yaml``, else ``card.yaml``), in the metadata of
    an ONNX file (``seg_perception_card``), and in the catalog, by the file's SHA-256. Its
    ``weights.uri`` becomes the file; its hash, where the card has one, still holds. An ONNX file
    whose exporter says enough (YOLO segmentation) needs none.

    Raises:
        ModelCardError: the card is wrong, or there is none; the message then shows the card to
            write, with what the file tells filled in.
        WeightsError: the file is not what its suffix says.
        MissingExtraError: reading it needs a library that is not installed.
    """
    path = Path(model).expanduser().absolute()
    weights_format = format_of_file(path)
    beside = path.with_suffix('.yaml')
    for card_path in (beside, path.parent / CARD_FILE):
        if card_path.is_file():
            return _with_file(load_card(card_path), path, weights_format)
    facts = read_graph_facts(path, weights_format)
    if facts.card is not None:
        return _with_file(facts.card, path, weights_format)
    if (known := known_card(path, weights_format)) is not None:
        return known
    if facts.inspected is not None:
        return facts.inspected
    raise ModelCardError(
        f'{path}: expected a model card at {beside}, found none; nothing in the file says '
        f'{facts.unknown}. Make it with "seg-perception models import {path.name}", or write it, '
        f'replacing each ???:\n\n{facts.template(path.stem, path.name, weights_format)}'
    )


def known_card(path: Path, weights_format: str) -> ModelCard | None:
    """The catalog's card for exactly this file, under whatever name it lies here."""
    digest = ''
    for card_path in card_paths().values():
        card = load_card(card_path)
        if card.weights.format == weights_format and card.weights.sha256:
            digest = digest or sha256_of(path)
            if card.weights.sha256 == digest:
                return _with_file(card, path, weights_format)
    return None


def _with_file(card: ModelCard, path: Path, weights_format: str) -> ModelCard:
    if card.weights.format != weights_format:
        raise ModelCardError(
            f'{card.path or path}: weights.format: expected {weights_format}, because it is the '
            f'card of {path.name}, got {card.weights.format}'
        )
    weights = dataclasses.replace(card.weights, uri=str(path))
    return dataclasses.replace(card, weights=weights)


SOURCE = ModelSource(
    'file', f'a model file ({", ".join(FORMAT_BY_SUFFIX)})', is_model_file, card_of
)
