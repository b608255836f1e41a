"""The models that can be had, and all that is known of one, for people and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seg_perception.errors import SegPerceptionError
from seg_perception.models import DEFAULT_MODEL, ModelCard, list_models, resolve
from seg_perception.models.card_writing import card_document
from seg_perception.zoo.location import local_weights, size_bytes
from seg_perception.zoo.speed import Speed, find_speed

Place = Literal['here', 'to pull', 'at its server', 'missing']


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of the list.

    Attributes:
        name: what to give as ``model``.
        summary: one line.
        num_classes: how many it tells apart.
        licence: of its weights.
        size_bytes: of its weights, None where nobody says.
        place: whether the weights are here, to be downloaded, at a server that runs them, or not
            where the card says.
        speed: on this machine, None where it was not measured.
        is_default: whether it runs where no model is given.
        problem: why it cannot be had; '' where it can.
    """

    name: str
    summary: str
    num_classes: int
    licence: str
    size_bytes: int | None
    place: Place
    speed: Speed | None
    is_default: bool
    problem: str = ''


def list_entries() -> Iterator[ModelEntry]:
    """The models of the catalog; a card that is wrong is an entry that says so."""
    for name in list_models():
        try:
            yield entry_of(resolve(name), name)
        except SegPerceptionError as error:
            yield ModelEntry(
                name, '', 0, '', None, 'missing', None, name == DEFAULT_MODEL, str(error)
            )


def list_table(entries: Sequence[ModelEntry]) -> str:
    """The list as aligned text."""
    from seg_perception.models.origins import SOURCES

    rows = [('model', 'classes', 'size', 'weights', 'speed here', 'licence', 'summary')]
    for e in entries:
        summary = f'cannot be had: {e.problem}' if e.problem else e.summary
        rows.append(
            (
                e.name + (' (default)' if e.is_default else ''),
                str(e.num_classes),
                human_size(e.size_bytes),
                e.place,
                '' if e.speed is None else str(e.speed),
                e.licence,
                summary,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    lines = [
        '  '.join(f'{cell:{width}}' for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    others = ', '.join(source.syntax for source in SOURCES if source.name != 'catalog')
    return '\n'.join([*lines, '', f'model also takes {others}'])


def entry_of(card: ModelCard, name: str) -> ModelEntry:
    """What the list says of one model."""
    return ModelEntry(
        name=name,
        summary=card.summary,
        num_classes=len(card.classes),
        licence=card.licence,
        size_bytes=size_bytes(card),
        place=place_of(card),
        speed=find_speed(card),
        is_default=name == DEFAULT_MODEL,
    )


def place_of(card: ModelCard) -> Place:
    """Where the weights are."""
    if card.weights.is_served:
        return 'at its server'
    if local_weights(card) is not None:
        return 'here'
    return 'to pull' if '://' in card.weights.uri else 'missing'


def describe(card: ModelCard) -> dict[str, Any]:
    """All that a card says, and what can be done with the model here; plain values."""
    import torch

    from seg_perception.backends import ENGINES, native_engine

    weights = local_weights(card)
    native = native_engine(card.weights.format)
    engines = {}
    for engine in ENGINES.values():
        if engine.takes(card):
            lacks_gpu = engine.needs_cuda and not torch.cuda.is_available()
            missing = 'needs an NVIDIA GPU' if lacks_gpu else engine.missing
            engines[engine.name] = missing or ('native' if engine is native else 'can')
    speed = find_speed(card)
    return {
        **card_document(card),
        'card': None if card.path is None else str(card.path),
        'weights_here': None if weights is None else str(weights),
        'weights_size_bytes': size_bytes(card),
        'needs_trust_model_code': card.weights.format in ('torch_export', 'torchscript'),
        'engines': engines,
        'speed_here': None if speed is None else str(speed),
    }


def preprocessing(card: ModelCard) -> str:
    """In words, what is done to an image before the model sees it."""
    mean, std = (
        ' '.join(f'{value:g}' for value in values)
        for values in (card.input.mean_rgb, card.input.std_rgb)
    )
    return (
        f'{card.input} (width x height); x = (pixel - mean) / std with mean {mean}, std {std}, '
        f'pixels 0 to 255'
    )


def show_lines(card: ModelCard) -> Mapping[str, str]:
    """What ``models show`` prints, by what it is about."""
    about = describe(card)
    size = about['weights_size_bytes']
    digest = card.weights.sha256 or (
        f'{card.weights.sha256_prefix}…' if card.weights.sha256_prefix else 'not stated'
    )
    where = about['weights_here'] or place_of(card)
    options = ', '.join(f'{k}={v}' for k, v in card.architecture_options.items())
    output = {k: v for k, v in about['output'].items() if k != 'kind'}
    lines = {
        'name': card.name,
        'summary': card.summary,
        'architecture': (card.architecture or f"the file's own graph ({card.weights.format})")
        + (f' ({options})' if options else ''),
        'weights': card.weights.uri,
        'weights here': where + (f', {human_size(size)}' if size else ''),
        'sha256': digest,
        'input': preprocessing(card),
        'output': ', '.join([card.output.kind, *(f'{k} {v}' for k, v in output.items())]),
        'classes': f'{len(card.classes)}: {", ".join(card.classes.names)}',
        'engines': ', '.join(
            name if state == 'can' else f'{name} ({state})'
            for name, state in about['engines'].items()
        ),
        'speed here': about['speed_here'] or 'not measured (seg-perception models --measure)',
        'licence': card.licence,
        'source': card.source,
        'card': about['card'] or 'made of the model itself',
    }
    if about['needs_trust_model_code']:
        lines['trust'] = 'can run code when loaded: needs trust_model_code:=true'
    return lines | {f'measured {name}': str(v) for name, v in card.measurements.items()}


def human_size(num_bytes: int | None) -> str:
    """``8.4 MB``; '?' for None."""
    if num_bytes is None:
        return '?'
    return f'{num_bytes / 1e6:.1f} MB' if num_bytes < 1e9 else f'{num_bytes / 1e9:.1f} GB'
