"""Percentiles, against NumPy's."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.ros.percentiles import percentiles_of


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20))
def test_percentiles_are_those_of_numpy(values):
    np.testing.assert_allclose(percentiles_of(deque(values)), np.percentile(values, (50, 95, 99)))


def test_of_nothing_there_are_none():
    assert all(math.isnan(value) for value in percentiles_of(()))
