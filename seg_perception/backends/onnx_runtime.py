"""Runs ONNX files through onnxruntime.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg_perception.backends.batches import check_batch, filled_up
from seg_perception.backends.devices import device_name, select_device
from seg_perception.backends.failures import translated
from seg_perception.backends.outputs import OutputDecoder
from seg_perception.backends.protocol import ModelOutput, RunOptions
from seg_perception.errors import (
    DeviceError,
    InferenceError,
    MissingExtraError,
    WeightsError,
)
from seg_perception.models.card import ModelCard

_FLOATS = {'tensor(float)': torch.float32, 'tensor(float16)': torch.float16}
_PIXELS = {'tensor(uint8)': torch.uint8}
_CUDA, _CPU = 'CUDAExecutionProvider', 'CPUExecutionProvider'


def load(card: ModelCard, weights_path: Path, options: RunOptions) -> OnnxBackend:
    """Opens an ONNX file.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        WeightsError: the file is not an ONNX model that it can run, or takes no image.
        ModelCardError: its output contradicts the card.
        DeviceError, ConfigurationError: the options cannot be met here.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError('onnxruntime', 'onnx', 'run .onnx models') from error
    device = _select_device(options, onnxruntime.get_available_providers())
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.num_threads
    settings.log_severity_level = 3
    providers: list[Any] = [_CPU]
    if device.type == 'cuda':
        providers.insert(0, (_CUDA, {'device_id': device.index}))
    try:
        session = onnxruntime.InferenceSession(str(weights_path), settings, providers=providers)
    except Exception as error:
        raise WeightsError(
            f'{weights_path}: is not an ONNX model that onnxruntime {onnxruntime.__version__} '
            f'can run: {str(error)[:300]}'
        ) from error
    if device.type == 'cuda' and session.get_providers()[0] != _CUDA:
        raise DeviceError(
            f"device: expected '{device}', but onnxruntime could not start {_CUDA} and would run "
            f"on the CPU; check its CUDA and cuDNN libraries, or use device 'cpu'"
        )
    return OnnxBackend(session, card, options, device, onnxruntime.__version__)


class OnnxBackend:
    """An onnxruntime session; see `Backend`.

    The image input may be NCHW or NHWC, float32, float16 or uint8; sizes that the file fixes are
    honoured. uint8 takes the normalised values rounded, so its card says mean 0 and std 1.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        card: the model's.
        options: how to run it.
        device: where the session runs.
        version: onnxruntime's.

    Raises:
        WeightsError: the model takes no image batch.
        ModelCardError: its output contradicts the card.
        DeviceError: another precision than the file's is asked for.
    """

    name = 'onnxruntime'
    channels_last = False
    dtype = torch.float32

    def __init__(
        self,
        session: Any,
        card: ModelCard,
        options: RunOptions,
        device: torch.device,
        version: str,
    ) -> None:
        self.device = device
        self._card = card
        self._options = options
        self._version = version
        image = _image_input(session, card)
        self._input_name = image.name
        self._input_dtype = (_FLOATS | _PIXELS)[image.type]
        if self._input_dtype.is_floating_point:
            self.dtype = self._input_dtype
        has_precision = 'fp16' if self.dtype == torch.float16 else 'fp32'
        if options.precision not in ('auto', has_precision):
            raise DeviceError(
                f'{card.name}: precision: expected auto or {has_precision}, as the file has it, '
                f'got {options.precision}; convert the file'
            )
        self._is_nhwc = image.shape[3] == 3 and image.shape[1] != 3
        height, width = image.shape[1:3] if self._is_nhwc else image.shape[2:4]
        is_fixed = isinstance(height, int) and isinstance(width, int)
        self.input_hw_fixed = (height, width) if is_fixed else None
        self._fixed_batch = image.shape[0] if isinstance(image.shape[0], int) else None
        self.max_batch = self._fixed_batch
        self._decoder = OutputDecoder(card)
        outputs = session.get_outputs()
        self._decoder.check_shape(outputs[0].shape)
        self._output_names = [output.name for output in outputs]
        if not self._decoder.reads_all:
            del self._output_names[1:]
        self._session = session

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`."""
        if self._session is None:
            raise InferenceError(f'{self._card.name}: is closed')
        check_batch(batch_B3HW, self._card.name, self.device, self.input_hw_fixed, self.max_batch)
        shape = tuple(batch_B3HW.shape)
        with torch.inference_mode(), translated(self._card.name, f'on a batch of {shape}'):
            image = self._as_input(batch_B3HW)
            run = self._run_cuda if self.device.type == 'cuda' else self._run_cpu
            return self._decoder(run(image), (shape[2], shape[3]), shape[0])

    def _as_input(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        image = batch_B3HW
        if self._fixed_batch is not None:
            image = filled_up(image, self._fixed_batch)
        if not self._input_dtype.is_floating_point:
            image = image.round().clamp(0, 255)
        image = image.to(self._input_dtype)
        return (image.permute(0, 2, 3, 1) if self._is_nhwc else image).contiguous()

    def _run_cpu(self, image: torch.Tensor) -> list[torch.Tensor]:
        outputs = self._session.run(self._output_names, {self._input_name: image.numpy()})
        return [torch.from_numpy(np.ascontiguousarray(output)) for output in outputs]

    def _run_cuda(self, image: torch.Tensor) -> list[torch.Tensor]:
        index = self.device.index
        binding = self._session.io_binding()
        dtype = str(self._input_dtype).removeprefix('torch.')
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

    def warm_up(self, input_hw: tuple[int, int], batch: int = 1) -> None:
        """See `Backend.warm_up`."""
        batch = min(batch, self.max_batch or batch)
        zeros = torch.zeros(batch, 3, *input_hw, device=self.device, dtype=self.dtype)
        for _ in range(2):
            self.infer(zeros)

    def close(self) -> None:
        """See `Backend.close`."""
        self._session = None

    def description(self) -> dict[str, str]:
        """See `Backend.description`."""
        return {
            'backend': self.name,
            'device': device_name(self.device),
            'precision': str(self._input_dtype).removeprefix('torch.'),
            'num_threads': str(self._options.num_threads or 'default'),
            'onnxruntime': self._version,
        }


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


def _image_input(session: Any, card: ModelCard) -> Any:
    """The only input, where it is an image batch."""
    inputs = session.get_inputs()
    image = inputs[0]
    is_image = (
        len(inputs) == 1
        and len(image.shape) == 4
        and 3 in (image.shape[1], image.shape[3])
        and image.type in _FLOATS | _PIXELS
    )
    if not is_image:
        found = ', '.join(f'{i.name}: {i.type} {i.shape}' for i in inputs)
        raise WeightsError(
            f'{card.name}: expected one input of float32, float16 or uint8 with 3 channels, '
            f'[B, 3, H, W] or [B, H, W, 3], got {found}'
        )
    return image
