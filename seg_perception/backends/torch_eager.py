"""Runs torch networks, eagerly, compiled or as replayed CUDA graphs.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from seg_perception.backends.batches import check_batch, filled_up
from seg_perception.backends.devices import device_name, select_device, select_dtype
from seg_perception.backends.failures import translated
from seg_perception.backends.graph_network import GraphNetwork, checked_once
from seg_perception.backends.outputs import OutputDecoder, all_tensors
from seg_perception.backends.protocol import (
    DTYPES,
    PRECISION_NAMES,
    Backend,
    ModelOutput,
    RunOptions,
)
from seg_perception.errors import ConfigurationError, DeviceError, InferenceError
from seg_perception.imaging.quantise import Quantisation
from seg_perception.models.card import ModelCard

Network = Callable[[torch.Tensor], Any]

MAX_CUDA_GRAPHS = 16
"""Input shapes that get a graph of their own; each holds the memory of one forward pass."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a torch network runs.

    Attributes:
        device: with the network's weights.
        dtype: of weights and input.
        channels_last: memory format of weights and input.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    @property
    def layout(self) -> torch.memory_format:
        """The same, as torch has it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network as it is called for each batch.

    Attributes:
        run: maps a batch (B, 3, H, W) to the network's output.
        input_hw_fixed: the only input size it takes; None where any fits.
        batch_fixed: the only batch it takes; None where any fits.
        remark: for people, on how it came about.
    """

    run: Network
    input_hw_fixed: tuple[int, int] | None = None
    batch_fixed: int | None = None
    remark: str = ''


Prepare = Callable[[torch.nn.Module, Placement], Prepared]
"""Makes what is called of a network that is in its place."""


def as_it_is(network: torch.nn.Module, placement: Placement) -> Prepared:
    """Runs a network eagerly: operation by operation."""
    return Prepared(checked_once(network) if isinstance(network, GraphNetwork) else network)


def as_cuda_graph(network: torch.nn.Module, placement: Placement) -> Prepared:
    """Replays a network as CUDA graphs.

    Raises:
        ConfigurationError: the device is none of CUDA's.
    """
    if placement.device.type != 'cuda':
        raise ConfigurationError(
            f'engine: cuda_graph expects a CUDA device, the model runs on {placement.device}; '
            f'use another engine, or auto'
        )
    return Prepared(CudaGraphs(network))


def as_compiled(network: torch.nn.Module, placement: Placement) -> Prepared:
    """Runs a network through ``torch.compile``; on CUDA what it makes is replayed as a graph.

    Raises:
        ConfigurationError: there is no C++ compiler.
    """
    require_compiler()
    module: Network = torch.compile(network)
    return Prepared(CudaGraphs(module) if placement.device.type == 'cuda' else module)


def place(
    network: torch.nn.Module, card: ModelCard, options: RunOptions
) -> tuple[torch.nn.Module, Placement]:
    """Brings a network to the device, precision and layout that the options ask for.

    Args:
        network: taken over and changed, unless it is a `GraphNetwork`, which stays as it is.
        card: the model's.
        options: how to run it.

    Raises:
        DeviceError: the device or precision is not there, or not the file's.
    """
    device = select_device(options.device)
    if isinstance(network, GraphNetwork):
        if DTYPES.get(options.precision, network.dtype) != network.dtype:
            raise DeviceError(
                f'{card.name}: precision: expected auto, because the file was exported in '
                f'{network.dtype}, got {options.precision}; export it anew in that precision'
            )
        return network, Placement(device, network.dtype, channels_last=False)
    placement = Placement(device, select_dtype(device, options), options.channels_last != 'off')
    with translated(card.name, f'on its way to {device}'):
        network = network.eval().requires_grad_(False).to(device, placement.dtype)
        network = network.to(memory_format=placement.layout)  # type: ignore[call-overload]
    return network, placement


