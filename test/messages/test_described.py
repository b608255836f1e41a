"""Messages written by hand; rclpy's own conversion and the rosbags library are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
import ros_harness  # noqa: F401  (sets the environment of ROS 2 first)
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('vision_msgs', reason='vision_msgs is not installed: run scripts/setup')

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)

from seg_perception.geometry import Intrinsics
from seg_perception.messages.described import (
    write_camera_info,
    write_detections,
    write_label_info,
)
from seg_perception.ros.messages import make_header
from seg_perception.structures import ClassTable, ObjectInstance, Objects

pytestmark = pytest.mark.ros

TEXT = st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=9)
NAMES = st.lists(TEXT.filter(bool), min_size=1, max_size=5, unique=True).map(tuple)
STAMP_NS = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)
FLOAT = st.floats(-1e6, 1e6)


def floats(number):
    return st.tuples(*[FLOAT] * number)


def assert_same(written, message):
    """Equal bytes, apart from padding, in which rclpy leaves what happens to be in memory."""
    by_rclpy = serialize_message(message)
    assert deserialize_message(written.tobytes(), type(message)) == message
    assert len(written) == len(by_rclpy)
    pairs = zip(written.tobytes(), by_rclpy, strict=True)
    assert {ours for ours, theirs in pairs if ours != theirs} <= {0}


@given(
    STAMP_NS,
    TEXT,
    st.builds(
        Intrinsics,
        st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
        floats(9),
        floats(12),
        TEXT,
        st.lists(FLOAT, max_size=8).map(tuple),
        floats(9),
    ),
)
def test_calibrations(stamp_ns, frame_id, intrinsics):
    width, height = intrinsics.size_wh
    message = CameraInfo(
        header=make_header(stamp_ns, frame_id),
        width=width,
        height=height,
        distortion_model=intrinsics.distortion_model,
        **{name: list(getattr(intrinsics, name)) for name in 'dkrp'},
    )
    assert_same(write_camera_info(intrinsics, stamp_ns, frame_id), message)


@given(NAMES, st.floats(0, 1, width=32), STAMP_NS, TEXT)
def test_class_tables(names, threshold, stamp_ns, frame_id):
    message = LabelInfo(
        header=make_header(stamp_ns, frame_id),
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)],
        threshold=threshold,
    )
    assert_same(write_label_info(ClassTable(names), threshold, stamp_ns, frame_id), message)


PLACES = st.lists(
    st.tuples(st.integers(0, 4), st.floats(0, 1), *[st.integers(0, 9999)] * 4), max_size=4
)


@given(NAMES, PLACES, STAMP_NS, TEXT)
def test_objects(names, places, stamp_ns, frame_id):
    header = make_header(stamp_ns, frame_id)
    items, detections = [], []
    for number, (which, score, left, top, width, height) in enumerate(places, start=9):
        class_id = which % len(names)
        box = (left, top, left + width, top + height)
        items.append(ObjectInstance(number, class_id, score, box, 1, (0.0, 0.0)))
        bbox = BoundingBox2D(size_x=float(width), size_y=float(height))
        bbox.center.position.x = left + (width - 1) / 2
        bbox.center.position.y = top + (height - 1) / 2
        named = ObjectHypothesis(class_id=names[class_id], score=score)
        result = ObjectHypothesisWithPose(hypothesis=named)
        detections.append(Detection2D(header=header, results=[result], bbox=bbox, id=str(number)))
    objects = Objects(np.zeros((1, 1), np.uint16), tuple(items))
    message = Detection2DArray(header=header, detections=detections)
    assert_same(write_detections(objects, ClassTable(names), stamp_ns, frame_id), message)


def test_boxes_of_objects_in_the_image():
    cup = ObjectInstance(3, 1, 0.75, (2, 1, 6, 3), 8, (3.5, 1.5))
    dot = ObjectInstance(7, 2, 1.0, (0, 5, 1, 6), 1, (0.0, 5.0))
    written = write_detections(
        Objects(np.zeros((6, 8), np.uint16), (cup, dot)),
        ClassTable(('background', 'cup', 'tray')),
        5,
        'optical',
    )
    message = deserialize_message(written.tobytes(), Detection2DArray)
    first, second = message.detections
    assert (first.id, second.id) == ('3', '7')
    assert message.header == first.header == Header(frame_id='optical', stamp=first.header.stamp)
    assert first.results[0].hypothesis.class_id == 'cup'
    assert first.results[0].hypothesis.score == 0.75
    # Pixels 2 to 5 and 1 to 2, centres at whole numbers.
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (3.5, 1.5)
    assert (first.bbox.size_x, first.bbox.size_y) == (4.0, 2.0)
    assert (second.bbox.center.position.x, second.bbox.size_x) == (0.0, 1.0)
