"""Runs torch networks, ONNX and TFLite files through OpenVINO, on the CPU.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch

from seg_perception.backends.devices import select_device
from seg_perception.backends.engine_cache import CacheEntry, EngineCache
from seg_perception.backends.exporting import (
    WITHOUT_EXPORT,
    example_batch,
    export_program,
    fixed_sides,
)
from seg_perception.backends.failures import one_line
from seg_perception.backends.file_backend import FileBackend
from seg_perception.backends.graph_input import GraphInput
from seg_perception.backends.model_facts import library_versions, model_facts, source_hash
from seg_perception.backends.networks import NETWORKS
from seg_perception.backends.protocol import RunOptions
from seg_perception.backends.signal_stack import kept_signal_stack
from seg_perception.errors import (
    DeviceError,
    MissingExtraError,
    ModelError,
    WeightsError,
)
from seg_perception.models.card import ModelCard

_FILE = 'model.xml'
_HINTS = {'auto': 'f32', 'fp32': 'f32', 'bf16': 'bf16', 'int8': 'f32'}  # int8 is the file's own
_DTYPES = {'f32': torch.float32, 'f16': torch.float16, 'u8': torch.uint8}


def load(
    card: ModelCard, weights_path: Path, options: RunOptions, cache: EngineCache
) -> OpenVinoBackend:
    """Opens a file, or converts a torch network once and keeps the result in the cache.

    Raises:
        MissingExtraError: openvino is not installed.
        WeightsError: the file is not a model that it can run, or takes no image.
        ModelError: the torch network cannot be exported or converted.
        ModelCardError: its output contradicts the card.
        DeviceError: the options cannot be met here.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError('openvino', 'openvino', "run models with engine 'openvino'") from (
            error
        )
    if options.device != 'auto' and select_device(options.device).type != 'cpu':
        raise DeviceError(
            f"device: expected auto or cpu, because engine 'openvino' runs on the CPU, got "
            f"'{options.device}'"
        )
    core = openvino.Core()
    with kept_signal_stack():
        hint = _precision_hint(card, options, core)  # loads the CPU plugin
    remark = ''
    if card.weights.format in NETWORKS:
        entry = _converted(card, weights_path, options, cache)
        weights_path, remark = entry.folder / _FILE, entry.remark
    settings = {
        # its own default is bf16 where the CPU has it, without being asked
        'INFERENCE_PRECISION_HINT': hint,
        'PERFORMANCE_HINT': 'LATENCY',
        **({'INFERENCE_NUM_THREADS': options.num_threads} if options.num_threads else {}),
    }
    try:
        model = core.read_model(str(weights_path))
        with kept_signal_stack():
            compiled = core.compile_model(model, 'CPU', settings)
    except RuntimeError as error:
        raise WeightsError(
            f'{weights_path}: is not a model that OpenVINO {openvino.__version__} can run: '
            f'{one_line(error)}'
        ) from error
    is_int8 = any(op.get_type_name() == 'FakeQuantize' for op in model.get_ops())
    if options.precision == 'int8' and not is_int8:
        raise DeviceError(
            f'{card.name}: precision: int8 is for quantised files, got one in floats; use auto, '
            f'or make one with seg-perception export --format onnx --int8'
        )
    precision = 'int8' if is_int8 else 'bf16' if hint == 'bf16' else 'fp32'
    return OpenVinoBackend(compiled, card, options, precision, str(openvino.__version__), remark)


