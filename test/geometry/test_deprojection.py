"""Depth to points: on the surfaces of a scene of known geometry, for every kind of camera."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import rgbd_scene
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.errors import GeometryError
from seg_perception.geometry import Deprojector, depth_to_m
from seg_perception.geometry.deprojection import pixels_to_rays

SIZE_WH = (160, 120)
CAMERAS = {
    'pinhole': rgbd_scene.camera(SIZE_WH),
    'off-centre': rgbd_scene.camera(SIZE_WH, center_offset_px=(30.0, -15.0)),
    'no model': rgbd_scene.camera(SIZE_WH, distortion_model='', d=()),
    'plumb_bob': rgbd_scene.camera(SIZE_WH, d=(-0.25, 0.08, 0.002, -0.003, -0.01)),
    'plumb_bob of 4': rgbd_scene.camera(SIZE_WH, d=(0.12, -0.05, 0.001, 0.0)),
    'rational_polynomial': rgbd_scene.camera(
        SIZE_WH,
        center_offset_px=(-7.0, 4.0),
        distortion_model='rational_polynomial',
        # An Azure Kinect's colour camera.
        d=(0.497, -2.504, 0.00075, -0.00033, 1.479, 0.374, -2.331, 1.407),
    ),
    'equidistant': rgbd_scene.camera(
        SIZE_WH, distortion_model='equidistant', d=(0.04, -0.012, 0.003, -0.001)
    ),
    'equidistant of zeros': rgbd_scene.camera(
        SIZE_WH, distortion_model='equidistant', d=(0.0,) * 4
    ),
}


@functools.cache
def view_of(name: str, size_wh: tuple[int, int] = SIZE_WH) -> rgbd_scene.View:
    return rgbd_scene.render(CAMERAS[name].resized(size_wh))


def points_of(grid) -> np.ndarray:
    return np.stack((grid.ray_x_YX * grid.z_m_YX, grid.ray_y_YX * grid.z_m_YX, grid.z_m_YX), -1)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
@pytest.mark.parametrize('name', CAMERAS)
def test_points_are_where_the_scene_is(name, encoding):
    view = view_of(name)
    depth_m = depth_to_m(view.depth_frame(encoding))
    grid = Deprojector().locate(depth_m, view.intrinsics, depth_m.shape)
    assert grid.shape == SIZE_WH[::-1]
    error_m = np.linalg.norm(points_of(grid) - view.points_m_YX3, axis=-1)
    np.testing.assert_array_equal(np.isnan(error_m), view.labels_YX == rgbd_scene.BACKGROUND)
    # Half a millimetre of rounding, and the slant of the ray.
    assert np.nanmax(error_m) < (1e-3 if encoding == '16UC1' else 1e-4)


@pytest.mark.parametrize('name', ['off-centre', 'plumb_bob'])
@pytest.mark.parametrize('depth_wh', [(80, 60), (320, 240), (48, 36), (160, 120)])
def test_depth_of_another_size_gives_points_of_its_own_pixels(name, depth_wh):
    depth_view = view_of(name, depth_wh)
    depth_m = depth_to_m(depth_view.depth_frame())
    grid = Deprojector().locate(depth_m, CAMERAS[name], SIZE_WH[::-1])
    # The depth pixel that the centre of label pixel x falls into.
    rows = [int((y + 0.5) * depth_wh[1] / SIZE_WH[1]) for y in range(SIZE_WH[1])]
    columns = [int((x + 0.5) * depth_wh[0] / SIZE_WH[0]) for x in range(SIZE_WH[0])]
    expected = depth_view.points_m_YX3[np.ix_(rows, columns)]
    np.testing.assert_allclose(points_of(grid), expected, atol=1e-4)


@pytest.mark.parametrize('depth_wh', [(80, 60), (320, 240)])
def test_a_label_pixels_point_is_within_half_a_depth_pixel(depth_wh):
    depth_m = np.full(depth_wh[::-1], 2.0, np.float32)
    grid = Deprojector().locate(depth_m, CAMERAS['off-centre'], SIZE_WH[::-1])
    x, y = rgbd_scene.rays_to_pixels(grid.ray_x_YX, grid.ray_y_YX, CAMERAS['off-centre'])
    rows, columns = np.indices(grid.shape)
    # Where depth is finer, a pixel's centre falls on the border of four of its pixels.
    reach_px = 0.5 * SIZE_WH[0] / depth_wh[0] + 1e-3
    assert np.abs(x - columns).max() < reach_px
    assert np.abs(y - rows).max() < reach_px


@given(
    st.sampled_from(sorted(CAMERAS)),
    st.tuples(st.floats(-0.5, 159.5), st.floats(-0.5, 119.5)),
    st.floats(0.1, 20.0),
)
def test_projecting_a_pixels_point_gives_the_pixel(name, pixel_xy, depth_m):
    [(ray_x, ray_y)] = pixels_to_rays(np.array([pixel_xy]), CAMERAS[name])
    x_m, y_m = ray_x * depth_m, ray_y * depth_m
    again_xy = rgbd_scene.rays_to_pixels(x_m / depth_m, y_m / depth_m, CAMERAS[name])
    assert again_xy == pytest.approx(pixel_xy, abs=0.02)


@given(
    st.sampled_from(sorted(CAMERAS)),
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
)
def test_resizing_the_image_does_not_turn_the_camera(name, size_wh, spot):
    directions = [
        pixels_to_rays(np.array([[spot[0] * c.size_wh[0] - 0.5, spot[1] * c.size_wh[1] - 0.5]]), c)
        for c in (CAMERAS[name], CAMERAS[name].resized(size_wh))
    ]
    np.testing.assert_allclose(*directions, atol=2e-4)


def test_a_rectified_image_is_described_by_p_alone():
    raw = CAMERAS['plumb_bob']
    p = (100.0, 0.0, 70.0, -12.0, 0.0, 110.0, 50.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    depth_m = np.full((120, 160), 2.0, np.float32)
    intrinsics = dataclasses.replace(raw, p=p, distortion_model='anything')
    grid = Deprojector(is_rectified=True).locate(depth_m, intrinsics, depth_m.shape)
    assert points_of(grid)[60, 90] == pytest.approx((0.4, 2 * 10 / 110, 2.0))


def test_pixels_that_a_fisheye_has_no_ray_for_are_nowhere():
    # 60 px of focal length: 90 degrees are 94 px from the middle, the corners 141 px.
    fisheye = dataclasses.replace(
        rgbd_scene.camera((200, 200), distortion_model='equidistant', d=(0.0,) * 4),
        k=(60.0, 0.0, 99.5, 0.0, 60.0, 99.5, 0.0, 0.0, 1.0),
    )
    depth_m = np.ones((200, 200), np.float32)
    grid = Deprojector().locate(depth_m, fisheye, (200, 200))
    rows, columns = np.indices(grid.shape)
    angle = np.hypot(rows - 99.5, columns - 99.5) / 60.0
    # Next to 90 degrees the rays are too long to be told apart.
    assert np.isnan(grid.z_m_YX[angle > 1.5709]).all()
    assert np.isfinite(grid.z_m_YX[angle < 1.55]).all()
    np.testing.assert_array_equal(np.isnan(grid.z_m_YX), np.isnan(grid.ray_x_YX))
    np.testing.assert_array_equal(depth_m, 1.0)


def test_points_of_a_mask_are_those_with_depth():
    depth_m = np.float32([[1.0, np.nan, 2.0], [4.0, 5.0, np.nan]])
    camera = dataclasses.replace(
        rgbd_scene.camera((3, 2)), k=(2.0, 0.0, 1.0, 0.0, 4.0, 0.0, 0.0, 0.0, 1.0)
    )
    grid = Deprojector().locate(depth_m, camera, (2, 3))
    keep = np.uint8([[255, 255, 255], [255, 0, 255]])
    expected = [[-0.5, 0.0, 1.0], [1.0, 0.0, 2.0], [-2.0, 1.0, 4.0]]
    np.testing.assert_array_equal(grid.points_m(keep), np.float32(expected))
    np.testing.assert_array_equal(grid.points_m(keep > 0), np.float32(expected))
    assert grid.points_m(np.zeros((2, 3), bool)).shape == (0, 3)


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (4, 4)])
def test_no_depth_gives_no_points(shape):
    camera = CAMERAS['plumb_bob']
    depth_m = np.full(shape, np.nan, np.float32)
    grid = Deprojector().locate(depth_m, camera, shape)
    assert np.isnan(grid.z_m_YX).all()
    assert grid.points_m(np.ones(shape, bool)).shape == (0, 3)


def test_directions_are_kept_until_something_changes():
    deprojector, depth_m = Deprojector(), np.ones((120, 160), np.float32)
    first = deprojector.locate(depth_m, CAMERAS['plumb_bob'], (120, 160))
    again = deprojector.locate(2 * depth_m, CAMERAS['plumb_bob'].resized(SIZE_WH), (120, 160))
    assert again.ray_x_YX is first.ray_x_YX
    assert again.z_m_YX[0, 0] == 2.0
    other = deprojector.locate(depth_m, CAMERAS['off-centre'], (120, 160))
    assert other.ray_x_YX[60, 110] == pytest.approx(0.5 / 120)
    smaller = deprojector.locate(depth_m, CAMERAS['off-centre'], (60, 80))
    assert smaller.shape == (60, 80)


@pytest.mark.parametrize(
    ('model', 'd'),
    [
        ('omni', (0.1,) * 4),
        ('', (0.1,) * 5),
        ('plumb_bob', (0.1,) * 3),
        ('equidistant', ()),
        ('equidistant', (0.1,) * 5),
    ],
)
def test_refuses_distortion_that_it_does_not_know(model, d):
    camera = dataclasses.replace(CAMERAS['pinhole'], distortion_model=model, d=d)
    expected = rf"plumb_bob.*rational_polynomial.*equidistant.*got '{model}' with {len(d)}"
    with pytest.raises(GeometryError, match=expected):
        Deprojector().locate(np.ones((120, 160), np.float32), camera, (120, 160))


def test_refuses_a_camera_without_calibration():
    camera = dataclasses.replace(CAMERAS['pinhole'], k=(0.0,) * 9, p=(0.0,) * 12)
    for is_rectified, name in ((False, 'K'), (True, 'P')):
        with pytest.raises(GeometryError, match=f'expected a calibrated camera, got {name}'):
            Deprojector(is_rectified=is_rectified).locate(
                np.ones((120, 160), np.float32), camera, (120, 160)
            )
