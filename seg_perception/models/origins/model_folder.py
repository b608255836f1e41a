"""What folders of models say in their config and README, whichever library wrote them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from seg_perception.errors import ConfigurationError, ModelCardError
from seg_perception.structures import ClassTable

UNKNOWN_LICENCE = 'not stated'

_MAX_JSON_BYTES = 16 * 1024 * 1024
_FRONT_MATTER = re.compile(r'\A---\s*\n(.*?)\n---\s*\n', re.DOTALL)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelCardError: it is no JSON object.
    """
    try:
        with path.open('rb') as stream:
            document = json.loads(stream.read(_MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelCardError(f'{path}: is not valid JSON: {str(error)[:200]}') from error
    if not isinstance(document, dict):
        raise ModelCardError(f'{path}: expected an object, got {type(document).__name__}')
    return document


def class_table(config: Mapping[str, Any], where: str) -> ClassTable:
    """The classes that a config's ``id2label`` names; a repeated name gets its id behind it.

    Raises:
        ModelCardError: the ids have gaps, or names are missing.
    """
    labels = config.get('id2label')
    if labels is None and isinstance(count := config.get('num_labels'), int):
        labels = {str(i): f'LABEL_{i}' for i in range(count)}
    if not isinstance(labels, dict) or not labels:
        raise ModelCardError(
            f'{where}: config.json: expected id2label, the names of the classes, got {labels!r}'
        )
    try:
        by_id = {int(key): str(name) for key, name in labels.items()}
    except ValueError as error:
        raise ModelCardError(
            f'{where}: config.json: id2label: expected ids as keys, {error}'
        ) from error
    if sorted(by_id) != list(range(len(labels))):
        missing = sorted(set(range(len(labels))) - set(by_id))
        raise ModelCardError(
            f'{where}: config.json: id2label: expected the ids 0 to {len(labels) - 1}, '
            f'got none for {missing[:5]}'
        )
    try:
        return ClassTable(distinct_names([by_id[i] for i in range(len(by_id))]))
    except ConfigurationError as error:
        raise ModelCardError(f'{where}: config.json: id2label: {error}') from error


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names with their id behind those that occur several times."""
    return tuple(
        name if name and names.count(name) == 1 else f'{name} ({i})'.lstrip()
        for i, name in enumerate(names)
    )


def licence_of(readme: Path | None) -> str:
    """What a model's README says in its front matter; ``not stated`` where it says nothing."""
    if readme is None:
        return UNKNOWN_LICENCE
    match = _FRONT_MATTER.match(readme.read_text(encoding='utf-8', errors='replace'))
    if match is None:
        return UNKNOWN_LICENCE
    try:
        metadata = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return UNKNOWN_LICENCE
    licence = metadata.get('license') if isinstance(metadata, dict) else None
    return str(licence) if licence else UNKNOWN_LICENCE


def slug(name: str) -> str:
    """A name for a card, made of a model's name or folder."""
    return re.sub(r'[^a-z0-9_.+-]+', '_', name.lower()).strip('_.+-')[:100] or 'model'
