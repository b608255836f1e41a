"""Runs ``.pt2`` files, networks written by ``torch.export.save``.

Loading one can execute code: ``torch.export.load`` falls back to plain pickle for the sample
inputs, evaluates symbolic expressions as Python, and calls whatever function of ``torch`` the
graph names (torch/export/pt2_archive/_package.py and torch/_export/serde/serialize.py, torch
2.13). There is no safe mode, so the user has to say that the file is trusted.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export.passes import move_to_device_pass

from seg_perception.backends.batches import check_batch, filled_up
from seg_perception.backends.devices import device_name, select_device
from seg_perception.backends.failures import translated
from seg_perception.backends.outputs import channel_axis, first_tensor, interpret
from seg_perception.backends.protocol import DTYPES, ModelOutput, RunOptions
from seg_perception.backends.torch_eager import (
    CudaGraphs,
    Network,
    compiled,
    give_memory_back,
    run_on_zeros,
    use_threads,
)
from seg_perception.errors import ConfigurationError, DeviceError, InferenceError, WeightsError
from seg_perception.models.card import ModelCard


def load(card: ModelCard, weights_path: Path, options: RunOptions) -> ExportedBackend:
    """Loads an exported program that the user trusts.

    Raises:
        WeightsError: it is not trusted, or not a whole exported program.
        ModelCardError: its output contradicts the card.
        DeviceError, ConfigurationError: the options cannot be met here.
    """
    if not options.trust_model_code:
        raise WeightsError(
            f'{weights_path}: refused, because torch.export.load can execute code from a .pt2 '
            f'file; if you trust this file, say so with trust_model_code=true, else use '
            f'.safetensors, .onnx or .tflite'
        )
    try:
        program = torch.export.load(weights_path)
    except Exception as error:
        raise WeightsError(
            f'{weights_path}: is not an exported program that torch {torch.__version__} can '
            f'load: {type(error).__name__}: {str(error)[:300]}'
        ) from error
    return ExportedBackend(program, card, options)


class ExportedBackend:
    """An exported program on one device, in the precision it was exported in; see `Backend`.

    Args:
        program: takes one image batch (B, 3, H, W).
        card: the model's.
        options: how to run it.

    Raises:
        WeightsError: the program takes something else.
        ModelCardError: its output contradicts the card.
        DeviceError: the device or precision is not there.
    """

    name = 'torch.export'
    channels_last = False

    def __init__(
        self, program: torch.export.ExportedProgram, card: ModelCard, options: RunOptions
    ) -> None:
        example = _image_input(program, card)
        self.device = select_device(options.device)
        self.dtype = example.dtype
        wanted = DTYPES.get(options.precision, self.dtype)
        if wanted != self.dtype:
            raise DeviceError(
                f'{card.name}: precision: expected auto, because the file was exported in '
                f'{self.dtype}, got {options.precision}; export it anew in that precision'
            )
        height, width = example.shape[2:]
        is_fixed = isinstance(height, int) and isinstance(width, int)
        self.input_hw_fixed = (height, width) if is_fixed else None
        self._fixed_batch = example.shape[0] if isinstance(example.shape[0], int) else None
        self.max_batch = self._fixed_batch
        self._card = card
        self._options = options
        with translated(card.name, f'on its way to {self.device}'):
            if any(t.device != self.device for t in program.state_dict.values()):
                program = move_to_device_pass(program, str(self.device))
            network = program.module()
        self._network: Network | None = compiled(network) if options.compile else network
        if options.cuda_graph and self.device.type != 'cuda':
            raise ConfigurationError(
                f'cuda_graph: expected a CUDA device, the model runs on {self.device}; turn it off'
            )
        self._graphs = CudaGraphs(self._network) if options.cuda_graph else None

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`."""
        if self._network is None:
            raise InferenceError(f'{self._card.name}: is closed')
        check_batch(batch_B3HW, self._card.name, self.device, self.input_hw_fixed, self.max_batch)
        use_threads(self._options.num_threads)
        shape = tuple(batch_B3HW.shape)
        with torch.inference_mode(), translated(self._card.name, f'on a batch of {shape}'):
            batch = batch_B3HW.to(self.device, self.dtype).contiguous()
            if self._fixed_batch is not None:
                batch = filled_up(batch, self._fixed_batch)
            run = self._graphs if self._graphs is not None else self._network
            output = first_tensor(run(batch))[: shape[0]]
            return interpret(output, channel_axis(output.shape, self._card), self._card)

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`."""
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
            'compile': str(self._options.compile),
            'cuda_graph': str(self._options.cuda_graph),
            'num_threads': str(self._options.num_threads or torch.get_num_threads()),
            'torch': torch.__version__,
        }


def _image_input(program: torch.export.ExportedProgram, card: ModelCard) -> torch.Tensor:
    """The (fake) example of the program's only input."""
    names = program.graph_signature.user_inputs
    placeholders = {n.name: n for n in program.graph.nodes if n.op == 'placeholder'}
    examples = [placeholders[n].meta.get('val') for n in names if n in placeholders]
    example = examples[0] if len(examples) == 1 else None
    if (
        not isinstance(example, torch.Tensor)
        or example.ndim != 4
        or example.shape[1] != 3
        or not example.is_floating_point()
    ):
        shapes = [tuple(e.shape) if isinstance(e, torch.Tensor) else e for e in examples]
        raise WeightsError(
            f'{card.name}: expected a program of one floating-point input (B, 3, H, W), got '
            f'inputs {shapes}'
        )
    return example
