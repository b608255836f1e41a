"""Torch networks from weights: one loader per format, one table of them.

Every engine for torch networks runs whatever this table loads; a new kind of weights is one new
loader and one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from seg_perception.backends import torch_exported, torchscript
from seg_perception.backends.protocol import RunOptions
from seg_perception.models import nets
from seg_perception.models.card import ModelCard
from seg_perception.models.origins import SOURCES
from seg_perception.models.origins.source import BuildNetwork
from seg_perception.models.state_dicts import (
    check_tensors,
    load_into,
    load_state_dict,
    rename_keys,
)

LoadNetwork = Callable[[ModelCard, Path, RunOptions], torch.nn.Module]


def load_built_network(card: ModelCard, path: Path, options: RunOptions) -> torch.nn.Module:
    """Builds the card's architecture and fills it with the tensors of a file.

    Raises:
        WeightsError: the file cannot be read safely or does not fit the network.
    """
    assert card.architecture is not None  # the card's own check
    make: Callable[[], torch.nn.Module]
    if card.architecture in nets.PROMPTED:
        make = nets.PROMPTED[card.architecture]
    else:
        make = partial(
            nets.build, card.architecture, len(card.classes), **card.architecture_options
        )
    state = rename_keys(load_state_dict(path, card.weights.format), card.weights)
    origin = f'{card.name}: {path.name}'
    with torch.device('meta'):  # a card may ask for more memory than there is
        check_tensors(make(), state, origin)
    network = make()
    load_into(network, state, origin)
    return network.eval().requires_grad_(False)


def built_by(build: BuildNetwork) -> LoadNetwork:
    """The loader of a format that a source of models brings."""

    def load(card: ModelCard, path: Path, options: RunOptions) -> torch.nn.Module:
        return build(card, path).eval().requires_grad_(False)

    return load


NETWORKS: Mapping[str, LoadNetwork] = {
    'safetensors': load_built_network,
    'torch': load_built_network,
    'torch_export': torch_exported.load_network,
    'torchscript': torchscript.load_network,
    **{name: built_by(build) for source in SOURCES for name, build in source.networks.items()},
}
"""Loader by weights format, those of `models.origins.SOURCES` included. It gets a verified file
and gives a network that maps an image batch (B, 3, H, W) to its output, on the CPU in evaluation
mode, or a `GraphNetwork` on its device."""
