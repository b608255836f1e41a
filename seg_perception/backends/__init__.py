"""Backends run a loaded model; `ENGINES` says what runs which format, `NETWORKS` loads torch's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from seg_perception.backends.devices import select_device, select_dtype
from seg_perception.backends.engine_cache import EngineCache
from seg_perception.backends.engines import ENGINES, Engine, native_engine, select_engine
from seg_perception.backends.networks import NETWORKS
from seg_perception.backends.protocol import (
    Backend,
    EngineName,
    InstanceOutput,
    ModelOutput,
    Precision,
    RunOptions,
    Switch,
)
from seg_perception.backends.selection import load_quickest
from seg_perception.errors import ConfigurationError
from seg_perception.models.card import ModelCard
from seg_perception.models.weights import Progress, fetch_weights

__all__ = [
    'ENGINES',
    'NETWORKS',
    'Backend',
    'Engine',
    'EngineName',
    'InstanceOutput',
    'ModelOutput',
    'Precision',
    'RunOptions',
    'Switch',
    'load_backend',
    'native_engine',
    'select_device',
    'select_dtype',
]


def load_backend(
    card: ModelCard,
    weights_path: str | Path | None = None,
    options: RunOptions | None = None,
    *,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Backend:
    """Finds and verifies a model's weights and makes it ready to run.

    Args:
        card: the model's, from ``models.catalog.resolve``.
        weights_path: a local copy of the weights; else the card's address, through the cache.
        options: how to run it; the defaults of `RunOptions` where None.
        cache_dir: where downloads and what engines make are kept; see
            ``models.weights.default_cache_dir``.
        progress: told about a download: bytes so far, bytes expected or None.

    Raises:
        WeightsError: no weights, altered ones, or weights that do not fit.
        ModelCardError: the file contradicts the card.
        DeviceError: the device or precision is not there.
        ConfigurationError: an option that cannot work, or an engine that does not run the format.
        MissingExtraError: the engine needs a library that is not installed.
    """
    options = options or RunOptions()
    # what is not there is told before any download
    if not card.weights.is_served:
        select_device(options.device)
    engine = None if options.engine == 'auto' else select_engine(card, options)
    if card.weights.is_served:
        if weights_path is not None:
            raise ConfigurationError(
                f'{card.name}: weights_path: expected none, because the weights are at the server '
                f'({card.weights.uri}), got {weights_path}'
            )
        verified = Path()
    else:
        verified = fetch_weights(
            card.weights, card.base_dir, cache_dir, weights_path=weights_path, progress=progress
        )
    cache = EngineCache(cache_dir)
    if engine is None:
        return load_quickest(card, verified, options, cache)
    return engine.load(card, verified, dataclasses.replace(options, engine=engine.name), cache)
