"""Engines are compared with the native one on images, and what cannot run says why."""

from __future__ import annotations

import json

import cv2
import pytest

from seg_perception.benchmarks.contenders import Contender, parse_contender
from seg_perception.benchmarks.engine_parity import measure_parity, to_table
from seg_perception.cli.main import main
from seg_perception.errors import ConfigurationError, InputError


@pytest.fixture
def images(tmp_path):
    skimage = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    image = cv2.resize(skimage.astronaut(), (160, 160), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / 'astronaut.png'), image[..., ::-1])
    (tmp_path / 'notes.txt').write_text('no image')
    return tmp_path


def test_rows_of_the_default_model(images, capsys):
    arguments = ['bench', '--parity', '--engine', 'eager,litert', '--images', str(images)]
    assert main([*arguments, '--json', '--device', 'cpu']) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {(row['engine'], row['precision']): row for row in document['rows']}
    assert set(rows) == {(e, p) for e in ('eager', 'litert') for p in ('fp32', 'bf16')}
    exact, rounded = rows['eager', 'fp32'], rows['eager', 'bf16']
    assert exact['agreement'] == 1.0
    assert exact['runs_in'] == 'fp32'
    assert 0.97 < rounded['least_agreement'] <= rounded['agreement'] <= 1.0
    assert rounded['runs_in'] == 'bf16'
    assert rounded['infer_ms'] > 0.0
    assert rounded['total_ms'] > rounded['infer_ms']
    assert rounded['cpu_ms'] > 0.0
    assert 'expected one that runs safetensors' in rows['litert', 'fp32']['problem']
    table = to_table(document)
    assert '| deeplabv3_mobilenetv2.voc21 | eager | fp32 | 100.00% | 100.00% |' in table


def test_a_folder_without_images_is_told(tmp_path):
    with pytest.raises(InputError, match='expected images'):
        measure_parity(['deeplabv3_mobilenetv2.voc21'], images=tmp_path, device='cpu')


def test_models_of_other_classes_are_not_compared(images):
    names = ['deeplabv3_mobilenetv2.voc21', 'deeplabv3plus_mobilenetv2.ade20k31']
    with pytest.raises(ConfigurationError, match='same classes'):
        measure_parity(names, images=images, device='cpu')


def test_contenders_are_read():
    assert parse_contender('a.onnx') == Contender('a.onnx')
    text = 'net,engine=openvino,precision=bf16,weights=/w.safetensors'
    contender = parse_contender(text)
    assert contender == Contender('net', 'openvino', 'bf16', '/w.safetensors')
    assert contender.title == 'net openvino bf16'


@pytest.mark.parametrize(
    'text',
    ['', ',engine=eager', 'net,engine=tvm', 'net,precision=fp8', 'net,size=3', 'net,engine',
     'net,engine=eager,engine=aot'],
)  # fmt: skip
def test_what_is_no_contender(text):
    with pytest.raises(ConfigurationError, match='expected'):
        parse_contender(text)
