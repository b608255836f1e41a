from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import scenes
import torch

pytest.importorskip('kornia', reason='kornia is not installed')

from seg_perception.errors import ConfigurationError, ModelCardError
from seg_perception.models.output_spec import OutputSpec
from seg_perception.pipeline import Segmenter
from seg_perception.structures import ClassTable
from seg_perception.training.config import load_config
from seg_perception.training.datasets import Sample, dataset_configs, open_dataset
from seg_perception.training.evaluation import calibrate, evaluate, score_image


class Samples:
    """Some samples as a dataset."""

    def __init__(self, classes, samples):
        self.classes, self.ignore_id, self._samples = ClassTable(classes), 255, samples

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        return self._samples[index]

    def name(self, index):
        return self._samples[index].name


@pytest.fixture
def val_set(finished_run):
    config_path, _ = finished_run
    return open_dataset(dataset_configs(load_config(config_path).document)['val'])


@pytest.fixture
def segmenter(finished_run):
    with Segmenter(finished_run[1].run_dir, device='cpu', num_threads=1) as opened:
        yield opened


def test_score_of_an_image_by_hand():
    labels = np.array([[0, 0, 1, 1], [0, 2, 1, 0]], np.uint8)
    truth = np.array([[0, 0, 1, 255], [0, 1, 1, 255]], np.uint8)
    # class 0: 3 of 3; class 1: 2 of 3; class 2: 0 of 1
    iou, accuracy = score_image(labels, truth, 4, 255)
    assert iou == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert accuracy == pytest.approx(5 / 6)
    assert math.isnan(score_image(labels, np.full_like(truth, 255), 4, 255)[0])


def test_figures_are_those_of_the_labels_of_segment(segmenter, val_set):
    evaluation = evaluate(segmenter, val_set, name='scenes')
    right = counted = 0
    for index in range(len(val_set)):
        sample = val_set[index]
        [result] = segmenter.segment([sample.image_YX3])
        known = sample.labels_YX != 255
        right += int((result.labels_YX == sample.labels_YX)[known].sum())
        counted += int(known.sum())
        score = evaluation.images[index]
        assert score.name == sample.name
    assert evaluation.metrics.pixel_accuracy == pytest.approx(right / counted)
    summary = evaluation.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert set(summary['class_iou']) == set(scenes.NAMES)
    assert summary['num_images'] == 4
    assert 0 <= summary['ece'] < 0.2


def test_temperature_makes_confidence_honest(finished_run, val_set):
    card = finished_run[1].card
    errors = {}
    for temperature in (card.output.temperature, 3.0):
        output = dataclasses.replace(card.output, temperature=temperature)
        with Segmenter(dataclasses.replace(card, output=output), device='cpu') as segmenter:
            errors[temperature] = evaluate(segmenter, val_set).metrics.ece
            # Fitting looks at the logits alone, whatever the card says.
            assert calibrate(segmenter, val_set) == pytest.approx(
                card.output.temperature, abs=1e-4
            )
    assert errors[card.output.temperature] < errors[3.0]


def test_confidence_is_the_softmax_of_logits_over_temperature(finished_run, val_set):
    card = finished_run[1].card
    image = val_set[0].image_YX3
    results, logits = {}, {}
    for temperature in (1.0, 4.0):
        output = dataclasses.replace(card.output, temperature=temperature)
        with Segmenter(dataclasses.replace(card, output=output), device='cpu') as segmenter:
            [results[temperature]] = segmenter.segment([image])
            logits[temperature] = segmenter.upsampled_logits(image)
        # The grid of a U-Net is the image's: nothing is interpolated in between.
        expected = (logits[temperature] / temperature).softmax(0).amax(0).numpy() * 255
        difference = np.abs(results[temperature].confidence_YX - expected)
        assert difference.max() <= 0.51
    assert torch.equal(logits[1.0], logits[4.0])
    np.testing.assert_array_equal(results[1.0].labels_YX, results[4.0].labels_YX)
    np.testing.assert_array_equal(logits[1.0].argmax(0).numpy(), results[1.0].labels_YX)
    assert results[1.0].confidence_YX.mean() > results[4.0].confidence_YX.mean() + 20


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'temperature': 0.0}, 'temperature: expected a positive number'),
        ({'temperature': float('nan')}, 'temperature: expected a positive number'),
        ({'temperature': 2.0, 'kind': 'labels'}, 'temperature: expected none, because labels'),
    ],
)
def test_a_temperature_that_cannot_be(values, message):
    with pytest.raises(ModelCardError, match=message):
        OutputSpec(**values)


def test_other_classes_are_an_error(segmenter):
    image = np.zeros((8, 8, 3), np.uint8)
    sample = Sample(image, np.zeros((8, 8), np.uint8), 'a')
    with pytest.raises(ConfigurationError, match=r"1: 'disc' \(dataset: 'ring'\)"):
        evaluate(segmenter, Samples(('background', 'ring', 'box'), [sample]))
    with pytest.raises(ConfigurationError, match='found none'):
        evaluate(segmenter, Samples(scenes.NAMES, []))
    blank = Sample(image, np.full((8, 8), 255, np.uint8), 'a')
    with pytest.raises(ConfigurationError, match='expected labelled pixels'):
        calibrate(segmenter, Samples(scenes.NAMES, [blank]))