class TorchBackend:
    """A torch network on one device in one precision; see `Backend`.

    Args:
        network: maps (B, 3, H, W) to its output; see `place`.
        card: the model's.
        options: how to run it.
        prepare: makes what is called for each batch of it.

    Raises:
        DeviceError: the device or precision is not there.
        ConfigurationError: what ``prepare`` needs is not there.
    """

    name = 'torch'
    input_quantisation: Quantisation | None = None

    def __init__(
        self,
        network: torch.nn.Module,
        card: ModelCard,
        options: RunOptions,
        prepare: Prepare = as_it_is,
    ) -> None:
        network, placement = place(network, card, options)
        self.device = placement.device
        self.dtype = placement.dtype
        self.channels_last = placement.channels_last
        self._layout = placement.layout
        self._card = card
        self._decoder = OutputDecoder(card)
        self._options = options
        self._num_parameters = sum(p.numel() for p in network.parameters())
        prepared = prepare(network, placement)
        limits = network if isinstance(network, GraphNetwork) else prepared
        self.input_hw_fixed = limits.input_hw_fixed
        self.max_batch = limits.batch_fixed
        self._remark = prepared.remark
        self._network: Network | None = prepared.run

    @property
    def is_capturable(self) -> bool:
        """See `Backend.is_capturable`: where the user asked for graphs."""
        return isinstance(self._network, CudaGraphs) and self._card.output.kind in (
            'logits',
            'probabilities',
        )

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`. The input's precision and layout are converted where needed."""
        shape = tuple(batch_B3HW.shape)
        with torch.inference_mode(), translated(self._card.name, f'on a batch of {shape}'):
            return self._decoder(self._run(batch_B3HW), (shape[2], shape[3]), shape[0])

    def tensors(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All that the network gives for images, see ``outputs.all_tensors``.

        Raises:
            InferenceError: as `infer`.
        """
        shape = tuple(batch_B3HW.shape)
        with torch.inference_mode(), translated(self._card.name, f'on a batch of {shape}'):
            return self._run(batch_B3HW)

    def _run(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._network is None:
            raise InferenceError(f'{self._card.name}: is closed')
        check_batch(batch_B3HW, self._card.name, self.device, self.input_hw_fixed, self.max_batch)
        use_threads(self._options.num_threads)
        batch = batch_B3HW.to(self.device, self.dtype, memory_format=self._layout)
        if self.max_batch is not None:
            batch = filled_up(batch, self.max_batch)
        return all_tensors(self._network(batch))

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`; compiles and captures what that size needs."""
        run_on_zeros(self, input_hw, batch)

    def free_caches(self) -> None:
        """See `Backend.free_caches`."""
        if isinstance(self._network, CudaGraphs):
            self._network.forget()

    def close(self) -> None:
        """See `Backend.close`."""
        if self._network is None:
            return
        self._network = None
        give_memory_back(self.device)

    def description(self) -> dict[str, str]:
        """See `Backend.description`."""
        return {
            'backend': self.name,
            'device': device_name(self.device),
            'precision': PRECISION_NAMES[self.dtype],
            'channels_last': str(self.channels_last),
            'engine': self._options.engine,
            'num_threads': str(self._options.num_threads or torch.get_num_threads()),
            'num_parameters': str(self._num_parameters),
            'torch': torch.__version__,
            **({'cache': self._remark} if self._remark else {}),
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

    The outputs are static buffers that the next call with the same shape overwrites. Shapes after
    the first `MAX_CUDA_GRAPHS` run without a graph.

    Args:
        network: a callable of static control flow, on CUDA, under ``inference_mode``.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._pool: Any = None
        self._captured: dict[
            tuple[int, ...], tuple[torch.cuda.CUDAGraph, torch.Tensor, tuple[torch.Tensor, ...]]
        ] = {}

    def __call__(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs the network: all its tensors, see ``outputs.all_tensors``.

        While a graph of more than the network is being captured, it becomes part of that.
        """
        shape = tuple(batch_B3HW.shape)
        if torch.cuda.is_current_stream_capturing():
            return all_tensors(self._network(batch_B3HW))
        if shape not in self._captured:
            if len(self._captured) >= MAX_CUDA_GRAPHS:
                return all_tensors(self._network(batch_B3HW))
            self._captured[shape] = self._capture(batch_B3HW)
        graph, static_input, static_outputs = self._captured[shape]
        static_input.copy_(batch_B3HW)
        graph.replay()
        return static_outputs

    def forget(self) -> None:
        """Frees the graphs and their memory; shapes seen again are captured anew."""
        self._captured.clear()
        self._pool = None  # torch refuses to capture into a pool whose graphs are all gone

    def _capture(
        self, batch_B3HW: torch.Tensor
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, tuple[torch.Tensor, ...]]:
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
                static_outputs = all_tensors(self._network(static_input))
        return graph, static_input, static_outputs


def require_compiler() -> None:
    """Checks that the C++ compiler that torch's own compiler needs is there.

    Raises:
        ConfigurationError: there is none.
    """
    candidates = [os.environ.get('CXX', ''), 'g++', 'clang++']
    if not any(shutil.which(name) for name in candidates if name):
        raise ConfigurationError(
            'engine: expected a C++ compiler, found neither $CXX nor g++ nor clang++; install '
            'one (Debian, Ubuntu: apt install g++ python3-dev) or use another engine'
        )


def use_threads(num_threads: int) -> None:
    """Makes torch use that many CPU threads in the calling thread; 0 leaves its default.

    OpenMP counts per calling thread, so it is set where the work is done, not where it was
    configured.
    """
    if num_threads and torch.get_num_threads() != num_threads:
        torch.set_num_threads(num_threads)
