from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import photographs
import pytest
import torch

pytest.importorskip('kornia', reason='kornia is not installed')

from seg_perception.errors import (
    ConfigurationError,
    DeviceError,
    InputError,
    ModelError,
    SegPerceptionError,
)
from seg_perception.models import DEFAULT_MODEL, resolve
from seg_perception.models.card import card_from_mapping
from seg_perception.models.card_writing import card_document
from seg_perception.pipeline import Segmenter
from seg_perception.training import export as module
from seg_perception.training.export import compare, comparison_sizes, export
from seg_perception.training.quantisation import read_images


@pytest.mark.parametrize('export_format', ['safetensors', 'pt2', 'onnx'])
def test_an_exported_folder_says_what_the_run_says(finished_run, tmp_path, export_format):
    if export_format == 'onnx':
        for library in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(library, reason=f'{library} is not installed')
    run_dir = finished_run[1].run_dir
    done = export(run_dir, tmp_path / 'a/model', export_format)
    assert len({c.input_hw for c in done.comparisons}) == 2
    assert all(c.difference < 1e-4 for c in done.comparisons)
    names = sorted(path.name for path in done.folder.iterdir())
    assert names == ['card.yaml', f'scenes.{export_format}']
    moved = done.folder.rename(tmp_path / 'moved')  # self-contained
    images = [photographs.astronaut(72, 96), photographs.astronaut(51, 77)]
    options = {'device': 'cpu', 'trust_model_code': True}
    with Segmenter(run_dir, **options) as ours, Segmenter(moved, **options) as theirs:
        assert theirs.card.output == ours.card.output
        for one, other in zip(ours.segment(images), theirs.segment(images), strict=True):
            assert (one.labels_YX == other.labels_YX).mean() > 0.999
            difference = one.confidence_YX.astype(int) - other.confidence_YX
            assert np.abs(difference).max() <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # the quantiser's own
def test_the_default_model_in_int8(tmp_path):
    for library in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(library, reason=f'{library} is not installed')
    images = [photographs.astronaut(384, 384), photographs.astronaut(288, 384)]
    done = export(DEFAULT_MODEL, tmp_path / 'model', 'onnx', quantised_for=images)
    [comparison] = done.comparisons
    assert 0.95 < comparison.same_labels < 1.0
    names = sorted(path.name for path in done.folder.iterdir())
    assert names == ['card.yaml', f'{DEFAULT_MODEL}.onnx']
    engines = ['onnxruntime']
    if importlib.util.find_spec('openvino'):
        engines.append('openvino')
    with Segmenter(DEFAULT_MODEL, device='cpu') as exact:
        [expected] = exact.segment(images[:1])
    for engine in engines:
        with Segmenter(done.folder, device='cpu', engine=engine, precision='int8') as quantised:
            assert quantised.description()['precision'] == 'int8'
            [result] = quantised.segment(images[:1])
        assert (result.labels_YX == expected.labels_YX).mean() > 0.97
        assert not np.array_equal(result.confidence_YX, expected.confidence_YX)
    with pytest.raises(DeviceError, match='as the file has it'):
        Segmenter(done.folder, device='cpu', precision='fp32')


def test_int8_is_for_onnx_alone(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ConfigurationError, match='--int8: expected --format onnx'):
        export(DEFAULT_MODEL, tmp_path / 'model', 'pt2', quantised_for=[image])
    with pytest.raises(InputError, match='found none'):
        read_images(tmp_path)


@pytest.mark.parametrize('export_format', ['safetensors', 'pt2'])
def test_a_failure_leaves_nothing(finished_run, tmp_path, monkeypatch, export_format):
    write, weights_format, suffix = module._WRITERS[export_format]

    def altered(network, path, input_hw):
        with torch.no_grad():
            network.classifier.bias += 1.0
            write(network, path, input_hw)
            network.classifier.bias -= 1.0

    monkeypatch.setattr(module, '_WRITERS', {export_format: (altered, weights_format, suffix)})
    with pytest.raises(ModelError, match='expected the logits of the network'):
        export(finished_run[1].run_dir, tmp_path / 'model', export_format)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_touched(finished_run, tmp_path):
    (tmp_path / 'note').write_text('mine')
    with pytest.raises(ConfigurationError, match='new or empty folder'):
        export(finished_run[1].run_dir, tmp_path)
    with pytest.raises(ConfigurationError, match='--format'):
        export(finished_run[1].run_dir, tmp_path / 'x', 'tflite')
    with pytest.raises(SegPerceptionError):
        export(tmp_path / 'no_such_run', tmp_path / 'x')
    assert [path.name for path in tmp_path.iterdir()] == ['note']


def test_the_default_model_exports_with_plain_names(tmp_path):
    done = export(DEFAULT_MODEL, tmp_path / 'model')
    assert done.card.classes == resolve(DEFAULT_MODEL).classes
    assert done.card.weights.sha256
    assert done.card.measurements == resolve(DEFAULT_MODEL).measurements


def test_cards_come_back_as_they_were():
    from seg_perception.models import list_models

    for name in list_models():
        card = resolve(name)
        again = card_from_mapping(card_document(card))
        assert dataclasses.replace(again, path=card.path) == card


def test_compared_sizes_differ_in_shape():
    card = resolve(DEFAULT_MODEL)
    for size_hw in ((384, 384), (480, 360), (32, 32), (288, 512)):
        spec = dataclasses.replace(card.input, size_hw=size_hw)
        (h, w), (h2, w2) = comparison_sizes(dataclasses.replace(card, input=spec))
        assert h * w2 != w * h2
        assert {side % 32 for side in (h, w, h2, w2)} == {0}


def test_compare_notices_another_network(finished_run):
    card = finished_run[1].card
    network = module._load_network(card, None)
    assert max(c.difference for c in compare(network, card, comparison_sizes(card))) < 1e-5
    with torch.no_grad():
        network.classifier.weight *= 1.01
    with pytest.raises(ModelError, match='differs by up to'):
        compare(network, card, comparison_sizes(card))
