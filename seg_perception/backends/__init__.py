"""Backends run a loaded model; one table says which one runs which format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from seg_perception.backends import litert, onnx_runtime, torch_eager, torch_exported
from seg_perception.backends.devices import select_device, select_dtype
from seg_perception.backends.protocol import Backend, ModelOutput, Precision, RunOptions, Switch
from seg_perception.models.card import ModelCard
from seg_perception.models.weights import Progress, fetch_weights

__all__ = [
    'BACKENDS',
    'Backend',
    'ModelOutput',
    'Precision',
    'RunOptions',
    'Switch',
    'load_backend',
    'select_device',
    'select_dtype',
]

BACKENDS: Mapping[str, Callable[[ModelCard, Path, RunOptions], Backend]] = {
    'safetensors': torch_eager.load,
    'torch': torch_eager.load,
    'torch_export': torch_exported.load,
    'onnx': onnx_runtime.load,
    'tflite': litert.load,
}
"""Loader by weights format. A loader gets a verified file."""


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
        cache_dir: where downloads are kept; see ``models.weights.default_cache_dir``.
        progress: told about a download: bytes so far, bytes expected or None.

    Raises:
        WeightsError: no weights, altered ones, or weights that do not fit.
        ModelCardError: the file contradicts the card.
        DeviceError: the device or precision is not there.
        ConfigurationError: an option that cannot work.
        MissingExtraError: the format needs a library that is not installed.
    """
    options = options or RunOptions()
    select_device(options.device)  # a device that is not there is told before any download
    verified = fetch_weights(
        card.weights, card.base_dir, cache_dir, weights_path=weights_path, progress=progress
    )
    return BACKENDS[card.weights.format](card, verified, options)
