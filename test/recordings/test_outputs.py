"""What recordings say is what the live node says: the same topics, types, bytes and policies."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ros_harness import ROOT

pytest.importorskip('rclpy', reason='rclpy is not installed: run scripts/setup')
pytest.importorskip('vision_msgs', reason='vision_msgs is not installed: run scripts/setup')

from bags import INTRINSICS
from photographs import astronaut
from rosbags.rosbag2.metadata import dump_qos_v9
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from seg_perception.pipeline import Segmenter
from seg_perception.recordings.definitions import VISION_MSGS, definition_of, typestore
from seg_perception.recordings.outputs import (
    LABEL_INFO,
    ImageResult,
    OutputOptions,
    output_qos,
    output_topics,
)
from seg_perception.ros import qos
from seg_perception.ros.frame_result import FrameResult
from seg_perception.ros.outputs import output_table
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.structures import Frame

pytestmark = pytest.mark.ros

NAMES = (
    *('labels', 'confidence', 'camera_info', 'objects', 'instances', 'overlay', 'label_info'),
    'masks/*',
)


@pytest.mark.parametrize('overlay_boxes', [False, True])
def test_the_same_bytes_on_the_same_topics(overlay_boxes):
    frame = Frame.from_array(
        astronaut(120, 160)[..., ::-1], 'bgr8', stamp_ns=1_700_000_000_123_456_789, frame_id='cam'
    )
    with Segmenter() as segmenter:
        [result] = segmenter.segment([frame])
        classes = segmenter.classes
    assert len(np.unique(result.labels_YX)) > 1
    parameters = Parameters(mask_classes=('*',), overlay_boxes=overlay_boxes)
    live = {
        output.topic: output
        for output in output_table(classes, parameters, CameraParameters(), has_confidence=True)
    }
    live_result = FrameResult(frame, result, parameters, INTRINSICS)
    options = OutputOptions(overlay_boxes=overlay_boxes)
    ours = output_topics(NAMES, classes, has_confidence=True)
    our_result = ImageResult(frame, result, options, INTRINSICS)
    assert {output.name for output in ours} == set(live) - {'grasp/mask'}
    for output in ours:
        theirs = live[output.name]
        package, name = output.message_type.split('/msg/')
        assert (theirs.message_type.__module__.split('.')[0], theirs.message_type.__name__) == (
            package,
            name,
        )
        assert theirs.needs_confidence == output.needs_confidence
        assert theirs.needs_objects == output.needs_objects
        made = output.make(our_result)
        np.testing.assert_array_equal(made, theirs.make(live_result), err_msg=output.name)
        typestore().deserialize_cdr(made.tobytes(), output.message_type)


def test_options_have_the_defaults_of_the_node():
    parameters = Parameters()
    for field in dataclasses.fields(OutputOptions):
        assert getattr(OutputOptions(), field.name) == getattr(parameters, field.name)


@pytest.mark.parametrize('is_latched', [False, True])
def test_policies_and_types_are_those_that_a_recorder_sees_of_the_node(ros, is_latched):
    from vision_msgs.msg import LabelInfo

    profile = qos.latched() if is_latched else qos.output()
    publisher = ros.node.create_publisher(LabelInfo, '/test_policies', profile)
    [seen] = ros.node.get_publishers_info_by_topic('/test_policies')
    ros.node.destroy_publisher(publisher)
    [ours] = dump_qos_v9([output_qos(is_latched=is_latched)])
    for name in ('reliability', 'durability', 'liveliness'):
        assert ours[name] == getattr(seen.qos_profile, name).name.lower()
    for name in ('deadline', 'lifespan', 'liveliness_lease_duration'):
        seen_ns = getattr(seen.qos_profile, name).nanoseconds
        assert ours[name] == {'sec': seen_ns // 10**9, 'nsec': seen_ns % 10**9}
    assert (ours['history'], ours['depth']) == ('keep_last', profile.depth)
    assert str(seen.topic_type_hash) == definition_of(LABEL_INFO)[1]


def test_definitions_are_those_that_the_node_is_built_with():
    built = get_typestore(Stores.ROS2_JAZZY)
    for path in (ROOT / 'scripts' / 'vision_msgs' / 'msg').glob('*.msg'):
        built.register(get_types_from_msg(path.read_text(), f'vision_msgs/msg/{path.stem}'))
    for name in VISION_MSGS:
        definition, digest = definition_of(name)
        assert digest == built.hash_rihs01(name)
        assert definition.data
