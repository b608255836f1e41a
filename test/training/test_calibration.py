"""Temperature scaling against another solver, and the sample it is fitted on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.calibration import (
    TEMPERATURE_BOUNDS,
    CalibrationBins,
    LogitSample,
    calibrate,
    expected_calibration_error,
    fit_temperature,
)

IGNORE = 255


def model(true_temperature, num=4000, classes=5, seed=0):
    """Logits whose labels are drawn from their softmax at a temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, classes, generator=generator) * 3
    p = (logits / true_temperature).softmax(1)
    return logits, torch.multinomial(p, 1, generator=generator)[:, 0]


@pytest.mark.parametrize('true_temperature', [0.4, 1.0, 1.7, 6.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_the_fit_is_the_optimum_another_solver_finds(true_temperature, dtype):
    logits, labels = model(true_temperature)
    logits = logits.to(dtype)
    fit = calibrate(logits, labels)

    def loss(temperature):
        return F.cross_entropy(logits.double() / temperature, labels).item()

    other = scipy.optimize.minimize_scalar(
        loss, bounds=(0.05, 20), method='bounded', options={'xatol': 1e-9}
    )
    assert fit.temperature == pytest.approx(other.x, rel=1e-6)
    assert fit.temperature == pytest.approx(true_temperature, rel=0.1)
    assert fit.nll_before == pytest.approx(loss(1), rel=1e-9)
    assert fit.nll_after == pytest.approx(loss(fit.temperature), rel=1e-9)
    assert not fit.is_at_bound
    assert fit.num_pixels == 4000
    assert fit_temperature(logits, labels) == fit.temperature


def test_an_overconfident_model_becomes_honest():
    fit = calibrate(*model(3.0, num=50_000))
    assert fit.ece_before > 0.2
    assert fit.ece_after < 0.02


@given(
    seed=st.integers(0, 10_000),
    num=st.integers(1, 40),
    classes=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4]),
)
@settings(max_examples=60)
def test_the_likelihood_never_falls_and_the_winner_stays(seed, num, classes, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, classes, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(0, classes, (num,), generator=generator)
    fit = calibrate(logits, labels)
    assert fit.nll_after <= fit.nll_before
    assert TEMPERATURE_BOUNDS[0] <= fit.temperature <= TEMPERATURE_BOUNDS[1]
    assert torch.equal((logits / fit.temperature).argmax(1), logits.argmax(1))
    best = min(
        F.cross_entropy(logits / t, labels).item() for t in np.geomspace(*TEMPERATURE_BOUNDS, 50)
    )
    assert fit.nll_after <= best + 1e-9 * max(1, best)


def test_ends_of_the_range_are_named():
    logits = torch.eye(3) * 5
    right = calibrate(logits, torch.arange(3))
    assert right.is_at_bound
    assert right.temperature == pytest.approx(TEMPERATURE_BOUNDS[0])
    wrong = calibrate(logits, torch.tensor([1, 2, 0]))
    assert wrong.is_at_bound
    assert wrong.temperature == pytest.approx(TEMPERATURE_BOUNDS[1])


def test_a_fit_that_would_make_it_worse_is_not_taken(monkeypatch):
    root = 'seg_perception.training.calibration._root_of_slope'
    monkeypatch.setattr(root, lambda *args: (5.0, False))
    fit = calibrate(*model(1.0))
    assert fit.temperature == 1
    assert fit.nll_after == fit.nll_before


def test_parts_do_not_change_the_fit(monkeypatch):
    logits, labels = model(2.0, num=1000)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr('seg_perception.training.calibration._ROWS_AT_ONCE', 77)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(
    ('logits', 'labels', 'message'),
    [
        (torch.zeros(0, 3), torch.zeros(0), 'one labelled pixel or more'),
        (torch.zeros(2, 3), torch.zeros(3), r'\(2, 3\) and \(3,\)'),
        (torch.zeros(1, 2, 3), torch.zeros(1), 'N, C'),
        (torch.tensor([[1.0, math.nan]]), torch.zeros(1), 'finite'),
        (torch.zeros(2, 3), torch.tensor([0, 255]), 'leave ignored pixels out'),
        (torch.zeros(2, 3), torch.tensor([0, -1]), 'ids 0 to 2'),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits, labels, message):
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, labels)


# --- the sample ----------------------------------------------------------------------------------


def stream(count=6, seed=0):
    """Logits whose first class is the pixel's number, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count, 5, 7), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORE
    logits = torch.randn(count, 3, 5, 7, generator=generator)
    logits[:, 0] = torch.arange(labels.numel()).reshape(labels.shape)
    return logits, labels


def pairs(sample):
    return sorted(zip(sample.logits_NC[:, 0].tolist(), sample.labels_N.tolist(), strict=True))


@given(
    cuts=st.lists(st.integers(0, 6), max_size=4).map(sorted), room=st.sampled_from([1, 20, 999])
)
@settings(max_examples=30)
def test_the_sample_does_not_depend_on_batches(cuts, room):
    logits, labels = stream()
    whole, parts = (LogitSample(3, IGNORE, max_pixels=room, seed=4) for _ in range(2))
    whole.update(logits, labels)
    bounds = [0, *cuts, 6]
    for start, end in itertools.pairwise(bounds):
        parts.update(logits[start:end], labels[start:end])
    assert torch.equal(whole.logits_NC, parts.logits_NC)
    assert torch.equal(whole.labels_N, parts.labels_N)
    assert len(whole) == min(room, int((labels != IGNORE).sum()))


def test_the_sample_holds_labelled_pixels_with_their_own_logits():
    logits, labels = stream()
    sample = LogitSample(3, IGNORE)
    sample.update(logits.half(), labels.to(torch.uint8))
    numbers = torch.arange(labels.numel()).reshape(labels.shape)[labels != IGNORE]
    known = labels[labels != IGNORE]
    assert pairs(sample) == list(zip(numbers.tolist(), known.tolist(), strict=True))
    assert sample.fit() == calibrate(sample.logits_NC, sample.labels_N)


def test_every_pixel_is_equally_likely():
    labels = torch.zeros(1, 1, 10, dtype=torch.int64)
    logits = torch.arange(10.0).reshape(1, 1, 1, 10)
    counts = np.zeros(10)
    for seed in range(400):
        sample = LogitSample(1, IGNORE, max_pixels=3, seed=seed)
        for start in (0, 2, 9):
            end = {0: 2, 2: 9, 9: 10}[start]
            sample.update(logits[..., start:end], labels[..., start:end])
        counts[sample.logits_NC[:, 0].long().numpy()] += 1
    # 120 expected of each, standard deviation 9.
    assert counts.sum() == 1200
    assert np.abs(counts - 120).max() < 45


def test_merged_samples_are_a_sample_of_both():
    logits, labels = stream()
    first, second = (LogitSample(3, IGNORE, max_pixels=40, seed=seed) for seed in (1, 2))
    first.update(logits[:3], labels[:3])
    second.update(logits[3:], labels[3:])
    union = {*pairs(first), *pairs(second)}
    first.merge(second)
    assert len(first) == 40
    assert set(pairs(first)) < union
    assert max(first.logits_NC[:, 0]) >= 3 * 35 > min(first.logits_NC[:, 0])


def test_samples_refuse_what_they_cannot_take():
    with pytest.raises(InputError, match='B, 3, Y, X'):
        LogitSample(3, IGNORE).update(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ConfigurationError, match='different class tables'):
        LogitSample(3, IGNORE).merge(LogitSample(4, IGNORE))
    with pytest.raises(ConfigurationError, match='room'):
        LogitSample(3, IGNORE, max_pixels=0)


# --- bins ----------------------------------------------------------------------------------------


def slow_calibration_error(confidence, correct, num_bins):
    """Guo et al., equation 3, one bin at a time: (low, high]."""
    total = 0.0
    for k in range(num_bins):
        inside = (confidence > k / num_bins) & (confidence <= (k + 1) / num_bins)
        if k == 0:
            inside |= confidence == 0
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += gap * inside.sum() / len(confidence)
    return total


@pytest.mark.parametrize('num_bins', [1, 4, 15])
def test_calibration_error_equals_its_twin(num_bins):
    rng = np.random.default_rng(0)
    # Quarters lie on edges of bins.
    confidence = np.concatenate([rng.random(500), [0, 0.25, 0.5, 0.75, 1] * 9])
    correct = rng.random(len(confidence)) < confidence**2
    error = expected_calibration_error(confidence, correct, num_bins)
    assert error == pytest.approx(slow_calibration_error(confidence, correct, num_bins), abs=1e-8)


def test_calibration_error_by_hand():
    error = expected_calibration_error(
        np.array([0.9, 0.9, 0.6]), np.array([True, False, True]), num_bins=2
    )
    assert error == pytest.approx(abs(2 / 3 - 0.8), abs=1e-8)
    assert math.isnan(expected_calibration_error(np.empty(0), np.empty(0, bool)))


def test_large_images_are_counted_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    confidence, correct = rng.random((40, 30)), rng.random((40, 30)) < 0.5
    whole = expected_calibration_error(confidence, correct)
    monkeypatch.setattr('seg_perception.training.calibration._EXACT_PIXELS', 101)
    assert expected_calibration_error(confidence, correct) == whole


def test_bins_refuse_shapes_that_differ():
    with pytest.raises(InputError, match='confidence for each prediction'):
        CalibrationBins().update(np.zeros(3), np.zeros(4, bool))
