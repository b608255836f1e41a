"""Boxes around objects: of the scene's size, place and yaw, whatever masks and depth do."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import pytest
import rgbd_scene
from hypothesis import given
from hypothesis import strategies as st
from rgbd_scene import Ball, Box

from seg_perception.errors import GeometryError
from seg_perception.geometry import (
    Deprojector,
    Intrinsics,
    OrientedBox,
    depth_to_m,
    object_boxes,
    oriented_box,
)

CAMERAS = {
    'off-centre': rgbd_scene.camera(center_offset_px=(60.0, -30.0)),
    'plumb_bob': rgbd_scene.camera(d=(-0.2, 0.05, 0.001, -0.001, 0.0)),
}
SMALL = rgbd_scene.camera((320, 240))


@functools.cache
def view_of(intrinsics: Intrinsics, *objects: Box | Ball, **placing: float) -> rgbd_scene.View:
    return rgbd_scene.render(intrinsics, objects or rgbd_scene.OBJECTS, **placing)


def boxes_of(view, depth_m=None, instances=None, **options) -> dict[int, OrientedBox | None]:
    depth_m = np.float32(view.depth_m_YX) if depth_m is None else depth_m
    instances = view.instances_YX if instances is None else instances
    grid = Deprojector().locate(depth_m, view.intrinsics, instances.shape)
    return object_boxes(grid, instances, up_xyz=view.up_xyz, **options)


def axes_of(box: OrientedBox) -> np.ndarray:
    """The box's axes as columns, from the definition of a rotation by a quaternion."""
    x, y, z, w = box.quaternion_xyzw
    assert math.hypot(x, y, z, w) == pytest.approx(1.0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def angle_deg(box: OrientedBox, truth: rgbd_scene.Truth) -> float:
    """Between the longer sides."""
    return math.degrees(math.acos(min(1.0, abs(axes_of(box)[:, 0] @ truth.axes_33[:, 0]))))


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
@pytest.mark.parametrize('depth_wh', [(640, 480), (320, 240)])
@pytest.mark.parametrize('name', CAMERAS)
def test_boxes_are_where_the_scene_is(name, depth_wh, encoding):
    view = view_of(CAMERAS[name])
    depth_view = view_of(CAMERAS[name].resized(depth_wh))
    boxes = boxes_of(view, depth_to_m(depth_view.depth_frame(encoding)))
    assert list(boxes) == [1, 2, 3]
    for instance in (1, 2):
        box, truth = boxes[instance], view.truth[instance]
        assert box.center_xyz_m == pytest.approx(truth.center_xyz_m, abs=0.02)
        assert box.size_xyz_m == pytest.approx(truth.size_xyz_m, abs=0.02)
        assert angle_deg(box, truth) < 5
        np.testing.assert_allclose(axes_of(box)[:, 2], view.up_xyz, atol=1e-6)
    # Of a ball the near side is seen: as wide and as high, not as deep.
    ball, truth = boxes[3], view.truth[3]
    length, width, height = ball.size_xyz_m
    assert 0.45 < length < 0.5
    assert 0.45 < height < 0.5
    assert width < 0.35
    assert np.linalg.norm(ball.center_xyz_m) < np.linalg.norm(truth.center_xyz_m) - 0.05


@pytest.mark.parametrize('yaw_deg', [-60.0, -30.0, 35.0, 45.0])
def test_two_sides_without_the_top_are_enough_for_the_yaw(yaw_deg):
    view = view_of(SMALL, Box((0.0, 2.0), (0.6, 0.5, 0.8), yaw_deg), height_m=0.4, pitch_deg=0.0)
    box = boxes_of(view, erosion_px=1)[1]
    assert angle_deg(box, view.truth[1]) < 1
    assert box.size_xyz_m == pytest.approx(view.truth[1].size_xyz_m, abs=0.02)


def test_of_one_side_the_hidden_length_is_not_made_up():
    view = view_of(SMALL, Box((0.0, 2.0), (0.6, 0.5, 0.8), 0.0), height_m=0.4, pitch_deg=0.0)
    box = boxes_of(view)[1]
    assert box.size_xyz_m == pytest.approx((0.6, 0.0, 0.8), abs=0.02)
    assert box.center_xyz_m == pytest.approx((0.0, 0.0, 1.75), abs=0.01)


def test_masks_may_leak_and_depth_may_smear():
    view = view_of(CAMERAS['plumb_bob'])
    depth_m = np.float32(np.nan_to_num(view.depth_m_YX, nan=8.0))
    smeared_m = np.where(  # between an object and what is behind it, points hang in the air
        cv2.dilate(depth_m, np.ones((3, 3))) > 1.1 * depth_m, cv2.blur(depth_m, (3, 3)), depth_m
    )
    leaking = cv2.dilate(view.instances_YX, np.ones((5, 5)))
    leaking[60:110, 150:200] = 1  # and a patch of what is far behind
    boxes = boxes_of(view, smeared_m, leaking)
    trusting = boxes_of(view, smeared_m, leaking, erosion_px=0)
    for instance in (1, 2):
        truth = view.truth[instance]
        assert boxes[instance].size_xyz_m == pytest.approx(truth.size_xyz_m, abs=0.06)
        assert boxes[instance].center_xyz_m == pytest.approx(truth.center_xyz_m, abs=0.04)
        assert angle_deg(boxes[instance], truth) < 5
        assert max(trusting[instance].size_xyz_m) > 1.0


def test_what_stands_in_front_does_not_cut_an_object_in_two():
    crate, pole = Box((0.0, 2.4), (0.9, 0.5, 0.5), 10.0), Box((0.0, 1.4), (0.06, 0.06, 1.2), 0.0)
    view = view_of(SMALL, crate, pole)
    assert cv2.connectedComponents(np.uint8(view.instances_YX == 1))[0] == 3
    box = boxes_of(view, erosion_px=1)[1]
    assert box.size_xyz_m == pytest.approx(crate.size_xyz_m, abs=0.03)


def test_too_few_points_are_no_box():
    view = view_of(SMALL)
    boxes = boxes_of(view)
    assert boxes_of(view, min_points=boxes[1].num_points)[1] == boxes[1]
    assert boxes_of(view, min_points=boxes[1].num_points + 1)[1] is None
    unseen = np.full((240, 320), np.nan, np.float32)
    assert boxes_of(view, unseen) == {1: None, 2: None, 3: None}
    assert boxes_of(view, unseen, erosion_px=0) == {1: None, 2: None, 3: None}


@pytest.mark.parametrize('shape', [(1, 1), (5, 3)])
def test_no_objects_have_no_boxes(shape):
    grid = Deprojector().locate(np.ones(shape, np.float32), SMALL, shape)
    assert object_boxes(grid, np.zeros(shape, np.uint16)) == {}
    assert object_boxes(grid, np.full(shape, 65535, np.uint16)) == {65535: None}


def test_erosion_leaves_the_border_of_the_image():
    camera = rgbd_scene.camera((20, 20))
    grid = Deprojector().locate(np.full((20, 20), 2.0, np.float32), camera, (20, 20))
    box = object_boxes(grid, np.ones((20, 20), np.uint16))[1]
    assert box.num_points == 400


# --- one box -------------------------------------------------------------------------------------

CORNERS = np.float32([(x, y, z) for x in (-1, 1) for y in (-2, 2) for z in (1, 7)])


def test_axes_by_hand():
    # Seen by a level camera: 6 m ahead, 2 m across, 4 m high. The box's x is what is longest.
    box = oriented_box(CORNERS)
    assert box.center_xyz_m == pytest.approx((0.0, 0.0, 4.0))
    assert box.size_xyz_m == pytest.approx((6.0, 2.0, 4.0))
    assert box.num_points == 8
    assert abs(axes_of(box)[:, 0]) == pytest.approx((0.0, 0.0, 1.0))
    # Across: x stays the camera's, z is up where the camera's y is down.
    across = oriented_box(CORNERS * np.float32((5, 1, 1)))
    assert across.quaternion_xyzw == pytest.approx((math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)))


