"""Where models come from: what `resolve` takes, in one table.

A new source is a file like the others here and its line in `SOURCES`. Libraries of a source are
imported when a model of it is built, so that nothing here costs those who do not use it.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from seg_perception.errors import ModelNotFoundError
from seg_perception.models.card import FORMAT_BY_SUFFIX, ModelCard
from seg_perception.models.catalog import card_paths
from seg_perception.models.origins import (
    card_file,
    catalog_name,
    huggingface,
    model_file,
    model_server,
    smp,
    torchvision_models,
)
from seg_perception.models.origins.source import ModelSource

__all__ = ['SOURCES', 'ModelSource', 'resolve']

SOURCES: tuple[ModelSource, ...] = (
    catalog_name.SOURCE,
    huggingface.SOURCE,
    torchvision_models.SOURCE,
    smp.SOURCE,
    model_server.SOURCE,
    card_file.SOURCE,
    model_file.SOURCE,
)
"""In the order in which they are asked whether a text is theirs."""

_REPOSITORY = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')


def resolve(model: str | Path) -> ModelCard:
    """The card of a model.

    Args:
        model: what one of `SOURCES` takes: a catalog name, ``hf:…``, ``torchvision:…``,
            ``smp:…``, ``triton:…``, a card, a folder with a ``card.yaml``, or a model file.

    Raises:
        ModelNotFoundError: there is no such model or file.
        ModelCardError: the card is wrong, or the model does not say enough for one.
        WeightsError: the model's files are unsafe or not what they claim to be.
        MissingExtraError: the source needs a library that is not installed.
    """
    text = str(model)
    for source in SOURCES:
        if source.takes(text):
            return source.card(text)
    raise ModelNotFoundError(_not_found(text))


def _not_found(text: str) -> str:
    """What is wrong with a text that no source takes, and what to write."""
    path = Path(text).expanduser()
    if path.is_dir():
        remedy = 'write a card.yaml into it'
        if (path / 'config.json').is_file():
            remedy += f', or hf:{text} for a transformers model, smp:{text} for one of smp'
        return f'model: expected a folder with card.yaml, got {path.absolute()}; {remedy}'
    suffixes = ('.yaml', '.yml', *FORMAT_BY_SUFFIX)
    if path.exists():
        return f'model: expected one of {", ".join(suffixes)}, got {path.absolute()}'
    if path.suffix.lower() in suffixes or '/' in text:
        is_repository = _REPOSITORY.fullmatch(text) and path.suffix.lower() not in suffixes
        remedy = f'; for a model of Hugging Face write hf:{text}' if is_repository else ''
        return (
            f'model: expected a model card or model file, found none at {path.absolute()}{remedy}'
        )
    names = card_paths()
    close = difflib.get_close_matches(text, names, 3, cutoff=0.4)
    return (
        f"model: no '{text}' in the catalog"
        + (f', did you mean {" or ".join(close)}?' if close else '.')
        + f' It has: {", ".join(sorted(names)) or "nothing"}; or give '
        + ', '.join(source.syntax for source in SOURCES[1:])
    )
