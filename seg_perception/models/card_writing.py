"""Model cards written as the YAML that `seg_perception.models.card` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from seg_perception.models.card import ModelCard, WeightsFormat, WeightsSource, load_card
from seg_perception.models.origins.card_file import CARD_FILE
from seg_perception.models.output_spec import OPTIONS_BY_KIND
from seg_perception.models.weights import sha256_of
from seg_perception.whole_file import write_whole


def card_document(card: ModelCard) -> dict[str, Any]:
    """The plain values of a card, as its YAML has them; what is empty is left out."""
    document = {
        field.name: _plain(getattr(card, field.name))
        for field in dataclasses.fields(card)
        if field.name != 'path'
    }
    document['weights'] = {
        k: v for k, v in document['weights'].items() if v not in ('', None, {}, [])
    }
    document['input'] = {k: v for k, v in document['input'].items() if v is not None}
    if card.input.is_scalable:
        document['input'].pop('is_scalable')
    options = document['output'].pop('options')
    known = OPTIONS_BY_KIND.get(card.output.kind, frozenset())
    if said := {k: v for k, v in options.items() if k in known and v not in (None, [])}:
        document['output']['options'] = said
    document['classes'].pop('unlabeled_id')
    if card.architecture is None:
        document.pop('architecture')
    return {key: value for key, value in document.items() if value not in ({}, [])}


def card_text(card: ModelCard) -> str:
    """A card as YAML."""
    return yaml.dump(
        card_document(card), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=95
    )


def write_card(
    card: ModelCard,
    weights_path: Path,
    weights_format: WeightsFormat,
    folder: Path | None = None,
) -> ModelCard:
    """Writes ``card.yaml`` for a weights file, with its hash and size, and reads it back.

    Args:
        card: what it says else.
        weights_path: the file.
        weights_format: its format.
        folder: where the card goes, the file's own or one above it; its own where None.

    Raises:
        WeightsError: it cannot be written.
        ModelCardError: the card contradicts the format.
    """
    folder = folder or weights_path.parent
    weights = WeightsSource(
        uri=weights_path.relative_to(folder).as_posix(),
        sha256=sha256_of(weights_path),
        size_bytes=weights_path.stat().st_size,
        format=weights_format,
    )
    path = folder / CARD_FILE
    write_whole(path, card_text(dataclasses.replace(card, weights=weights)).encode('utf-8'))
    return load_card(path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


class _Dumper(yaml.SafeDumper):
    """Lists of numbers and names in one line, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        is_flat = all(isinstance(item, (int, float, str, list)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=is_flat or flow_style)
