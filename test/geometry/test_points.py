"""Point clouds, read the way that consumers of PointCloud2 read them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import rgbd_scene

from seg_perception.errors import GeometryError
from seg_perception.geometry import (
    POINT_DTYPE,
    Deprojector,
    depth_to_m,
    organised_points,
    selected_points,
)

CAMERA = rgbd_scene.camera((64, 48), d=(-0.1, 0.02, 0.001, 0.0, 0.0))
VIEW = rgbd_scene.render(CAMERA)
GRID = Deprojector().locate(depth_to_m(VIEW.depth_frame()), CAMERA, (48, 64))
CONFIDENCE = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64).astype(np.uint8)
IMAGES = {'labels_YX': VIEW.labels_YX, 'image_rgb_YX3': VIEW.rgb_YX3}
MORE = {'instances_YX': VIEW.instances_YX, 'confidence_YX': CONFIDENCE}


def unpack(points: np.ndarray, index: int) -> tuple:
    """A point's bytes, as the table of fields describes them; rgb as its three bytes."""
    x, y, z, blue, green, red, zero, label, instance, confidence, padding = struct.unpack_from(
        '<fff4BIHBB', points.tobytes(), 24 * index
    )
    assert (zero, padding) == (0, 0)
    return (x, y, z), (red, green, blue), label, instance, confidence


def test_every_pixel_is_a_point_with_its_labels():
    points = organised_points(GRID, **IMAGES, **MORE)
    assert (points.shape, points.dtype.itemsize) == ((48, 64), 24)
    for y, x in [(0, 0), (10, 5), (24, 20), (25, 45), (22, 32), (47, 63)]:
        xyz, rgb, label, instance, confidence = unpack(points, 64 * y + x)
        assert xyz == pytest.approx(VIEW.points_m_YX3[y, x], abs=1e-5, nan_ok=True)
        assert rgb == tuple(VIEW.rgb_YX3[y, x])
        assert label == VIEW.labels_YX[y, x]
        assert instance == VIEW.instances_YX[y, x]
        assert confidence == CONFIDENCE[y, x]
    is_sky = VIEW.labels_YX == rgbd_scene.BACKGROUND
    for name in 'xyz':
        np.testing.assert_array_equal(np.isnan(points[name]), is_sky)
    assert is_sky.any()


def test_colours_are_never_nan():
    white = np.full((48, 64, 3), 255, np.uint8)
    points = organised_points(GRID, VIEW.labels_YX, white)
    assert np.isfinite(points['rgb']).all()
    assert unpack(points, 0)[1] == (255, 255, 255)


def test_fields_are_aligned_and_do_not_overlap():
    end = 0
    for name in POINT_DTYPE.names:
        dtype, offset = POINT_DTYPE.fields[name][:2]
        assert offset >= end
        assert offset % dtype.itemsize == POINT_DTYPE.itemsize % dtype.itemsize == 0
        end = offset + dtype.itemsize


def test_what_is_not_known_is_zero_also_in_reused_memory():
    out = organised_points(GRID, **IMAGES, **MORE)
    again = organised_points(GRID, **IMAGES, out=out)
    assert again is out
    assert not again['instance'].any()
    assert not again['confidence'].any()
    assert again.tobytes() == organised_points(GRID, **IMAGES).tobytes()


def test_wide_labels_and_rows_with_padding():
    labels = VIEW.labels_YX.astype(np.uint16) + 60000
    padded = np.zeros((48, 80, 3), np.uint8)
    padded[:, :64] = VIEW.rgb_YX3
    points = organised_points(GRID, labels, padded[:, :64])
    np.testing.assert_array_equal(points['label'], labels)
    assert unpack(points, 0)[1] == tuple(VIEW.rgb_YX3[0, 0])


@pytest.mark.parametrize('scale', [1, 255])
def test_selected_points_are_those_of_the_mask_with_depth(scale):
    keep = (VIEW.labels_YX != rgbd_scene.FLOOR).astype(np.uint8) * scale
    points = selected_points(GRID, keep, **IMAGES, **MORE)
    whole = organised_points(GRID, **IMAGES, **MORE)
    # As bytes, since NumPy does not copy what lies between fields.
    assert points.tobytes() == whole.view('V24')[VIEW.instances_YX > 0].tobytes()
    assert np.isfinite(points['z']).all()


def test_no_points_are_selected_from_an_empty_mask():
    points = selected_points(GRID, np.zeros((48, 64), bool), **IMAGES, **MORE)
    assert (points.shape, points.dtype) == ((0,), POINT_DTYPE)


def test_one_pixel():
    camera = CAMERA.resized((1, 1))
    for depth_m in (2.0, np.nan):
        grid = Deprojector().locate(np.full((1, 1), depth_m, np.float32), camera, (1, 1))
        images = (np.uint8([[7]]), np.uint8([[[1, 2, 3]]]))
        xyz, *rest = unpack(organised_points(grid, *images), 0)
        assert xyz[2] == pytest.approx(depth_m, nan_ok=True)
        assert rest == [(1, 2, 3), 7, 0, 0]
        assert len(selected_points(grid, np.ones((1, 1), bool), *images)) == np.isfinite(depth_m)


@pytest.mark.parametrize('name', ['labels_YX', 'image_rgb_YX3', 'instances_YX', 'confidence_YX'])
def test_refuses_images_of_another_size(name):
    images = {**IMAGES, **MORE}
    images[name] = images[name][:, 1:]
    with pytest.raises(GeometryError, match=r'at the size of the labels, 64x48, got .*\(48, 63'):
        organised_points(GRID, **images)
    with pytest.raises(GeometryError, match='resize it first'):
        selected_points(GRID, VIEW.labels_YX, **images)
