"""Frames are let through up to a mean rate."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.ros.rate_limit import RateLimit


def num_taken(camera_hz, max_rate_hz, seconds=20.0):
    limit = RateLimit()
    times_s = 1000.0 + np.arange(0.0, seconds, 1.0 / camera_hz)
    return sum(not limit.is_too_soon(now_s, max_rate_hz) for now_s in times_s)


@pytest.mark.parametrize('camera_hz', [5.2, 7.0, 30.0])
def test_the_mean_rate_is_the_greatest_that_is_allowed(camera_hz):
    assert num_taken(camera_hz, 5.0) == pytest.approx(5.0 * 20.0, abs=2)


def test_all_come_through_where_nothing_is_limited():
    assert num_taken(30.0, 0.0) == 600
    assert num_taken(30.0, 60.0) == 600
