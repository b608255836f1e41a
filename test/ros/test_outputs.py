"""The table of outputs: what it offers and makes."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image

from seg_perception.errors import ConfigurationError
from seg_perception.geometry import Intrinsics
from seg_perception.messages.topic_names import topic_token
from seg_perception.ros.frame_result import FrameResult
from seg_perception.ros.messages import stamp_to_ns
from seg_perception.ros.outputs import output_table
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.structures import ClassTable, Frame, Segmentation

CLASSES = ClassTable(('floor', 'dining table'))


def topics(classes, mask_classes, *, has_confidence=True, label_info_sync=False):
    parameters = Parameters(mask_classes=mask_classes, label_info_sync=label_info_sync)
    table = output_table(classes, parameters, CameraParameters(), has_confidence=has_confidence)
    return {output.topic: output for output in table}


@pytest.mark.parametrize(
    ('name', 'token'),
    [
        ('dining table', 'dining_table'),
        ('x _y', 'x_y'),
        ('_private_', 'private'),
        ('2-wheeler', 'class_2_wheeler'),
        ('Straße', 'Stra_e'),
        ('草', 'class'),
    ],
)
def test_topic_tokens_are_valid_ros_names(name, token):
    assert topic_token(name) == token


def test_masks_are_offered_by_name():
    assert not any(topic.startswith('masks/') for topic in topics(CLASSES, ('',)))
    assert 'masks/dining_table' in topics(CLASSES, ('dining table',))
    assert {'masks/floor', 'masks/dining_table'} <= set(topics(CLASSES, ('*',)))
    assert 'confidence' not in topics(CLASSES, ('',), has_confidence=False)
    with pytest.raises(ConfigurationError, match="no class 'cat'"):
        topics(CLASSES, ('cat',))


def test_classes_whose_topics_would_be_one_get_their_ids():
    classes = ClassTable(('a b', 'c', 'a_b'))
    assert {'masks/a_b_0', 'masks/c', 'masks/a_b_2'} <= set(topics(classes, ('*',)))
    assert 'masks/a_b_2' in topics(classes, ('a_b',))


def test_labels_of_many_classes_are_16_bit():
    classes = ClassTable(tuple(f'c{i}' for i in range(300)))
    labels = np.array([[0, 299, 65535]], np.uint16)
    pixels = np.zeros((1, 3, 3), np.uint8)
    result = FrameResult(
        Frame.from_array(pixels), Segmentation(labels, None, classes, {}, stamp_ns=5)
    )
    made = {topic: output.make(result) for topic, output in topics(classes, ('c299',)).items()}
    for topic in ('labels', 'masks/c299', 'overlay'):
        made[topic] = deserialize_message(made[topic].tobytes(), Image)
        assert stamp_to_ns(made[topic].header.stamp) == 5
    assert (made['labels'].encoding, made['labels'].step) == ('16UC1', 6)
    assert np.frombuffer(made['labels'].data, np.uint16).tolist() == [0, 299, 65535]
    assert list(made['masks/c299'].data) == [0, 255, 0]
    assert made['overlay'].encoding == 'rgb8'
    assert made['confidence'] is None
    assert made['camera_info'] is None


def test_camera_info_matches_the_labels():
    intrinsics = Intrinsics((6, 2), (2.0, 0, 2.5, 0, 2.0, 0.5, 0, 0, 1.0), (0.0,) * 12)
    result = FrameResult(
        Frame.from_array(np.zeros((2, 6, 3), np.uint8)),
        Segmentation(np.zeros((1, 3), np.uint8), None, CLASSES, {}),
        intrinsics=intrinsics,
    )
    made = topics(CLASSES, ('',))['camera_info'].make(result)
    info = deserialize_message(made.tobytes(), CameraInfo)
    assert (info.width, info.height, list(info.k[:3])) == (3, 1, [1.0, 0.0, 1.0])


class _Broken:
    """A publisher whose topic cannot be written."""

    def get_subscription_count(self):
        return 1

    def publish(self, message):
        raise RuntimeError('no')


def test_one_failing_output_does_not_stop_the_others(ros):
    from seg_perception.ros.outputs import CameraOutputs

    table = output_table(CLASSES, Parameters(), CameraParameters(), has_confidence=True)
    outputs = CameraOutputs(ros.node, '/test_outputs', CLASSES, table)
    overlay, _ = outputs._offered['overlay']
    outputs._offered = {**outputs._offered, 'overlay': (overlay, _Broken())}
    collected = ros.collect('/test_outputs/labels', Image)
    collected.wait_for_publisher()
    result = FrameResult(
        Frame.from_array(np.zeros((1, 1, 3), np.uint8)),
        Segmentation(np.zeros((1, 1), np.uint8), None, CLASSES, {}),
    )
    num_published, errors = outputs.publish(result, frozenset({'labels', 'overlay'}))
    assert (num_published, list(errors)) == (1, ['overlay'])
