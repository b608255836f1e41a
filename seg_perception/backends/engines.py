"""Engines run models; one table says which runs which format, and what it needs.

A model's file is loaded as a torch network (`networks.NETWORKS`) or opened by a library of its
format. Engines for torch networks run every format of that table.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from seg_perception.backends import litert, onnx_runtime, openvino_runtime, served, torch_eager
from seg_perception.backends.engine_cache import EngineCache
from seg_perception.backends.networks import NETWORKS
from seg_perception.backends.prompted import PromptedBackend
from seg_perception.backends.protocol import Backend, EngineName, RunOptions
from seg_perception.backends.torch_aot import AheadCompiler, package_name
from seg_perception.backends.worded import WordedBackend
from seg_perception.errors import (
    ConfigurationError,
    MissingExtraError,
    ModelCardError,
    SegPerceptionError,
)
from seg_perception.models.card import ModelCard
from seg_perception.models.nets.prompted import PromptedNetwork
from seg_perception.models.nets.worded import WordedNetwork

LoadModel = Callable[[ModelCard, Path, RunOptions, EngineCache], Backend]


def nothing_needed() -> None:
    """For engines that come with torch."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to run models.

    Attributes:
        name: its name, as users give it.
        summary: what it is, for people.
        load: opens a verified file and makes it ready.
        files: formats it reads by itself.
        runs_networks: whether it runs torch networks, hence all formats of `NETWORKS`.
        runs_in_torch: whether it does so within torch, so that a decoder can go on from an
            encoder's features, as models that take prompts or words need it.
        require: raises `MissingExtraError` or `ConfigurationError` where something is missing
            that it cannot do without; imports nothing heavy.
        needs_cuda: whether it runs on NVIDIA GPUs only.
    """

    name: EngineName
    summary: str
    load: LoadModel
    files: frozenset[str] = frozenset()
    runs_networks: bool = False
    runs_in_torch: bool = False
    require: Callable[[], None] = nothing_needed
    needs_cuda: bool = False

    def runs(self, weights_format: str) -> bool:
        """Whether it runs models of a format."""
        return weights_format in self.files or (self.runs_networks and weights_format in NETWORKS)

    def takes(self, card: ModelCard) -> bool:
        """Whether it runs a model."""
        return self.runs(card.weights.format) and (self.runs_in_torch or not card.output.is_asked)

    @property
    def missing(self) -> str:
        """Why it cannot be used here, '' where it can."""
        try:
            self.require()
        except SegPerceptionError as error:
            return str(error)
        return ''


def require_library(module: str, library: str, extra: str, purpose: str) -> None:
    """Checks that a library is installed, without importing it.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(library, extra, purpose)


require_onnxruntime = partial(
    require_library, 'onnxruntime', 'onnxruntime', 'onnx', 'run .onnx models'
)


def load_torch(
    prepare: torch_eager.Prepare,
    card: ModelCard,
    path: Path,
    options: RunOptions,
    cache: EngineCache,
) -> Backend:
    """Loads the torch network of a file and runs what ``prepare`` makes of it.

    Raises:
        ModelCardError: the card says that the network takes prompts or words, and it does not.
    """
    network = NETWORKS[card.weights.format](card, path, options)
    if isinstance(network, PromptedNetwork) and card.output.kind == 'prompts':
        return PromptedBackend(network, card, options, prepare)
    if isinstance(network, WordedNetwork) and card.output.kind == 'words':
        return WordedBackend(network, card, options, prepare)
    if isinstance(network, (PromptedNetwork, WordedNetwork)) or card.output.is_asked:
        raise ModelCardError(
            f'{card.name}: output.kind: expected what {type(network).__name__} takes, got '
            f'{card.output.kind}; prompts and words go with networks that are made for them'
        )
    return torch_eager.TorchBackend(network, card, options, prepare)


def load_aot(card: ModelCard, path: Path, options: RunOptions, cache: EngineCache) -> Backend:
    """Loads the torch network of a file and runs the package that is compiled of it."""
    return load_torch(AheadCompiler(card, path, cache).prepare, card, path, options, cache)


