"""What a network starts from: a model of the catalog, a backbone's weights, or chance.

A layer whose shape depends on the number of classes cannot be taken over whole. Of such a head
the rows of classes that both models name alike are; the rest starts at random, and is said.

Networks whose batch norms are folded into the convolutions (the embedded model, the ADE20K one)
are trained as they are, without batch norm: there are then no statistics that small batches
could spoil, and what is trained is exactly what runs on the robot. They want a low learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_perception.errors import ConfigurationError, WeightsError
from seg_perception.models import nets, resolve
from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.input_spec import InputSpec
from seg_perception.models.output_spec import OutputSpec
from seg_perception.models.state_dicts import load_into, load_state_dict, rename_keys
from seg_perception.models.weights import fetch_weights
from seg_perception.structures import ClassTable
from seg_perception.training.config import TrainConfig

PLAIN_MEAN_STD = (127.5, 127.5, 127.5)


@dataclass(frozen=True, slots=True)
class Start:
    """A network ready to be trained.

    Attributes:
        network: in training mode, on the CPU.
        card: of the model to be; its weights are still to be named.
        trained_names: parameters that start from trained weights.
        messages: what was taken over and what was not, for people.
    """

    network: nn.Module
    card: ModelCard
    trained_names: frozenset[str]
    messages: tuple[str, ...]


def make_start(config: TrainConfig, classes: ClassTable) -> Start:
    """Builds the network of a configuration and fills it; random parts come from torch's seed.

    Raises:
        ModelError: ``model.init`` or its weights are unusable, or do not fit.
        ConfigurationError: ``model.init`` is a graph file, which cannot be trained.
    """
    model = config.model
    messages: list[str] = []
    trained: set[str] = set()
    if model.init:
        origin = resolve(_located(model.init, config.base_dir))
        if origin.architecture is None:
            raise ConfigurationError(
                f'model.init: expected a model of torch weights to train, got {model.init}, whose '
                f'{origin.weights.format} file is a finished graph; give architecture instead'
            )
        architecture = model.architecture or origin.architecture
        options = {**origin.architecture_options, **model.architecture_options}
        network = nets.build(architecture, len(classes), **options)
        state = _state_of(origin, _located(model.weights, config.base_dir))
        trained, said = _take_over(network, state, origin, classes, architecture, options)
        messages += said
    else:
        origin, architecture = None, model.architecture
        options = dict(model.architecture_options)
        network = nets.build(architecture, len(classes), **options)
    if model.backbone:
        trained |= _load_backbone(network, config)
        messages.append(f'backbone: {len(trained)} parameters from {model.backbone}')
    if not trained:
        messages.append('all weights start at random')
    card = ModelCard(
        name=config.name,
        summary=config.summary,
        architecture=architecture,
        architecture_options=options,
        weights=WeightsSource('model.safetensors'),
        input=_input_spec(config, origin),
        output=OutputSpec(align_corners=_align_corners(config, origin)),
        classes=classes,
        licence=config.licence,
        source=config.source,
    )
    return Start(network.train(), card, frozenset(trained), tuple(messages))


def _located(path: str, base_dir: Path) -> str:
    """A path relative to the configuration's folder, where there is such a file."""
    beside = base_dir / Path(path).expanduser()
    return str(beside) if path and beside.exists() else path


def _state_of(origin: ModelCard, weights: str) -> dict[str, torch.Tensor]:
    path = fetch_weights(origin.weights, origin.base_dir, weights_path=weights or None)
    return rename_keys(load_state_dict(path, origin.weights.format), origin.weights)


def _take_over(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    origin: ModelCard,
    classes: ClassTable,
    architecture: str,
    options: Mapping[str, Any],
) -> tuple[set[str], list[str]]:
    """Loads a model's weights; returns the parameters loaded whole, and messages."""
    own = network.state_dict()
    head = _head_names(architecture, len(classes), options)
    is_same = origin.classes.names == classes.names
    taken = dict(state)
    if not is_same:
        theirs = {name.casefold(): i for i, name in enumerate(origin.classes.names)}
        pairs = [
            (i, theirs[name.casefold()])
            for i, name in enumerate(classes.names)
            if name.casefold() in theirs
        ]
        for name in head & state.keys():
            tensor = own[name].clone()
            if state[name].shape[1:] == tensor.shape[1:] and len(state[name]) == len(
                origin.classes
            ):
                for ours, other in pairs:
                    tensor[ours] = state[name][other].to(tensor.dtype)
            taken[name] = tensor
    parameters = {name for name, _ in network.named_parameters()}
    whole = parameters if is_same else parameters - head
    lacking: set[str] = set()
    if architecture != origin.architecture:
        fitting = {name for name in own.keys() & taken if taken[name].shape == own[name].shape}
        lacking = parameters - fitting
        taken = {name: taken[name] if name in fitting else own[name] for name in own}
        whole -= lacking
        if not whole:
            raise WeightsError(
                f'model.init: expected layers that {architecture} has too, {origin.name} '
                f'({origin.architecture}) has none; remove architecture or init'
            )
    load_into(network, taken, f'model.init {origin.name}')
    messages = [f'{origin.name}: {len(whole)} of {len(parameters)} parameters taken over']
    if lacking:
        parts = sorted({name.partition('.')[0] for name in lacking - head})
        messages.append(f'not in {origin.name} and started at random: {", ".join(parts)}')
    if not is_same:
        shared = ', '.join(classes.names[ours] for ours, _ in pairs) or 'no class'
        messages.append(
            f'new head for {len(classes)} classes instead of {len(origin.classes)}: '
            f'{", ".join(sorted(head))} start at random, except for {shared}'
        )
    return whole, messages


def _head_names(architecture: str, num_classes: int, options: Mapping[str, Any]) -> set[str]:
    """Tensors whose shape depends on the number of classes."""
    with torch.device('meta'):
        one = nets.build(architecture, num_classes, **options).state_dict()
        other = nets.build(architecture, num_classes + 1, **options).state_dict()
    return {name for name in one if one[name].shape != other[name].shape}


def _load_backbone(network: nn.Module, config: TrainConfig) -> set[str]:
    model = config.model
    backbone = getattr(network, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise ConfigurationError(
            f'model.backbone: expected an architecture with a backbone, got '
            f'{model.architecture or model.init}, which has none; remove the field'
        )
    source = WeightsSource(
        model.backbone,
        key_map=model.backbone_key_map,
        drop_prefixes=model.backbone_drop_prefixes,
    )
    path = fetch_weights(source, config.base_dir)
    load_into(backbone, rename_keys(load_state_dict(path), source), f'model.backbone {path.name}')
    return {f'backbone.{name}' for name, _ in backbone.named_parameters()}


def _input_spec(config: TrainConfig, origin: ModelCard | None) -> InputSpec:
    given = config.input
    theirs = origin.input if origin is not None else None
    return InputSpec(
        size_hw=given.size_hw,
        resize=given.resize,
        multiple_of=given.multiple_of if given.resize == 'fit' else 1,
        mean_rgb=given.mean_rgb or (theirs.mean_rgb if theirs else PLAIN_MEAN_STD),
        std_rgb=given.std_rgb or (theirs.std_rgb if theirs else PLAIN_MEAN_STD),
        channel_order=given.channel_order or (theirs.channel_order if theirs else 'rgb'),
    )


def _align_corners(config: TrainConfig, origin: ModelCard | None) -> bool:
    if config.model.align_corners is not None:
        return config.model.align_corners
    return origin.output.align_corners if origin is not None else False
