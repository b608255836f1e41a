"""Objects, points and boxes as messages, read back the way consumers read them."""

from __future__ import annotations

import array
import struct

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('vision_msgs')

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from seg_perception.geometry import POINT_DTYPE, OrientedBox
from seg_perception.ros.messages import to_byte_array
from seg_perception.ros.object_messages import (
    boxes_to_detections,
    boxes_to_markers,
    points_to_cloud,
)
from seg_perception.structures import ClassTable, ObjectInstance, Objects

pytestmark = [pytest.mark.ros, pytest.mark.distro]

CLASSES = ClassTable(('background', 'cup', 'tray'))
HEADER = Header(frame_id='optical')
HALF = 0.5**0.5
# Seen by a level camera: the box's x to the right, y into the image, z up.
UPRIGHT_XYZW = (HALF, 0.0, 0.0, HALF)


def make_objects() -> Objects:
    instances_YX = np.zeros((6, 8), np.uint16)
    instances_YX[1:3, 2:6] = 3
    instances_YX[5, 0] = 7
    return Objects(
        instances_YX,
        (
            ObjectInstance(3, 1, 0.75, (2, 1, 6, 3), 8, (3.5, 1.5)),
            ObjectInstance(7, 2, 1.0, (0, 5, 1, 6), 1, (0.0, 5.0)),
        ),
    )


def test_no_objects_delete_those_before() -> None:
    nothing = Objects(np.zeros((2, 2), np.uint16), ())
    [marker] = boxes_to_markers(nothing, {}, CLASSES, HEADER).markers
    assert marker.action == Marker.DELETEALL


def test_boxes_in_space_leave_out_what_has_none() -> None:
    box = OrientedBox((0.1, -0.2, 1.5), UPRIGHT_XYZW, (0.3, 0.0, 0.2), 400)
    boxes = {3: box, 7: None}
    [detection] = boxes_to_detections(make_objects(), boxes, CLASSES, HEADER).detections
    assert detection.id == '3'
    assert detection.results[0].hypothesis.class_id == 'cup'
    for pose in (detection.bbox.center, detection.results[0].pose.pose):
        assert (pose.position.x, pose.position.y, pose.position.z) == (0.1, -0.2, 1.5)
        assert pose.orientation.w == HALF
    assert (detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z) == (0.3, 0.0, 0.2)

    first, solid, name = boxes_to_markers(make_objects(), boxes, CLASSES, HEADER).markers
    assert [m.action for m in (first, solid, name)] == [Marker.DELETEALL, Marker.ADD, Marker.ADD]
    assert (solid.type, solid.id, solid.ns) == (Marker.CUBE, 3, 'boxes')
    assert min(solid.scale.x, solid.scale.y, solid.scale.z) > 0  # RViz refuses 0
    assert solid.color.a > 0
    assert solid.lifetime.sec > 0
    assert name.type == Marker.TEXT_VIEW_FACING
    assert 0 < name.scale.x < name.scale.z  # the space between words, in RViz
    assert name.text == 'cup 3: 0.30 x 0.00 x 0.20 m'
    # Above the box, which is up: -y in the camera's frame.
    assert name.pose.position.y < -0.2 - 0.1
    assert (name.pose.position.x, name.pose.position.z) == pytest.approx((0.1, 1.5))


def make_points(shape: tuple[int, ...]) -> np.ndarray:
    points = np.zeros(shape, POINT_DTYPE)
    flat = points.reshape(-1)
    flat['x'] = np.arange(flat.size)
    flat['z'] = 2.0
    flat['label'] = np.arange(flat.size) % 3
    flat['instance'] = 700
    flat['confidence'] = 200
    flat['rgb'] = np.array([0x00102030], np.uint32).view(np.float32)
    return points


def read_points(cloud: PointCloud2) -> list[dict[str, float]]:
    """Every point of a cloud, by the message definition alone."""
    formats = {
        PointField.UINT8: 'B',
        PointField.UINT16: 'H',
        PointField.UINT32: 'I',
        PointField.FLOAT32: 'f',
    }
    return [
        {
            field.name: struct.unpack_from(
                '<' + formats[field.datatype],
                cloud.data,
                row * cloud.row_step + column * cloud.point_step + field.offset,
            )[0]
            for field in cloud.fields
        }
        for row in range(cloud.height)
        for column in range(cloud.width)
    ]


@pytest.mark.parametrize('shape', [(2, 3), (5,), (0,)])
def test_clouds_say_how_they_are_read(shape: tuple[int, ...]) -> None:
    points = make_points(shape)
    sent = points_to_cloud(
        to_byte_array(points.view(np.uint8)), shape, HEADER, has_confidence=True
    )
    cloud = deserialize_message(serialize_message(sent), PointCloud2)
    assert (cloud.height, cloud.width) == (shape if len(shape) == 2 else (1, shape[0]))
    assert cloud.is_dense == (len(shape) == 1)
    assert cloud.row_step * cloud.height == len(cloud.data)
    assert not cloud.is_bigendian
    read = read_points(cloud)
    assert len(read) == points.size
    for i, point in enumerate(read):
        assert point.pop('rgb') == points.reshape(-1)['rgb'][i]
        assert point == {
            'x': i, 'y': 0.0, 'z': 2.0, 'label': i % 3, 'instance': 700, 'confidence': 200
        }  # fmt: skip


def test_confidence_that_is_not_known_is_no_field() -> None:
    data = array.array('B', bytes(POINT_DTYPE.itemsize))
    cloud = points_to_cloud(data, (1,), HEADER, has_confidence=False)
    assert 'confidence' not in [field.name for field in cloud.fields]
