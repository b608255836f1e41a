"""Which network a state dict is of, by the names and shapes of its tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from seg_perception.errors import ModelCardError, WeightsError
from seg_perception.models import load_card, nets
from seg_perception.models.card import WeightsSource
from seg_perception.models.catalog import card_paths
from seg_perception.models.state_dicts import rename_keys

Shapes = Mapping[str, tuple[int, ...]]

# Numbers of classes to build networks with: a dimension in which they differ counts classes.
_PROBES = (7, 11)
_MAX_STAGES = 6
_SHOWN = ('folded', 'batch_norm', 'base_channels', 'num_stages', 'in_channels', 'aux', 'dropout')
_LEFT_OUT = ('aux_classifier.', 'auxlayer.', 'criterion.', 'loss.', 'optimizer.')


@dataclass(frozen=True, slots=True)
class Match:
    """A network that a state dict fits.

    Attributes:
        architecture: a name of ``models.nets.ARCHITECTURES``.
        options: of it; only those that the tensors show and that are not the default.
        num_classes: of the tensors.
        key_map: beginnings of names in the file, and what they are in the network.
        drop_prefixes: beginnings of names that the network does not have.
    """

    architecture: str
    num_classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    key_map: Mapping[str, str] = field(default_factory=dict)
    drop_prefixes: tuple[str, ...] = ()


def hidden_options(architecture: str) -> list[str]:
    """Options that change what a network does and do not show in its tensors."""
    return [name for name in nets.option_names(architecture) if name not in _SHOWN]


def match_architecture(shapes: Shapes, origin: str) -> Match:
    """Finds the network of a state dict.

    Args:
        shapes: of the tensors by name.
        origin: what messages call the state dict.

    Raises:
        WeightsError: it fits none; the message names the nearest and what is missing.
    """
    shapes = {n: s for n, s in shapes.items() if not n.endswith('.num_batches_tracked')}
    nearest = (0.0, 'nothing')
    for architecture in nets.ARCHITECTURES:
        for options in _options(architecture, shapes):
            wanted, class_axes = _shapes(architecture, tuple(sorted(options.items())))
            for key_map in [*_unwrapping(shapes), *_published_key_maps(architecture)]:
                found, outside = _renamed(shapes, key_map)
                extra = [k for k, n in found.items() if n not in wanted] + outside
                drop = _prefixes_of(extra)
                present = {name: shapes[key] for key, name in found.items()}
                share, lacking = _compare(present, wanted, class_axes)
                if share == 1.0 and all(name.startswith(drop) for name in extra):
                    name, axis = next(iter(class_axes.items()))
                    return Match(architecture, present[name][axis], options, key_map, drop)
                why = f'wants {lacking}' if lacking else f'has no {extra[0]}'
                nearest = max(nearest, (share, f'{architecture}: it {why}'))
    raise WeightsError(
        f'{origin}: expected the tensors of one of {", ".join(nets.ARCHITECTURES)}, got '
        f'{len(shapes)} tensors that fit none; the nearest is {nearest[1]} '
        f'({nearest[0]:.0%} of its tensors are there). Export the model to ONNX and import that'
    )


def _options(architecture: str, shapes: Shapes) -> Iterator[dict[str, Any]]:
    """Values of the options that show in names and shapes."""
    known = nets.option_names(architecture)
    widths = [shape[0] for shape in shapes.values() if len(shape) == 4 and shape[1] == 3]
    choices: dict[str, list[Any]] = {}
    if 'folded' in known:
        choices['folded'] = [False, True]
    if 'batch_norm' in known:
        choices['batch_norm'] = [True, False]
    if 'base_channels' in known:
        choices['base_channels'] = widths[:1] or [64]
    if 'num_stages' in known:
        choices['num_stages'] = list(range(1, _MAX_STAGES + 1))
    defaults = nets.option_defaults(architecture)
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        yield {name: value for name, value in chosen.items() if value != defaults[name]}


@cache
def _shapes(
    architecture: str, options: tuple[tuple[str, Any], ...]
) -> tuple[Shapes, Mapping[str, int]]:
    """Shapes of a network's tensors, and which axis of which of them counts classes."""
    with torch.device('meta'):  # shapes need no memory
        few, many = (nets.build(architecture, n, **dict(options)).state_dict() for n in _PROBES)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in few.items()
        if not name.endswith('.num_batches_tracked')
    }
    axes = {
        name: axis
        for name, shape in shapes.items()
        for axis, (a, b) in enumerate(zip(shape, many[name].shape, strict=True))
        if a != b
    }
    return shapes, axes


def _unwrapping(shapes: Shapes) -> list[dict[str, str]]:
    """Key maps that take off what wrappers such as DataParallel put before all names."""
    prefixes, rest = [''], list(shapes)
    while rest and all('.' in name for name in rest):
        [*heads] = {name.partition('.')[0] for name in rest}
        if len(heads) != 1:
            break
        prefixes.append(f'{prefixes[-1]}{heads[0]}.')
        rest = [name.partition('.')[2] for name in rest]
    # Others write more beside the network: a loss, an optimiser.
    prefixes += [p for p in ('model.', 'module.', 'net.', 'network.') if p not in prefixes]
    return [{prefix: ''} if prefix else {} for prefix in prefixes]


@cache
def _published_key_maps(architecture: str) -> tuple[dict[str, str], ...]:
    """How the catalog's models of a network name their tensors, where not as the network does."""
    maps = []
    for path in card_paths().values():
        try:
            card = load_card(path)
        except ModelCardError:
            continue
        key_map = dict(card.weights.key_map)
        if card.architecture == architecture and key_map and key_map not in maps:
            maps.append(key_map)
    return tuple(maps)


def _renamed(shapes: Shapes, key_map: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Names in the network by name in the file, and the names that the map leaves out."""
    if not key_map:
        return {name: name for name in shapes}, []
    source = WeightsSource('w.pth', key_map=key_map)
    inside = [name for name in shapes if name.startswith(tuple(key_map))]
    # A wrapper stands before all of the network; other maps leave the rest as it is.
    outside = [n for n in shapes if n not in inside] if list(key_map.values()) == [''] else []
    kept = [name for name in shapes if name not in outside]
    try:
        renamed = rename_keys({name: name for name in kept}, source)  # type: ignore[misc]
    except WeightsError:
        return {}, list(shapes)
    return {str(key): name for name, key in renamed.items()}, outside


def _prefixes_of(names: list[str]) -> tuple[str, ...]:
    """Beginnings of what is written beside a network and not needed to run it."""
    drop = set()
    for name in names:
        for start in _LEFT_OUT:
            if name.startswith(start) or f'.{start}' in name:
                drop.add(name[: name.index(start) + len(start)])
    return tuple(sorted(drop))


def _compare(found: Shapes, wanted: Shapes, class_axes: Mapping[str, int]) -> tuple[float, str]:
    """Share of the wanted tensors that are there, and the first that is not."""
    counts = {
        found[name][axis] for name, axis in class_axes.items() if len(found.get(name, ())) > axis
    }
    lacking = ''
    num_found = 0
    for name, shape in wanted.items():
        expected = list(shape)
        if name in class_axes and len(counts) == 1:
            expected[class_axes[name]] = next(iter(counts))
        if found.get(name) == tuple(expected):
            num_found += 1
        else:
            lacking = lacking or f'{name} {tuple(expected)}'
    return num_found / len(wanted), lacking
