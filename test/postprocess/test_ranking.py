"""Ranked scores against NumPy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seg_perception.postprocess.ranking import rank, winning_probability


def logits_of(num_classes, grid_hw=(7, 41), scale=4.0):
    rng = np.random.default_rng(num_classes)
    return torch.from_numpy(rng.normal(0.0, scale, (num_classes, *grid_hw)).astype(np.float32))


def softmax(scores_CN, temperature):
    powers_CN = np.exp((scores_CN - scores_CN.max(0)).astype(np.float64) / temperature)
    return powers_CN / powers_CN.sum(0)


@pytest.mark.parametrize('num_classes', [1, 2, 21, 300])
@pytest.mark.parametrize('channels_last', [False, True])
def test_ranks_every_sample(num_classes, channels_last):
    logits = logits_of(num_classes)
    logits[:, 0, :3] = 1.5  # ties
    scores_CN = logits.reshape(num_classes, -1).numpy()
    if channels_last:
        logits = logits[None].contiguous(memory_format=torch.channels_last)[0]
    ranked = rank(logits)
    ordered_CN = np.sort(scores_CN, 0)
    lead_N = ordered_CN[-1] - ordered_CN[-2] if num_classes > 1 else np.full(287, np.inf)
    assert not ranked.has_nan
    np.testing.assert_array_equal(ranked.scores_CN, scores_CN)
    np.testing.assert_array_equal(ranked.scores_NC, scores_CN.T)
    np.testing.assert_array_equal(ranked.winner_N, scores_CN.argmax(0))
    np.testing.assert_array_equal(ranked.best_N, scores_CN.max(0))
    np.testing.assert_array_equal(ranked.largest_N, np.abs(scores_CN).max(0))
    np.testing.assert_array_equal(ranked.lead_N, lead_N)


@pytest.mark.parametrize('num_classes', [1, 2, 21, 300])
@pytest.mark.parametrize('temperature', [0.05, 1.0, 3.0])
@pytest.mark.parametrize('scale', [1e-3, 4.0, 1e4])
def test_probability_is_that_of_softmax(num_classes, temperature, scale):
    logits = logits_of(num_classes, scale=scale)
    expected_N = softmax(logits.reshape(num_classes, -1).numpy(), temperature).max(0)
    probability_N = winning_probability(rank(logits), temperature)
    np.testing.assert_allclose(probability_N, expected_N, rtol=1e-5)


@pytest.mark.parametrize('odd', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('place', [(0, 0, 0), (4, 6, 40)])
def test_what_is_not_finite_is_told_and_made_finite(odd, place):
    logits = logits_of(5)
    logits[place] = odd
    ranked = rank(logits)
    assert ranked.has_nan == np.isnan(odd)
    assert np.isfinite(ranked.scores_CN).all()
    assert (ranked.winner_N[place[1] * 41 + place[2]] == place[0]) == (odd == np.inf)


def test_a_class_that_is_masked_out_has_no_part_in_the_probability():
    logits = logits_of(3)
    logits[1] = -torch.inf
    expected_N = softmax(logits[[0, 2]].reshape(2, -1).numpy(), 1.0).max(0)
    np.testing.assert_allclose(winning_probability(rank(logits), 1.0), expected_N, rtol=1e-5)
