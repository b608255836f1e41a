"""Runs TFLite files through LiteRT (formerly TensorFlow Lite), on the CPU.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.backends.batches import filled_up
from seg_perception.backends.devices import select_device
from seg_perception.backends.engine_cache import EngineCache
from seg_perception.backends.failures import one_line
from seg_perception.backends.file_backend import FileBackend
from seg_perception.backends.protocol import RunOptions
from seg_perception.errors import (
    DeviceError,
    MissingExtraError,
    WeightsError,
)
from seg_perception.imaging.quantise import Quantisation
from seg_perception.models.card import ModelCard
from seg_perception.models.tflite_file import read_tflite

_INPUT_DTYPES = (np.uint8, np.int8, np.float32)


def load(
    card: ModelCard, weights_path: Path, options: RunOptions, cache: EngineCache
) -> LiteRtBackend:
    """Opens a TFLite file; nothing is cached.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
        WeightsError: the file is not a TFLite model, or takes no image.
        ModelCardError: its output contradicts the card.
        DeviceError, ConfigurationError: the options cannot be met here.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingExtraError('ai-edge-litert', 'tflite', 'run .tflite models') from error
    if options.device != 'auto' and select_device(options.device).type != 'cpu':
        raise DeviceError(
            f'device: expected auto or cpu, because .tflite models run on the CPU, got '
            f"'{options.device}'"
        )
    read_tflite(weights_path)
    try:
        interpreter = Interpreter(
            model_path=str(weights_path), num_threads=options.num_threads or None
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise WeightsError(
            f'{weights_path}: is not a TFLite model that LiteRT can run: {one_line(error)}'
        ) from error
    return LiteRtBackend(interpreter, card, options)


class LiteRtBackend(FileBackend):
    """A LiteRT interpreter; see `Backend`.

    It takes normalised float32 images like every backend, and for an integer input also what the
    file's quantisation makes of them, which saves a way through floats; outputs with a scale are
    dequantised.

    Args:
        interpreter: an allocated ``ai_edge_litert.interpreter.Interpreter``.
        card: the model's.
        options: how to run it.

    Raises:
        WeightsError: the model takes no image batch.
        ModelCardError: its output contradicts the card.
        DeviceError: another precision than the file's is asked for.
    """

    name = 'litert'
    channels_last = True  # TFLite images are NHWC

    _num_warm_up_runs = 1

    def __init__(self, interpreter: Any, card: ModelCard, options: RunOptions) -> None:
        self._input = _image_input(interpreter, card)
        quantisation = quantisation_of(self._input)
        precision = 'fp32' if quantisation is None else 'int8'
        super().__init__(card, options, torch.device('cpu'), precision, channels_first=False)
        self.input_quantisation = quantisation
        outputs = interpreter.get_output_details()
        self._outputs = outputs if self._decoder.reads_all else outputs[:1]
        signature = [int(side) for side in self._input['shape_signature']]
        height, width = signature[1:3]
        self.input_hw_fixed = (height, width) if min(height, width) > 0 else None
        self.max_batch = signature[0] if signature[0] > 0 else None
        signature = self._outputs[0]['shape_signature'].tolist()
        self._decoder.check_shape([side if side > 0 else '?' for side in signature])
        self._allocated = tuple(int(side) for side in self._input['shape'])
        self._interpreter = interpreter

    def _run(self, batch_B3HW: torch.Tensor) -> list[torch.Tensor]:
        if self.max_batch is not None:
            batch_B3HW = filled_up(batch_B3HW, self.max_batch)
        image_BHW3 = self._stored(batch_B3HW.permute(0, 2, 3, 1))
        if image_BHW3.shape != self._allocated:
            self._interpreter.resize_tensor_input(self._input['index'], image_BHW3.shape)
            self._interpreter.allocate_tensors()
            self._allocated = image_BHW3.shape
        self._interpreter.set_tensor(self._input['index'], image_BHW3)
        self._interpreter.invoke()
        return [self._output(details) for details in self._outputs]

    def _stored(self, image_BHW3: torch.Tensor) -> npt.NDArray[Any]:
        """What the file wants: bytes as they are, numbers as its input stores them."""
        quantisation = self.input_quantisation
        if quantisation is None:
            return np.ascontiguousarray(image_BHW3.float().numpy())
        if not image_BHW3.is_floating_point():
            return np.ascontiguousarray(image_BHW3.numpy())
        return np.ascontiguousarray(quantisation.stored(image_BHW3.float().numpy()))

    def _output(self, details: dict[str, Any]) -> torch.Tensor:
        stored = torch.from_numpy(self._interpreter.get_tensor(details['index']))
        return stored if self._card.output.kind == 'labels' else dequantise(stored, details)

    def _release(self) -> None:
        self._interpreter = None


def quantisation_of(tensor: dict[str, Any]) -> Quantisation | None:
    """How a TFLite tensor stores numbers as integers; None where it holds floats.

    Args:
        tensor: LiteRT's details of the tensor (``dtype``, ``quantization``).
    """
    dtype = np.dtype(tensor['dtype'])
    if dtype == np.float32:
        return None
    scale, zero_point = tensor['quantization']
    return Quantisation(dtype.name, float(scale), int(zero_point))


def dequantise(stored: torch.Tensor, tensor: dict[str, Any]) -> torch.Tensor:
    """The real numbers, float32, that a TFLite tensor stands for."""
    scale, zero_point = tensor['quantization']
    values = stored.to(torch.float32)
    return values.sub_(float(zero_point)).mul_(float(scale)) if scale else values


def _image_input(interpreter: Any, card: ModelCard) -> dict[str, Any]:
    """The only input, where it is an image batch."""
    inputs = interpreter.get_input_details()
    image: dict[str, Any] = inputs[0]
    is_image = len(inputs) == 1 and len(image['shape']) == 4 and image['shape'][3] == 3
    if not is_image or image['dtype'] not in _INPUT_DTYPES:
        found = ', '.join(
            f'{i["name"]}: {np.dtype(i["dtype"]).name} {i["shape"].tolist()}' for i in inputs
        )
        raise WeightsError(
            f'{card.name}: expected one input [B, H, W, 3] of uint8, int8 or float32, got {found}'
        )
    return image