class OpenVinoBackend(FileBackend):
    """A model compiled by OpenVINO; see `Backend`.

    Args:
        compiled: an ``openvino.CompiledModel``.
        card: the model's.
        options: how to run it.
        precision: what it computes in.
        version: OpenVINO's.
        remark: for people, on where the converted model comes from.

    Raises:
        WeightsError: the model takes no image batch.
        ModelCardError: its output contradicts the card.
    """

    name = 'openvino'

    def __init__(
        self,
        compiled: Any,
        card: ModelCard,
        options: RunOptions,
        precision: str,
        version: str,
        remark: str,
    ) -> None:
        super().__init__(card, options, torch.device('cpu'), precision)
        self._version = version
        self._remark = remark
        self._input = _image_input(compiled, card)
        if self._input.dtype.is_floating_point:
            self.dtype = self._input.dtype
        self.input_hw_fixed = self._input.hw_fixed
        self.max_batch = self._input.batch_fixed
        self.input_quantisation = self._input.quantisation(self.device)
        shape = compiled.outputs[0].partial_shape
        self._decoder.check_shape(_sides(shape) if shape.rank.is_static else ())
        self._num_outputs = len(compiled.outputs) if self._decoder.reads_all else 1
        self._request: Any = compiled.create_infer_request()

    def _run(self, batch_B3HW: torch.Tensor) -> list[torch.Tensor]:
        image = self._input.take(batch_B3HW).numpy()
        # shared outputs would be the request's own, and may be read while it runs the next time
        results = self._request.infer({0: image}, share_inputs=True, share_outputs=False)
        return [torch.from_numpy(results[i]) for i in range(self._num_outputs)]

    def _release(self) -> None:
        self._request = None

    def _remarks(self) -> dict[str, str]:
        cache = {'cache': self._remark} if self._remark else {}
        return {'openvino': self._version, **cache}


def _converted(card: ModelCard, path: Path, options: RunOptions, cache: EngineCache) -> CacheEntry:
    import openvino

    as_fp32 = dataclasses.replace(options, device='cpu', precision='auto')
    network = NETWORKS[card.weights.format](card, path, as_fp32)

    def write(folder: Path) -> None:
        cpu = torch.device('cpu')
        dtype = getattr(network, 'dtype', torch.float32)
        example = example_batch(card, network, cpu, dtype)
        program = export_program(network, example, card.name)
        hw_fixed, batch_fixed = fixed_sides(program, example)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                model = openvino.convert_model(program)
                # the conversion leaves even the number of channels open
                model.reshape([batch_fixed or -1, 3, *(hw_fixed or (-1, -1))])
                openvino.save_model(model, str(folder / _FILE), compress_to_fp16=False)
        except Exception as error:
            raise ModelError(
                f'{card.name}: OpenVINO cannot convert it: {type(error).__name__}: '
                f'{one_line(error)}; {WITHOUT_EXPORT}'
            ) from error

    facts = {
        **model_facts(card, path, network),
        **library_versions('openvino'),
        'maker': source_hash(__name__, export_program.__module__),
    }
    return cache.entry(f'{card.name}-openvino', facts, write)


def _precision_hint(card: ModelCard, options: RunOptions, core: Any) -> str:
    hint = _HINTS.get(options.precision)
    if hint is None:
        raise DeviceError(
            f"{card.name}: precision: engine 'openvino' expects auto, fp32 or bf16, got "
            f'{options.precision}'
        )
    if hint == 'bf16' and 'BF16' not in core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        raise DeviceError(
            f'{card.name}: precision: bf16 needs a CPU with AVX512-BF16 or AMX, '
            f'{core.get_property("CPU", "FULL_DEVICE_NAME")} has neither; use auto'
        )
    return hint


def _image_input(compiled: Any, card: ModelCard) -> GraphInput:
    """The only input, where it is an image batch that can be fed without further knowledge."""
    inputs = compiled.inputs
    found = ', '.join(f'{i.element_type.get_type_name()} {i.partial_shape}' for i in inputs)
    dtype = _DTYPES.get(inputs[0].element_type.get_type_name()) if len(inputs) == 1 else None
    try:
        if dtype is None:
            raise ValueError
        image = GraphInput.of_shape(_sides(inputs[0].partial_shape), dtype)
    except ValueError as error:
        raise WeightsError(
            f'{card.name}: expected one input of float32, float16 or uint8 with 3 channels, '
            f'[B, 3, H, W] or [B, H, W, 3], got {found}'
        ) from error
    if card.weights.format == 'tflite' and not dtype.is_floating_point:
        # the scale of its input, which OpenVINO does not tell
        raise WeightsError(
            f'{card.name}: expected a .tflite file with a float32 input for OpenVINO, got '
            f"{found}; use engine 'litert', which is also quicker with quantised files"
        )
    return image


def _sides(shape: Any) -> list[object]:
    return [side.get_length() if side.is_static else '?' for side in shape]
