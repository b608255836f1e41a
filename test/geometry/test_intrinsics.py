"""Calibration of a resized image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.errors import GeometryError
from seg_perception.geometry import Intrinsics

CAMERA = Intrinsics(
    size_wh=(640, 480),
    k=(500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0),
    p=(500.0, 0.0, 319.5, -30.0, 0.0, 510.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0),
    distortion_model='plumb_bob',
    d=(0.1, -0.2, 0.0, 0.0, 0.05),
)


def test_half_size():
    half = CAMERA.resized((320, 240))
    # The middle of the image, 320 px from its left edge, is 160 px from it afterwards.
    assert half.k == (250.0, 0.0, 159.5, 0.0, 255.0, 119.5, 0.0, 0.0, 1.0)
    assert half.p == (250.0, 0.0, 159.5, -15.0, 0.0, 255.0, 119.5, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert (half.size_wh, half.d, half.distortion_model) == ((320, 240), CAMERA.d, 'plumb_bob')


def test_binning_keeps_its_factor_where_pixels_are_lost():
    odd = Intrinsics((1281, 720), CAMERA.k, CAMERA.p).binned((2, 2))
    assert odd.size_wh == (640, 360)
    assert odd.k[:3] == (250.0, 0.0, 159.5)
    with pytest.raises(GeometryError, match='expected binning within'):
        CAMERA.binned((1000, 1))


def test_same_size_changes_nothing():
    assert CAMERA.resized((640, 480)) == CAMERA


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_a_ray_hits_the_same_spot_of_the_view(size_wh, ray_x, ray_y):
    resized = CAMERA.resized(size_wh)
    for camera in (CAMERA, resized):
        assert camera.k[8] == 1.0
    spots = [
        (
            (c.k[0] * ray_x + c.k[2] + 0.5) / c.size_wh[0],
            (c.k[4] * ray_y + c.k[5] + 0.5) / c.size_wh[1],
        )
        for c in (CAMERA, resized)
    ]
    assert spots[0] == pytest.approx(spots[1])


@pytest.mark.parametrize('size_wh', [(0, 10), (10, -1)])
def test_refuses_sizes_that_are_none(size_wh):
    with pytest.raises(GeometryError, match='expected positive image sizes'):
        CAMERA.resized(size_wh)


def test_refuses_matrices_of_another_shape():
    with pytest.raises(GeometryError, match='expected a 3x3 matrix, got 8 numbers'):
        Intrinsics((4, 4), CAMERA.k[:8], CAMERA.p).resized((2, 2))
