"""The benchmark's own oracle, against the tests' and on hand-written values."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from reference import sample_grid

from seg_perception.benchmarks.parity import (
    ParityError,
    check_exact,
    check_nearest,
    slow_labels,
)
from seg_perception.imaging.resize_plan import ResizeGeometry, plan_resize


def test_two_classes_meet_in_the_middle():
    # One row, two cells; class 1 wins on the right, from the middle between the cell centres on.
    logits = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    geometry = ResizeGeometry((1, 8), (1, 2), (1, 2), (0, 0))
    labels_YX, leads_YX = slow_labels(logits, geometry, align_corners=False)
    assert labels_YX.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert leads_YX[0, 0] == pytest.approx(1.0)
    assert leads_YX[0, 3] == pytest.approx(0.25)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('mode', ['stretch', 'letterbox', 'fit'])
@pytest.mark.parametrize('source_hw', [(17, 23), (5, 31), (1, 1)])
def test_labels_are_those_of_the_twin(source_hw, mode, align_corners):
    geometry = plan_resize(source_hw, (16, 24), mode)
    logits = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    labels_YX, leads_YX = slow_labels(logits, geometry, align_corners=align_corners)
    upsampled = np.array(
        [
            sample_grid(
                channel,
                geometry.input_hw,
                geometry.content_hw,
                geometry.offset_yx,
                source_hw,
                align_corners,
            )
            for channel in logits
        ]
    )
    np.testing.assert_array_equal(labels_YX, upsampled.argmax(0))
    best = np.sort(upsampled, axis=0)
    np.testing.assert_allclose(leads_YX, best[-1] - best[-2], atol=1e-9)


def test_one_wrong_label_is_found_and_a_tie_is_not_held_against_it():
    logits = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    geometry = ResizeGeometry((1, 2001), (1, 2), (1, 2), (0, 0))
    reference = slow_labels(logits, geometry, align_corners=False)
    labels = reference[0].astype(np.uint8)
    assert check_exact('x', labels, *reference, logits) == 0.0
    labels[0, 1000] ^= 1  # exactly between the cells: both classes win
    assert check_exact('x', labels, *reference, logits) == pytest.approx(1 / 2001)
    labels[0, 3] ^= 1
    with pytest.raises(ParityError, match=r'x: expected .* got 1 wrong .* 1 instead of 0'):
        check_exact('x', labels, *reference, logits)
    with pytest.raises(ParityError, match=r'shape \(1, 2001\), got \(2001, 1\)'):
        check_exact('x', labels.T, *reference, logits)


@pytest.mark.parametrize('size_hw', [(37, 53), (8, 12), (5, 7), (90, 1)])
def test_nearest_is_what_opencv_makes(size_hw):
    grid = np.random.default_rng(1).integers(0, 9, (8, 12)).astype(np.uint8)
    labels = cv2.resize(grid, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
    assert check_nearest('x', labels, grid, 1.0) == 1.0


def test_labels_that_are_not_nearest_or_of_another_grid_are_found():
    grid = np.arange(12, dtype=np.uint8).reshape(3, 4)
    labels = cv2.resize(grid, (40, 30), interpolation=cv2.INTER_NEAREST)
    broken = labels.copy()
    broken[15, 5] ^= 1
    with pytest.raises(ParityError, match='one label per cell'):
        check_nearest('x', broken, grid, 0.9)
    other = grid.copy()
    other[0, :2] = 50
    assert check_nearest('x', labels, other, 0.8) == pytest.approx(10 / 12)
    with pytest.raises(ParityError, match=r'at least 90% of the cells, got 83.3%'):
        check_nearest('x', labels, other, 0.9)
