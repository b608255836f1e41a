"""Loops that paint and look for room, against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.postprocess.painting import PAINT_ONE, largest_squares, paint


def blocks(rng, height, width, num_classes, dtype):
    """Regions of several sizes, so that blocks of pixels with and without a border occur."""
    side = int(rng.integers(1, 25))
    coarse = rng.integers(0, num_classes, (height // side + 1, width // side + 1))
    return coarse.repeat(side, 0).repeat(side, 1)[:height, :width].astype(dtype)


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 70),
    opacity=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_paint_equals_its_twin(height, width, opacity, dtype, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    labels = np.ascontiguousarray(blocks(rng, height, width, 5, dtype))
    labels[labels == 4] = np.iinfo(dtype).max  # unlabelled
    palette = rng.integers(0, 256, (4, 3)).astype(np.uint8)
    is_shown = rng.integers(0, 2, 4).astype(bool)
    painted = np.empty((height, width * 3), np.uint8)
    paint(image.reshape(height, -1), labels, palette, is_shown, int(opacity * PAINT_ONE), painted)
    expected = reference.paint(image, labels, palette, is_shown, opacity)
    np.testing.assert_array_equal(painted.reshape(image.shape), expected)


@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_largest_squares_are_the_largest(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint8)
    labels[labels == 2] = 255
    squares = largest_squares(labels, 3)
    assert squares[2].tolist() == [0, 0, 0]
    for class_id in (0, 1):
        side, x, y = squares[class_id]
        assert side == reference.largest_square_side(labels == class_id)
        assert (labels[y - side + 1 : y + 1, x - side + 1 : x + 1] == class_id).all()


@pytest.mark.parametrize('shape', [(0, 5), (3, 0)])
def test_nothing_has_no_squares(shape):
    assert not largest_squares(np.zeros(shape, np.uint8), 2).any()
