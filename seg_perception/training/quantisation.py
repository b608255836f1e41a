"""ONNX files in int8: quantised per channel, with the ranges that photographs call for.

Networks lose less where the photographs are like what the robot's cameras see.

B batch, H/W network input, Y/X image pixels.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from seg_perception.backends.onnx_runtime import PRECISION_KEY
from seg_perception.errors import InputError, MissingExtraError, ModelError
from seg_perception.imaging.preprocess import Preprocessor
from seg_perception.models.card import ModelCard
from seg_perception.sources.photographs import load_photograph
from seg_perception.structures import U8, Frame

MAX_IMAGES = 64
"""More change the ranges little and take minutes."""

_PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee')
_BRIGHTNESS = (0.6, 1.0, 1.3)
_SUFFIXES = ('.jpg', '.jpeg', '.png')


def read_images(folder: Path | None) -> list[U8]:
    """Photographs of a folder, evenly picked from where there are more than `MAX_IMAGES`.

    scikit-image's, in several brightnesses, where there is no folder.

    Raises:
        InputError: the folder has none.
        MissingExtraError: scikit-image is needed and not installed.
    """
    if folder is None:
        scenes = [load_photograph(name).astype(np.float32) for name in _PHOTOGRAPHS]
        return [
            np.clip(scene * factor, 0, 255).astype(np.uint8)
            for scene in scenes
            for factor in _BRIGHTNESS
        ]
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in _SUFFIXES)
    step = max(1, -(-len(paths) // MAX_IMAGES))
    pictures = [cv2.imread(str(path)) for path in paths[::step]]
    images = [np.ascontiguousarray(p[..., ::-1], np.uint8) for p in pictures if p is not None]
    if not images:
        raise InputError(f'{folder}: expected images ({", ".join(_SUFFIXES)}), found none')
    return images


def network_inputs(card: ModelCard, images: Iterable[U8]) -> Iterator[torch.Tensor]:
    """What the pipeline would make of each image, (1, 3, H, W) float32."""
    spec = card.input
    is_bgr = spec.channel_order == 'bgr'
    preprocessor = Preprocessor(
        spec.size_hw,
        spec.resize,
        spec.mean_rgb[::-1] if is_bgr else spec.mean_rgb,
        spec.std_rgb[::-1] if is_bgr else spec.std_rgb,
        spec.channel_order,
        spec.multiple_of if spec.resize == 'fit' else 1,
    )
    for image in images:
        [(batch_B3HW, _, _)] = preprocessor([Frame.from_array(image, 'rgb8')])
        yield batch_B3HW.clone()


def quantise_onnx(path: Path, inputs: Sequence[torch.Tensor], name: str) -> None:
    """Quantises an ONNX file in place: int8 weights by channel, uint8 activations.

    Args:
        path: a float32 file with one input.
        inputs: what it is fed with to see the ranges of its activations.
        name: of the model, for messages.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ModelError: it cannot be quantised.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError('onnx', 'onnx', 'quantise .onnx models') from error
    input_name = onnx.load(path, load_external_data=False).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            batch_B3HW = next(self._inputs, None)
            return None if batch_B3HW is None else {input_name: batch_B3HW.numpy()}

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises on the root logger
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter('ignore')
            prepared = Path(folder) / 'prepared.onnx'
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(path),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
            )
        model = onnx.load(path)
        onnx.helper.set_model_props(
            model, {**{p.key: p.value for p in model.metadata_props}, PRECISION_KEY: 'int8'}
        )
        onnx.save(model, path)
    except Exception as error:
        raise ModelError(
            f'{name}: cannot be quantised: {type(error).__name__}: {str(error)[:300]}'
        ) from error
    finally:
        logging.root.setLevel(level)