@given(st.floats(-180, 180), st.tuples(*[st.floats(0.1, 3.0)] * 3), st.floats(-60, 60))
def test_turning_the_points_turns_the_box(yaw_deg, half_xyz_m, pitch_deg):
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    turn = np.array(
        [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    )
    tilt = np.array(
        [
            [1, 0, 0],
            [0, math.cos(pitch), -math.sin(pitch)],
            [0, math.sin(pitch), math.cos(pitch)],
        ]
    )
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    center = np.array([0.3, -0.2, 5.0])
    points = np.float32((signs * half_xyz_m) @ (tilt @ turn).T + center)
    box = oriented_box(points, up_xyz=tilt @ (0.0, -7.0, 0.0))
    x, y, z = (2 * half for half in half_xyz_m)
    assert box.size_xyz_m == pytest.approx((max(x, z), min(x, z), y), abs=1e-4)
    assert box.center_xyz_m == pytest.approx(center, abs=1e-4)
    local = (points - center) @ axes_of(box)
    assert np.abs(np.abs(local) - np.array(box.size_xyz_m) / 2).max() < 1e-4
    assert axes_of(box)[0, 0] >= -1e-9  # towards the camera's right


def test_flat_thin_and_single():
    assert oriented_box(CORNERS * np.float32((1, 1, 0))).size_xyz_m == (2.0, 0.0, 4.0)
    assert oriented_box(CORNERS * np.float32((0, 1, 0))).size_xyz_m == (0.0, 0.0, 4.0)
    point = oriented_box(CORNERS[:1])
    assert (point.center_xyz_m, point.size_xyz_m) == ((-1.0, -2.0, 1.0), (0.0, 0.0, 0.0))
    assert oriented_box(CORNERS[:0]) is None
    assert oriented_box(CORNERS, min_points=9) is None


@pytest.mark.parametrize('up', [(0, 0, 0), (0, math.nan, 0), (0, math.inf, 0), (0, 1)])
def test_refuses_what_is_no_direction(up):
    with pytest.raises(GeometryError, match='expected up as a vector of three numbers'):
        oriented_box(CORNERS, up_xyz=up)


def test_refuses_instances_of_another_size():
    grid = Deprojector().locate(np.ones((4, 4), np.float32), SMALL, (4, 4))
    with pytest.raises(GeometryError, match='expected instances at the size'):
        object_boxes(grid, np.zeros((4, 5), np.uint16))