def is_compiled(card: ModelCard, path: Path, options: RunOptions, cache: EngineCache) -> bool:
    """Whether `load_aot` would find the package in the cache, and so be quick."""
    if card.weights.format not in NETWORKS or not cache.has_any(package_name(card)):
        return False
    network = NETWORKS[card.weights.format](card, path, options)
    placed = torch_eager.place(network, card, options)
    return AheadCompiler(card, path, cache).is_cached(*placed)


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            'eager',
            'torch, operation by operation',
            partial(load_torch, torch_eager.as_it_is),
            runs_networks=True,
            runs_in_torch=True,
        ),
        Engine(
            'cuda_graph',
            'torch, replayed as CUDA graphs, one per input size; GPU only',
            partial(load_torch, torch_eager.as_cuda_graph),
            runs_networks=True,
            needs_cuda=True,
            runs_in_torch=True,
        ),
        Engine(
            'compile',
            'torch.compile, on a GPU replayed as CUDA graphs; compiles at every start',
            partial(load_torch, torch_eager.as_compiled),
            runs_networks=True,
            runs_in_torch=True,
            require=torch_eager.require_compiler,
        ),
        Engine(
            'aot',
            'torch.export and AOTInductor; compiles once and keeps the result in the cache',
            load_aot,
            runs_networks=True,
            runs_in_torch=True,
        ),
        Engine(
            'onnxruntime',
            'ONNX Runtime, on the CPU or through CUDA',
            onnx_runtime.load,
            files=frozenset({'onnx'}),
            runs_networks=True,
            require=require_onnxruntime,
        ),
        Engine(
            'tensorrt',
            "ONNX Runtime's TensorRT; NVIDIA GPUs only; builds for minutes, once",
            onnx_runtime.load_tensorrt,
            files=frozenset({'onnx'}),
            runs_networks=True,
            require=require_onnxruntime,
            needs_cuda=True,
        ),
        Engine(
            'openvino',
            'OpenVINO; CPU only',
            openvino_runtime.load,
            files=frozenset({'onnx', 'tflite'}),
            runs_networks=True,
            require=partial(
                require_library,
                'openvino',
                'openvino',
                'openvino',
                "run models with engine 'openvino'",
            ),
        ),
        Engine(
            'triton',
            'a model server: Triton or another that speaks KServe v2 over gRPC',
            served.load,
            files=frozenset({'triton'}),
            require=partial(
                require_library, 'tritonclient', 'tritonclient', 'triton', 'ask a model server'
            ),
        ),
        Engine(
            'litert',
            'LiteRT, formerly TensorFlow Lite; CPU only',
            litert.load,
            files=frozenset({'tflite'}),
            require=partial(
                require_library,
                'ai_edge_litert',
                'ai-edge-litert',
                'tflite',
                'run .tflite models',
            ),
        ),
    )
}
"""Engine by name."""

_NATIVE = {'onnx': 'onnxruntime', 'tflite': 'litert', 'triton': 'triton'}


def native_engine(weights_format: str) -> Engine:
    """The engine that a format is made for: torch networks run eagerly, files in their library."""
    name = 'eager' if weights_format in NETWORKS else _NATIVE[weights_format]
    return ENGINES[name]


def select_engine(card: ModelCard, options: RunOptions) -> Engine:
    """The engine that the options ask for, by name or as the native one.

    Raises:
        ConfigurationError: it does not run the model's format, or something is missing.
        MissingExtraError: its library is not installed.
    """
    weights_format = card.weights.format
    if options.engine == 'native':
        engine = native_engine(weights_format)
    else:
        engine = ENGINES[options.engine]
    if not engine.takes(card):
        able = [e.name for e in ENGINES.values() if e.takes(card)]
        asked = f' of models that take {card.output.kind}' if card.output.is_asked else ''
        raise ConfigurationError(
            f'engine: expected one that runs {weights_format} files{asked} like those of '
            f"{card.name}: {', '.join(able)}, or auto; got '{options.engine}'"
        )
    engine.require()
    return engine
