"""Metrics against scikit-learn, torchmetrics and slow twins; and independent of batching."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.metrics import SegmentationMetrics, boundary_f1

IGNORE = 255


def images(seed=0, count=4, classes=5, size=(17, 23), ignore_share=0.2, absent=()):
    """Blocky predictions and truth that agree in part, and confidences."""
    rng = np.random.default_rng(seed)
    height, width = size
    truth = rng.integers(0, classes, (count, height // 4 + 1, width // 4 + 1))
    truth = truth.repeat(4, 1).repeat(4, 2)[:, :height, :width].astype(np.uint8)
    noise = rng.integers(0, classes, truth.shape, np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.3, noise, np.roll(truth, 1, 2))
    for class_id in absent:
        truth[truth == class_id] = (class_id + 1) % classes
        predicted[predicted == class_id] = (class_id + 1) % classes
    truth[rng.random(truth.shape) < ignore_share] = IGNORE
    confidence = rng.uniform(1 / classes, 1, truth.shape)
    return predicted, truth, confidence


def measure(predicted, truth, confidence=None, classes=5, **options):
    metrics = SegmentationMetrics(classes, IGNORE, **options)
    metrics.update(predicted, truth, confidence)
    return metrics.result()


def assert_same(first, second):
    """Every field to the bit."""
    for field in dataclasses.fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)


@pytest.mark.parametrize('absent', [(), (2,)])
@pytest.mark.parametrize('seed', range(3))
def test_scores_are_those_of_scikit_learn(seed, absent):
    sk = pytest.importorskip('sklearn.metrics', reason='scikit-learn is not installed')
    predicted, truth, _ = images(seed, absent=absent)
    result = measure(predicted, truth)
    flat = truth[truth != IGNORE], predicted[truth != IGNORE]
    ids = sorted(set(range(5)) - set(absent))
    confusion = sk.confusion_matrix(*flat, labels=range(5))
    iou = sk.jaccard_score(*flat, labels=ids, average=None)
    np.testing.assert_array_equal(result.confusion, confusion)
    assert result.confusion.dtype == np.int64
    assert result.pixel_accuracy == pytest.approx(sk.accuracy_score(*flat), abs=1e-12)
    assert result.mean_accuracy == pytest.approx(sk.balanced_accuracy_score(*flat), abs=1e-12)
    np.testing.assert_allclose(result.class_iou[ids], iou, atol=1e-12)
    assert np.isnan(result.class_iou[list(absent)]).all()
    assert result.mean_iou == pytest.approx(iou.mean(), abs=1e-12)
    weighted = sk.jaccard_score(*flat, labels=ids, average='weighted')
    assert result.frequency_weighted_iou == pytest.approx(weighted, abs=1e-12)
    assert result.num_pixels == len(flat[0])
    assert result.num_images == len(truth)


def test_scores_are_those_of_torchmetrics():
    tm = pytest.importorskip('torchmetrics.classification', reason='torchmetrics is not installed')
    predicted, truth, _ = images(7)
    pair = torch.from_numpy(predicted).long(), torch.from_numpy(truth).long()
    result = measure(*pair)
    options = {'num_classes': 5, 'ignore_index': IGNORE, 'validate_args': False}
    iou = tm.MulticlassJaccardIndex(average='none', **options)(*pair)
    np.testing.assert_allclose(result.class_iou, iou, atol=1e-6)
    accuracy = tm.MulticlassAccuracy(average='micro', **options)(*pair)
    assert result.pixel_accuracy == pytest.approx(accuracy.item(), abs=1e-6)
    confusion = tm.MulticlassConfusionMatrix(**options)(*pair)
    np.testing.assert_array_equal(result.confusion, confusion)


@pytest.mark.parametrize('num_bins', [10, 15])
def test_calibration_error_is_that_of_torchmetrics(num_bins):
    tm = pytest.importorskip('torchmetrics.classification', reason='torchmetrics is not installed')
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, 13, generator=generator) * 2
    _, truth, _ = images(1, count=3, size=(11, 13))
    labels = torch.from_numpy(truth).long()
    confidence, predicted = logits.softmax(1).max(1)
    metric = tm.MulticlassCalibrationError(
        5, n_bins=num_bins, norm='l1', ignore_index=IGNORE, validate_args=False
    )
    result = measure(predicted, labels, confidence, num_bins=num_bins)
    assert result.ece == pytest.approx(metric(logits, labels).item(), abs=1e-6)
    assert result.bin_counts.sum() == result.num_pixels
    gaps = np.abs(result.bin_accuracy - result.bin_confidence) * result.bin_counts
    assert np.nansum(gaps) / result.num_pixels == pytest.approx(result.ece, abs=1e-12)


def test_scores_by_hand():
    truth = np.array([[0, 0, 1, 1, IGNORE, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 1, 0, 3]], np.uint8)
    result = measure(predicted, truth)
    assert result.pixel_accuracy == 3 / 5
    np.testing.assert_array_equal(result.class_iou, [1 / 2, 2 / 3, 0, 0, np.nan])
    assert result.mean_iou == pytest.approx((1 / 2 + 2 / 3) / 4)
    np.testing.assert_array_equal(result.class_accuracy, [1 / 2, 1, 0, np.nan, np.nan])
    assert result.frequency_weighted_iou == pytest.approx((2 / 2 + 2 * 2 / 3) / 5)
    assert math.isnan(result.ece)


@pytest.mark.parametrize('truth', [np.full((3, 4), IGNORE, np.uint8), np.empty((0, 4), np.uint8)])
def test_nothing_labelled_is_nan_and_not_an_error(truth):
    result = measure(np.zeros(truth.shape, np.uint8), truth, np.ones(truth.shape))
    scores = [
        result.pixel_accuracy, result.mean_iou, result.frequency_weighted_iou,
        result.boundary_f1, result.ece, result.mean_accuracy,
    ]  # fmt: skip
    assert np.isnan(scores).all()
    assert np.isnan(result.class_iou).all()
    assert not result.confusion.any()


# --- boundaries ----------------------------------------------------------------------------------


def slow_boundary(mask):
    """Pixels with a 4-neighbour inside the image that is not in the mask."""
    height, width = mask.shape
    return [
        (y, x)
        for y, x in np.argwhere(mask).tolist()
        if any(
            0 <= y + dy < height and 0 <= x + dx < width and not mask[y + dy, x + dx]
            for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1))
        )
    ]


def slow_boundary_f1(predicted, truth, tolerance):
    """From all pairs of boundary pixels (Csurka et al., 2013)."""
    found, wanted = slow_boundary(predicted), slow_boundary(truth)
    if not found and not wanted:
        return math.nan

    def share(points, others):
        squares = [
            min(((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 for q in others), default=math.inf)
            for p in points
        ]
        # Compared without rounding: a tolerance of math.sqrt(2) is a little above the root of 2.
        limit = Fraction(tolerance) ** 2
        return sum(d < limit for d in squares) / len(points) if points else 0.0

    precision, recall = share(found, wanted), share(wanted, found)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize('tolerance', [0.5, 1.0, math.sqrt(2), 1.5, 2.0, math.sqrt(5), 3.7])
@pytest.mark.parametrize('seed', range(4))
def test_boundary_f1_equals_its_twin(seed, tolerance):
    predicted, truth, _ = images(seed, count=1, size=(19, 22), ignore_share=0)
    for class_id in range(5):
        masks = predicted[0] == class_id, truth[0] == class_id
        expected = slow_boundary_f1(*masks, tolerance)
        assert boundary_f1(*masks, tolerance) == pytest.approx(expected, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize('ignore_share', [0.0, 0.1])
def test_boundary_f1_is_the_mean_over_images_of_the_mean_over_classes(ignore_share):
    predicted, truth, _ = images(3, count=3, ignore_share=ignore_share, absent=(4,))
    result = measure(predicted, truth, boundary_tolerance=0.06)
    tolerance = 0.06 * math.hypot(*truth.shape[1:])
    known = np.where(truth == IGNORE, IGNORE, predicted)
    scores = np.array(
        [
            [slow_boundary_f1(p == c, t == c, tolerance) for c in range(5)]
            for p, t in zip(known, truth, strict=True)
        ]
    )
    assert 0.1 < result.boundary_f1 < 0.99
    assert result.boundary_f1 == pytest.approx(np.nanmean(scores, 1).mean(), abs=1e-9)
    np.testing.assert_allclose(
        result.class_boundary_f1[:4], np.nanmean(scores[:, :4], 0), atol=1e-9
    )
    assert math.isnan(result.class_boundary_f1[4])


def test_a_shifted_square_by_hand():
    truth = np.zeros((100, 100), np.uint8)
    truth[20:60, 20:60] = 1
    shifted = np.roll(truth, 2, 1)
    # The tolerances are 0.75 % and 1.5 % of the diagonal, 1.06 and 2.12 px.
    assert measure(shifted, truth, boundary_tolerance=0.015).boundary_f1 == 1
    assert 0.4 < measure(shifted, truth).boundary_f1 < 0.6
    assert measure(truth, truth).boundary_f1 == 1
    assert measure(np.zeros_like(truth), truth).boundary_f1 == 0
    assert math.isnan(measure(truth, truth, boundary_tolerance=None).boundary_f1)
    # One class only has no boundary: the image's edge is none.
    assert math.isnan(measure(np.ones_like(truth), np.ones_like(truth)).boundary_f1)


# --- streaming -----------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    order=st.permutations(range(5)),
    cuts=st.lists(st.integers(0, 5), max_size=3).map(sorted),
    workers=st.integers(1, 3),
)
@settings(max_examples=25)
def test_order_batches_and_workers_do_not_change_a_bit(seed, order, cuts, workers):
    predicted, truth, confidence = images(seed, count=5, size=(9, 8))
    together = measure(predicted, truth, confidence)
    parts = [SegmentationMetrics(5, IGNORE) for _ in range(workers)]
    bounds = [0, *cuts, 5]
    for k, (start, end) in enumerate(itertools.pairwise(bounds)):
        chosen = list(order[start:end])
        parts[k % workers].update(predicted[chosen], truth[chosen], confidence[chosen])
    first, *others = [pickle.loads(pickle.dumps(part)) for part in parts]
    for other in others:
        first.merge(other)
    assert_same(first.result(), together)


def test_one_image_and_a_batch_of_it_are_the_same():
    predicted, truth, confidence = images(count=1)
    assert_same(
        measure(predicted[0], truth[0], confidence[0]), measure(predicted, truth, confidence)
    )


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int64])
def test_types_of_labels_do_not_matter(dtype):
    predicted, truth, _ = images()
    expected = measure(predicted, truth)
    assert_same(measure(predicted.astype(dtype), truth), expected)
    assert_same(measure(predicted, truth.astype(dtype)), expected)
    torch_truth = torch.from_numpy(truth.astype(np.int64))
    assert_same(measure(torch.from_numpy(predicted), torch_truth), expected)


def test_thousands_of_classes():
    truth = np.array([[0, 4999, 300, 65535]], np.uint16)
    predicted = np.array([[0, 4999, 301, 7]], np.uint16)
    metrics = SegmentationMetrics(5000, 65535)
    metrics.update(predicted, truth)
    metrics.update(predicted.astype(np.int64), truth)
    result = metrics.result()
    assert result.pixel_accuracy == 2 / 3
    assert result.mean_iou == 2 / 4
    assert result.confusion[300, 301] == 2


def test_labels_of_8_bits_beside_an_ignore_id_of_16():
    metrics = SegmentationMetrics(300, 65535)
    metrics.update(np.array([[1, 2]], np.uint8), np.array([[1, 65535]], np.uint16))
    assert metrics.result().pixel_accuracy == 1


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('predicted', 'truth', 'confidence', 'message'),
    [
        ([[0, 5]], [[0, 1]], None, r'predictions of 0 to 4 .* got \[5\]'),
        ([[0, -1]], [[0, 1]], None, r'predictions .* got \[-1\]'),
        ([[0, 1]], [[0, 7]], None, r'truth of 0 to 4 .*255 \(ignored\), got \[7\]'),
        ([[0, 1]], [[0], [1]], None, 'one shape'),
        ([0, 1], [0, 1], None, 'one shape'),
        ([[0, 1]], [[0, 1]], [[0.5]], 'one shape'),
        ([[0, 1]], [[0, 1]], [[0.5, 1.5]], 'confidences of 0 to 1, got 0.5 to 1.5'),
        ([[0, 1]], [[0, 1]], [[0.5, math.nan]], 'confidences of 0 to 1'),
        ([[0.0, 1.0]], [[0, 1]], None, 'predictions of integers'),
    ],
)
def test_what_cannot_be_counted_is_refused_and_not_half_counted(
    predicted, truth, confidence, message
):
    metrics = SegmentationMetrics(5, IGNORE)
    with pytest.raises(InputError, match=message):
        metrics.update(
            np.array(predicted),
            np.array(truth),
            None if confidence is None else np.array(confidence),
        )
    assert_same(metrics.result(), SegmentationMetrics(5, IGNORE).result())


def test_predictions_where_truth_is_ignored_may_be_anything():
    result = measure(np.array([[0, 255]]), np.array([[0, 255]]))
    assert result.pixel_accuracy == 1


@pytest.mark.parametrize(
    ('classes', 'ignore_id', 'options'),
    [
        (0, 255, {}),
        (300, 255, {}),
        (3, 255, {'boundary_tolerance': 0}),
        (3, 255, {'boundary_tolerance': 2}),
        (3, 255, {'num_bins': 0}),
    ],
)
def test_settings_that_cannot_work_are_refused(classes, ignore_id, options):
    with pytest.raises(ConfigurationError, match='expected'):
        SegmentationMetrics(classes, ignore_id, **options)


@pytest.mark.parametrize(
    'other',
    [
        SegmentationMetrics(4, IGNORE),
        SegmentationMetrics(5, 254),
        SegmentationMetrics(5, IGNORE, boundary_tolerance=None),
        SegmentationMetrics(5, IGNORE, num_bins=3),
    ],
)
def test_different_metrics_cannot_be_merged(other):
    with pytest.raises(ConfigurationError, match='to merge'):
        SegmentationMetrics(5, IGNORE).merge(other)
