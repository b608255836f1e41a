"""Runs ONNX files through onnxruntime.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg_perception.backends.devices import select_device, select_dtype
from seg_perception.backends.engine_cache import CacheEntry, EngineCache
from seg_perception.backends.exporting import example_batch, export_onnx
from seg_perception.backends.failures import one_line
from seg_perception.backends.file_backend import FileBackend
from seg_perception.backends.graph_input import GraphInput
from seg_perception.backends.graph_network import GraphNetwork
from seg_perception.backends.model_facts import library_versions, model_facts, source_hash
from seg_perception.backends.networks import NETWORKS
from seg_perception.backends.protocol import PRECISION_NAMES, RunOptions
from seg_perception.errors import (
    DeviceError,
    MissingExtraError,
    WeightsError,
)
from seg_perception.models.card import ModelCard

_DTYPES = {
    'tensor(float)': torch.float32,
    'tensor(float16)': torch.float16,
    'tensor(uint8)': torch.uint8,
}
_CUDA, _CPU = 'CUDAExecutionProvider', 'CPUExecutionProvider'
_TENSORRT = 'TensorrtExecutionProvider'
_FILE = 'model.onnx'

PRECISION_KEY = 'seg_perception_precision'
"""Key of the metadata where a quantised file says ``int8``."""


def load(
    card: ModelCard, weights_path: Path, options: RunOptions, cache: EngineCache
) -> OnnxBackend:
    """Opens an ONNX file, or what a torch network gives as one.

    Raises:
        MissingExtraError: onnxruntime, or what the export of a torch network needs, is not there.
        WeightsError: the file is not an ONNX model that it can run, or takes no image.
        ModelError: the torch network cannot be exported.
        ModelCardError: its output contradicts the card.
        DeviceError: the options cannot be met here.
    """
    device = _select_device(options, _available_providers())
    providers: list[Any] = [_CPU]
    if device.type == 'cuda':
        providers.insert(0, (_CUDA, {'device_id': device.index}))
    return _open(card, weights_path, options, cache, device, providers)


def load_tensorrt(
    card: ModelCard, weights_path: Path, options: RunOptions, cache: EngineCache
) -> OnnxBackend:
    """The same, on NVIDIA's TensorRT; what it has built for a GPU is kept in the cache.

    Raises:
        DeviceError: this onnxruntime has no TensorRT, or cannot start it.
        Others: as `load`.
    """
    available = _available_providers()
    if _TENSORRT not in available:
        raise DeviceError(
            f"engine: tensorrt expects ONNX Runtime's {_TENSORRT}, this onnxruntime has only "
            f'{", ".join(available)}; pip install onnxruntime-gpu and tensorrt, on a machine '
            f'with an NVIDIA GPU'
        )
    device = _select_device(options, available)
    if device.type != 'cuda':
        raise DeviceError(f"engine: tensorrt expects a CUDA device, got device '{device}'")
    folder = cache.root / 'tensorrt'
    tensorrt = {
        'device_id': device.index,
        'trt_fp16_enable': options.precision in ('auto', 'fp16'),
        'trt_engine_cache_enable': True,
        'trt_engine_cache_path': str(folder),
        'trt_timing_cache_enable': True,
    }
    # TensorRT takes its networks in fp32 and rounds by itself
    as_fp32 = dataclasses.replace(options, precision='fp32')
    providers = [(_TENSORRT, tensorrt), (_CUDA, {'device_id': device.index}), _CPU]
    return _open(card, weights_path, as_fp32, cache, device, providers)


def _available_providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError('onnxruntime', 'onnx', 'run .onnx models') from error
    return list(onnxruntime.get_available_providers())


def _open(
    card: ModelCard,
    weights_path: Path,
    options: RunOptions,
    cache: EngineCache,
    device: torch.device,
    providers: list[Any],
) -> OnnxBackend:
    import onnxruntime

    remark = ''
    if card.weights.format != 'onnx':
        entry = onnx_of_network(card, weights_path, options, cache, device)
        weights_path, remark = entry.folder / _FILE, entry.remark
        options = dataclasses.replace(options, precision='auto')
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.num_threads
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(weights_path), settings, providers=providers)
    except Exception as error:
        raise WeightsError(
            f'{weights_path}: is not an ONNX model that onnxruntime {onnxruntime.__version__} '
            f'can run: {one_line(error)}'
        ) from error
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise DeviceError(
            f"device: expected '{device}', but onnxruntime could not start {wanted} and would run "
            f'the model elsewhere; check its CUDA, cuDNN and TensorRT libraries, or use another '
            f"engine or device 'cpu'"
        )
    return OnnxBackend(session, card, options, device, onnxruntime.__version__, remark)


def onnx_of_network(
    card: ModelCard,
    weights_path: Path,
    options: RunOptions,
    cache: EngineCache,
    device: torch.device,
) -> CacheEntry:
    """The ONNX file of a torch network, exported where the cache has none: seconds, once.

    Raises:
        DeviceError: a precision that onnxruntime does not have on the device.
        Others: as `load`.
    """
    network = NETWORKS[card.weights.format](
        card, weights_path, dataclasses.replace(options, device='cpu', precision='auto')
    )
    dtype = network.dtype if isinstance(network, GraphNetwork) else select_dtype(device, options)
    if dtype == torch.bfloat16:
        raise DeviceError(
            f'{card.name}: precision: expected auto, fp32 or, on a GPU, fp16 for onnxruntime, got '
            f"bf16; use engine 'openvino', 'eager' or 'compile'"
        )

    def write(folder: Path) -> None:
        cpu = torch.device('cpu')
        if not isinstance(network, GraphNetwork):
            network.to(dtype)
        example = example_batch(card, network, cpu, dtype)
        export_onnx(network, example, folder / _FILE, card.name)

    facts = {
        **model_facts(card, weights_path, network),
        **library_versions('onnx', 'onnxscript'),
        'dtype': str(dtype),
        'maker': source_hash(export_onnx.__module__),
    }
    return cache.entry(f'{card.name}-onnx', facts, write)


class OnnxBackend(FileBackend):
    """An onnxruntime session; see `Backend`.

    The image input may be NCHW or NHWC, float32, float16 or uint8; sizes that the file fixes are
    honoured. uint8 takes the normalised values rounded, so its card says mean 0 and std 1.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        card: the model's.
        options: how to run it.
        device: where the session runs.
        version: onnxruntime's.
        remark: for people, on where the file comes from.

    Raises:
        WeightsError: the model takes no image batch.
        ModelCardError: its output contradicts the card.
        DeviceError: another precision than the file's is asked for.
    """

    name = 'onnxruntime'

    def __init__(
        self,
        session: Any,
        card: ModelCard,
        options: RunOptions,
        device: torch.device,
        version: str,
        remark: str = '',
    ) -> None:
        self._input_name, self._input = _image_input(session, card)
        if self._input.dtype.is_floating_point:
            self.dtype = self._input.dtype
        super().__init__(card, options, device, _precision_of(session, self.dtype))
        self._version = version
        self._remark = remark
        self.input_hw_fixed = self._input.hw_fixed
        self.max_batch = self._input.batch_fixed
        self.input_quantisation = self._input.quantisation(self.device)
        outputs = session.get_outputs()
        self._decoder.check_shape(outputs[0].shape)
        self._output_names = [output.name for output in outputs]
        if not self._decoder.reads_all:
            del self._output_names[1:]
        self._session = session

    def _run(self, batch_B3HW: torch.Tensor) -> list[torch.Tensor]:
        image = self._input.take(batch_B3HW)
        return self._run_cuda(image) if self.device.type == 'cuda' else self._run_cpu(image)

    def _run_cpu(self, image: torch.Tensor) -> list[torch.Tensor]:
        outputs = self._session.run(self._output_names, {self._input_name: image.numpy()})
        return [torch.from_numpy(np.ascontiguousarray(output)) for output in outputs]

    def _run_cuda(self, image: torch.Tensor) -> list[torch.Tensor]:
        index = self.device.index
        binding = self._session.io_binding()
        dtype = str(self._input.dtype).removeprefix('torch.')
        binding.bind_input(
            self._input_name,
            'cuda',
            index,
            np.dtype(dtype),
            tuple(image.shape),
            image.data_ptr(),
        )
        for name in self._output_names:
            binding.bind_output(name, 'cuda', index)
        # onnxruntime has a stream of its own: what torch queued for the input has to be done
        torch.cuda.current_stream(self.device).synchronize()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        # the bytes belong to onnxruntime and go with its value
        return [
            torch.utils.dlpack.from_dlpack(value._ortvalue.to_dlpack()).clone()
            for value in binding.get_outputs()
        ]

    def _release(self) -> None:
        self._session = None

    def _remarks(self) -> dict[str, str]:
        cache = {'cache': self._remark} if self._remark else {}
        return {'onnxruntime': self._version, **cache}


def _select_device(options: RunOptions, available: list[str]) -> torch.device:
    if options.device == 'auto' and _CUDA not in available:
        return torch.device('cpu')
    device = select_device(options.device)
    if device.type == 'cuda' and _CUDA not in available:
        raise DeviceError(
            f"device: expected '{device}', but this onnxruntime has only "
            f'{", ".join(available)}; pip install onnxruntime-gpu instead of onnxruntime, or use '
            f"device 'cpu'"
        )
    return device


def _precision_of(session: Any, dtype: torch.dtype) -> str:
    """What a file computes in: what it says itself, else what its input says."""
    stated = session.get_modelmeta().custom_metadata_map.get(PRECISION_KEY, '')
    return stated or PRECISION_NAMES[dtype]


def _image_input(session: Any, card: ModelCard) -> tuple[str, GraphInput]:
    """Name and kind of the only input, where it is an image batch."""
    inputs = session.get_inputs()
    dtype = _DTYPES.get(inputs[0].type) if len(inputs) == 1 else None
    try:
        if dtype is None:
            raise ValueError
        return inputs[0].name, GraphInput.of_shape(inputs[0].shape, dtype)
    except ValueError as error:
        found = ', '.join(f'{i.name}: {i.type} {i.shape}' for i in inputs)
        raise WeightsError(
            f'{card.name}: expected one input of float32, float16 or uint8 with 3 channels, '
            f'[B, 3, H, W] or [B, H, W, 3], got {found}'
        ) from error
