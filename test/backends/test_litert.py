"""TFLite files through LiteRT: quantisation by hand, and public quantised models as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.backends.litert import dequantise, quantisation_of
from seg_perception.errors import DeviceError, InferenceError, ModelCardError
from seg_perception.models.card import ModelCard

DATA = Path(__file__).parents[3] / 'shared' / 'data'
CPU = RunOptions(device='cpu', num_threads=1)
MakeCard = Callable[..., ModelCard]

# file, classes, pixel value of 0.0 and pixels per 1.0 of its quantised input
PUBLIC_MODELS = [
    ('coral/deeplabv3_mnv2_dm05_pascal_quant.tflite', 21, 128.0, 128.0),
    ('coral/deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite', 19, 128.0, 128.0),
    ('ade20k31/deeplabv3_mnv2_ade20k_int8.tflite', 32, 127.0, 127.5),
    ('ade20k31/deeplabv3_mnv2_ade20k_uint8.tflite', 32, 128.0, 128.0),
]


def tensor(dtype: Any, scale: float, zero_point: int) -> dict[str, Any]:
    return {'dtype': dtype, 'quantization': (scale, zero_point)}


@pytest.mark.parametrize(
    ('details', 'values', 'expected'),
    [
        # -1 -> 0, 0 -> 128, 1 -> 256 saturates at 255
        (tensor(np.uint8, 1 / 128, 128), [-1.0, 0.0, 0.5, 1.0], [0, 128, 192, 255]),
        (tensor(np.int8, 0.5, -3), [-70.0, 0.0, 1.0, 90.0], [-128, -3, -1, 127]),
        # halves go to the even neighbour, as TFLite's own quantiser's tests allow
        (tensor(np.int8, 1.0, 0), [0.5, 1.5, -0.5, 2.4], [0, 2, 0, 2]),
        # no scale: the numbers themselves
        (tensor(np.uint8, 0.0, 0), [-1.0, 3.6, 300.0], [0, 4, 255]),
    ],
)
def test_quantise_by_hand(
    details: dict[str, Any], values: list[float], expected: list[int]
) -> None:
    given = np.array(values, np.float32)
    quantisation = quantisation_of(details)
    assert quantisation is not None
    stored = quantisation.stored(given)
    assert stored.tolist() == expected
    assert stored.dtype == details['dtype']
    assert given.tolist() == pytest.approx(values)


def test_floats_are_not_quantised_and_dequantise_by_hand() -> None:
    assert quantisation_of(tensor(np.float32, 0.0, 0)) is None
    stored = torch.tensor([-3, 1, 127], dtype=torch.int8)
    assert dequantise(stored, tensor(np.int8, 0.5, -3)).tolist() == [0.0, 2.0, 65.0]
    assert dequantise(stored, tensor(np.int8, 0.0, 0)).tolist() == [-3.0, 1.0, 127.0]


def public(name: str) -> Path:
    pytest.importorskip('ai_edge_litert', reason='ai-edge-litert (extra tflite) is not installed')
    path = DATA / 'weights' / name
    if not path.is_file():
        pytest.skip(f'../shared/data/weights/{name} is not here')
    return path


def photo(size_hw: tuple[int, int]) -> np.ndarray:
    cv2 = pytest.importorskip('cv2', reason='OpenCV is not installed')
    files = sorted((DATA / 'photos_voc').rglob('*.jpg'))
    if not files:
        pytest.skip('../shared/data/photos_voc is not here')
    bgr = cv2.imread(str(files[0]))
    return np.ascontiguousarray(cv2.resize(bgr, size_hw[::-1])[..., ::-1])


@pytest.mark.parametrize(('name', 'num_classes', 'mean', 'std'), PUBLIC_MODELS)
def test_public_model_equals_feeding_it_the_pixels(
    name: str, num_classes: int, mean: float, std: float, make_card: MakeCard
) -> None:
    path = public(name)
    from ai_edge_litert.interpreter import Interpreter

    direct = Interpreter(str(path), num_threads=1)
    direct.allocate_tensors()
    image = direct.get_input_details()[0]
    pixels_YX3 = photo(tuple(image['shape'][1:3]))
    direct.set_tensor(image['index'], pixels_YX3[None])
    direct.invoke()
    expected = direct.get_tensor(direct.get_output_details()[0]['index'])

    backend = load_backend(make_card(str(path), num_classes, 'labels'), options=CPU)
    assert backend.input_hw_fixed == pixels_YX3.shape[:2]
    assert backend.max_batch == 1
    batch = torch.from_numpy(pixels_YX3).permute(2, 0, 1)[None].float().sub(mean).div(std)
    output = backend.infer(batch)
    assert output.labels_BHW is not None
    assert np.array_equal(output.labels_BHW.numpy(), expected)
    # bytes go in as they are, and mean the same
    assert backend.input_quantisation is not None
    stored = backend.input_quantisation.stored(batch.numpy())
    assert np.array_equal(stored[0].transpose(1, 2, 0), pixels_YX3)
    as_bytes = backend.infer(torch.from_numpy(stored))
    assert torch.equal(as_bytes.labels_BHW, output.labels_BHW)
    assert len(np.unique(expected)) > 1
    with pytest.raises(InferenceError, match='at most 1'):
        backend.infer(batch.repeat(2, 1, 1, 1))
    with pytest.raises(InferenceError, match='expected input of'):
        backend.infer(batch[..., :-1])
    backend.close()
    with pytest.raises(InferenceError, match='closed'):
        backend.infer(batch)


def test_card_and_file_must_agree(make_card: MakeCard) -> None:
    path = public(PUBLIC_MODELS[0][0])
    with pytest.raises(ModelCardError, match='the file gives'):
        load_backend(make_card(str(path), 21, 'logits'), options=CPU)
    few = load_backend(make_card(str(path), 2, 'labels'), options=CPU)
    pixels = torch.from_numpy(photo((513, 513))).permute(2, 0, 1)[None].float()
    with pytest.raises(InferenceError, match='expected labels 0 to 1'):
        few.infer(pixels.sub(128).div(128))


def test_another_precision_than_the_files(make_card: MakeCard) -> None:
    card = make_card(str(public(PUBLIC_MODELS[0][0])), 21, 'labels')
    quantised = load_backend(card, options=RunOptions(device='cpu', precision='int8'))
    assert quantised.description()['precision'] == 'int8'
    with pytest.raises(DeviceError, match='expected auto or int8, as the file has it'):
        load_backend(card, options=RunOptions(device='cpu', precision='fp16'))


def test_only_on_the_cpu(make_card: MakeCard, tmp_path: Path) -> None:
    pytest.importorskip('ai_edge_litert', reason='ai-edge-litert (extra tflite) is not installed')
    (tmp_path / 'm.tflite').write_bytes(b'x')
    with pytest.raises(DeviceError, match='expected'):
        load_backend(make_card(str(tmp_path / 'm.tflite')), options=RunOptions(device='cuda'))
