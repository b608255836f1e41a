"""Runs torch networks, eagerly, compiled or as replayed CUDA graphs.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from seg_perception.backends.batches import check_batch
from seg_perception.backends.devices import device_name, select_device, select_dtype
from seg_perception.backends.failures import translated
from seg_perception.backends.outputs import channel_axis, first_tensor, interpret
from seg_perception.backends.protocol import Backend, ModelOutput, RunOptions
from seg_perception.errors import ConfigurationError, InferenceError
from seg_perception.models import nets
from seg_perception.models.card import ModelCard
from seg_perception.models.weights import load_into, load_state_dict, rename_keys

Network = Callable[[torch.Tensor], torch.Tensor]

MAX_CUDA_GRAPHS = 16
"""Input shapes that get a graph of their own; each holds the memory of one forward pass."""


def load(card: ModelCard, weights_path: Path, options: RunOptions) -> TorchBackend:
    """Builds the card's network and fills it with the weights of a file.

    Raises:
        WeightsError: the file cannot be read safely or does not fit the network.
        DeviceError, ConfigurationError: the options cannot be met here.
    """
    assert card.architecture is not None  # the card's own check
    network = nets.build(card.architecture, len(card.classes), **card.architecture_options)
    state = rename_keys(load_state_dict(weights_path, card.weights.format), card.weights)
    load_into(network, state, f'{card.name}: {weights_path.name}')
    return TorchBackend(network, card, options)


class TorchBackend:
    """A torch network on one device in one precision; see `Backend`.

    Args:
        network: maps (B, 3, H, W) to logits; taken over and changed (device, precision, layout).
        card: the model's.
        options: how to run it.

    Raises:
        DeviceError: the device or precision is not there.
        ConfigurationError: ``compile`` without a compiler.
    """

    name = 'torch'
    input_hw_fixed: tuple[int, int] | None = None
    max_batch: int | None = None

    def __init__(self, network: torch.nn.Module, card: ModelCard, options: RunOptions) -> None:
        self.device = select_device(options.device)
        self.dtype = select_dtype(self.device, options)
        self.channels_last = options.channels_last != 'off'
        self._card = card
        self._options = options
        self._layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self._num_parameters = sum(p.numel() for p in network.parameters())
        with translated(card.name, f'on its way to {self.device}'):
            network = network.eval().requires_grad_(False).to(self.device, self.dtype)
            network = network.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._network: Network | None = compiled(network) if options.compile else network
        wants_graphs = options.cuda_graph
        if wants_graphs and self.device.type != 'cuda':
            raise ConfigurationError(
                f'cuda_graph: expected a CUDA device, the model runs on {self.device}; turn it off'
            )
        self._graphs = CudaGraphs(self._network) if wants_graphs else None

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`. The input's precision and layout are converted where needed."""
        if self._network is None:
            raise InferenceError(f'{self._card.name}: is closed')
        check_batch(batch_B3HW, self._card.name, self.device, None, None)
        use_threads(self._options.num_threads)
        shape = tuple(batch_B3HW.shape)
        with torch.inference_mode(), translated(self._card.name, f'on a batch of {shape}'):
            batch = batch_B3HW.to(self.device, self.dtype, memory_format=self._layout)
            run = self._graphs if self._graphs is not None else self._network
            output = first_tensor(run(batch))
            return interpret(output, channel_axis(output.shape, self._card), self._card)

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`; compiles and captures what that size needs."""
        run_on_zeros(self, input_hw, batch)

    def close(self) -> None:
        """See `Backend.close`."""
        if self._network is None:
            return
        self._network = self._graphs = None
        give_memory_back(self.device)

    def description(self) -> dict[str, str]:
        """See `Backend.description`."""
        return {
            'backend': self.name,
            'device': device_name(self.device),
            'precision': str(self.dtype).removeprefix('torch.'),
            'channels_last': str(self.channels_last),
            'compile': str(self._options.compile),
            'cuda_graph': str(self._options.cuda_graph),
            'num_threads': str(self._options.num_threads or torch.get_num_threads()),
            'num_parameters': str(self._num_parameters),
            'torch': torch.__version__,
        }


def run_on_zeros(backend: Backend, input_hw: tuple[int, int], batch: int) -> None:
    """Warms up a torch backend and waits for its device."""
    batch = min(batch, backend.max_batch or batch)
    zeros = torch.zeros(batch, 3, *input_hw, device=backend.device, dtype=backend.dtype)
    for _ in range(2):  # the second run sees allocations and autotuning of the first done
        backend.infer(zeros)
    if backend.device.type == 'cuda':
        torch.cuda.synchronize(backend.device)


def give_memory_back(device: torch.device) -> None:
    """Returns what nobody refers to any more, on the device too."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()


class CudaGraphs:
    """Captures a network once per input shape and replays it; launches cost almost nothing then.

    The output is a static buffer that the next call with the same shape overwrites. Shapes after
    the first `MAX_CUDA_GRAPHS` run without a graph.

    Args:
        network: a callable of static control flow, on CUDA, under ``inference_mode``.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._pool: Any = None
        self._captured: dict[
            tuple[int, ...], tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]
        ] = {}

    def __call__(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """Runs the network."""
        shape = tuple(batch_B3HW.shape)
        if shape not in self._captured:
            if len(self._captured) >= MAX_CUDA_GRAPHS:
                return first_tensor(self._network(batch_B3HW))
            self._captured[shape] = self._capture(batch_B3HW)
        graph, static_input, static_output = self._captured[shape]
        static_input.copy_(batch_B3HW)
        graph.replay()
        return static_output

    def _capture(
        self, batch_B3HW: torch.Tensor
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        with torch.cuda.device(batch_B3HW.device):
            static_input = batch_B3HW.clone(memory_format=torch.preserve_format)
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):  # lets cuDNN choose and allocate outside of the capture
                    self._network(static_input)
            torch.cuda.current_stream().wait_stream(side)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # thread_local: other threads of the process may use CUDA meanwhile
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode='thread_local'):
                static_output = first_tensor(self._network(static_input))
        return graph, static_input, static_output


def compiled(network: torch.nn.Module) -> Network:
    """``torch.compile`` of a network, after checking that the compiler it needs is there.

    Raises:
        ConfigurationError: there is no C++ compiler.
    """
    candidates = [os.environ.get('CXX', ''), 'g++', 'clang++']
    if not any(shutil.which(name) for name in candidates if name):
        raise ConfigurationError(
            'compile: expected a C++ compiler, found neither $CXX nor g++ nor clang++; install '
            'one (Debian, Ubuntu: apt install g++ python3-dev) or turn compile off'
        )
    module: Network = torch.compile(network)
    return module


def use_threads(num_threads: int) -> None:
    """Makes torch use that many CPU threads in the calling thread; 0 leaves its default.

    OpenMP counts per calling thread, so it is set where the work is done, not where it was
    configured.
    """
    if num_threads and torch.get_num_threads() != num_threads:
        torch.set_num_threads(num_threads)
