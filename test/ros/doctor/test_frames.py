"""What the doctor says of TF: trees by hand, and a live one where tf2_msgs is installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_perception.ros.doctor.finding import Gravity
from seg_perception.ros.doctor.frames import Transform, check_frame, check_tree
from seg_perception.ros.messages import array_to_image

OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""REP 103: x right, y down, z forward, in a body's x forward, y left, z up."""


def static(parent, child, **more):
    return Transform(parent, child, True, **more)


def moving(parent, child, age_s=0.02, **more):
    return Transform(parent, child, False, age_s, **more)


ROBOT = [
    moving('map', 'odom'),
    moving('odom', 'base_link'),
    static('base_link', 'front_link', translation_m=(0.2, 0.0, 1.0)),
    static('front_link', 'front_optical', rotation_xyzw=OPTICAL),
]


def looked(frame_id='front_optical', transforms=ROBOT, *, base='base_link', is_needed=True):
    [finding] = check_frame('front', frame_id, base, transforms, is_needed=is_needed)
    assert finding.check == 'front: TF'
    return finding


def test_a_tree_that_leads_from_camera_to_robot():
    [tree] = check_tree(ROBOT)
    assert (tree.gravity, tree.what) == (Gravity.OK, '5 frames below map')
    # Up, down, and by way of a common ancestor.
    base_first = [static('front_optical', 'base_link', rotation_xyzw=(0.5, -0.5, 0.5, 0.5))]
    mast = [*ROBOT, static('odom', 'mast', rotation_xyzw=OPTICAL)]
    for found in (looked(), looked(transforms=base_first), looked('mast', mast)):
        assert found.gravity is Gravity.OK, found
    assert looked().what == "'front_optical' is known in 'base_link'"


@pytest.mark.parametrize(
    ('transforms', 'gravity', 'what'),
    [
        ([*ROBOT, static('map', 'base_link')], Gravity.WARNING, 'several parents'),
        ([*ROBOT, static('odom', 'base_link')], Gravity.WARNING, 'on /tf and on /tf_static'),
        (
            [moving('a', 'b'), moving('b', 'c'), moving('c', 'a')],
            Gravity.ERROR,
            'a loop: b -> a -> c -> b',
        ),
        ([static('a', 'a')], Gravity.WARNING, 'the parent is the child'),
        ([static('/a', 'b')], Gravity.WARNING, "must not begin with '/'"),
        ([static('', 'b')], Gravity.WARNING, 'without a name'),
        ([static('a', 'b', rotation_xyzw=(0.0,) * 4)], Gravity.WARNING, 'no unit quaternion'),
        ([static('a', 'b', translation_m=(math.nan, 0.0, 0.0))], Gravity.WARNING, 'not finite'),
    ],
)
def test_what_is_wrong_with_a_tree(transforms, gravity, what):
    findings = check_tree(transforms)
    assert [f.gravity for f in findings] == [gravity]
    assert what in findings[0].what
    assert findings[0].fix
    for frame_id in {t.child for t in transforms}:  # and no walk up goes on for ever
        check_frame('front', frame_id, 'c', transforms, is_needed=True)


@pytest.mark.parametrize(
    ('arguments', 'what', 'fix'),
    [
        ({'transforms': []}, "nobody tells TF where 'front_optical' is", 'static_transform_pub'),
        ({'frame_id': 'other'}, "nobody tells TF where 'other' is", '--child-frame-id other'),
        ({'frame_id': '/front_optical'}, "no names with '/'", "frame_id to 'front_optical'"),
        ({'base': 'base_footprint'}, "where 'base_footprint' is", '-p base_frame:=base_link'),
        (
            {'frame_id': 'tripod', 'transforms': [*ROBOT, static('stand', 'tripod')]},
            "'tripod' (below 'stand') and 'base_link' (below 'map') are not connected",
            "where 'stand' is",
        ),
    ],
)
def test_a_camera_that_tf_does_not_place(arguments, what, fix):
    found = looked(**arguments)
    assert found.gravity is Gravity.ERROR
    assert what in found.what
    assert fix in found.fix
    if arguments.get('transforms') == []:
        assert not check_frame('front', 'front_optical', 'base_link', [], is_needed=False)
    else:
        assert looked(**arguments, is_needed=False).gravity is Gravity.WARNING


@pytest.mark.parametrize(
    ('age_s', 'what'), [(4.0, '4.0 s old'), (-2.0, '2.0 s ahead'), (1.7e9, 's old')]
)
def test_old_transforms_on_the_way_are_told_and_no_others(age_s, what):
    pan = [*ROBOT[:2], moving('base_link', 'front_link', age_s), ROBOT[3]]
    found = looked(transforms=pan)
    assert found.gravity is Gravity.WARNING
    assert "'base_link' to 'front_link' is" in found.what
    assert what in found.what
    assert ('use_sim_time' in found.fix) == (age_s > 1e6)
    assert looked(transforms=[moving('map', 'odom', age_s), *ROBOT[1:]]).gravity is Gravity.OK


def test_a_body_frame_in_place_of_the_optical_one():
    found = looked('front_link')
    assert found.gravity is Gravity.WARNING
    assert "'front_link' looks straight up in 'base_link'" in found.what
    assert "such as 'front_optical'" in found.fix


def test_the_command_listens_to_tf(ros):
    tf2_msgs = pytest.importorskip('tf2_msgs.msg')
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile

    def transform(parent, child):
        stamp = ros.node.get_clock().now().to_msg()
        stamped = TransformStamped(
            header=Header(stamp=stamp, frame_id=parent), child_frame_id=child
        )
        q = stamped.transform.rotation
        q.x, q.y, q.z, q.w = OPTICAL
        return tf2_msgs.TFMessage(transforms=[stamped])

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    still = ros.publisher('/tf_static', tf2_msgs.TFMessage, latched, num_subscribers=0)
    still.publish(transform('base_link', 'optical'))
    tf = ros.publisher('/tf', tf2_msgs.TFMessage, 10, num_subscribers=0)
    images = ros.publisher('/placed/image_raw', Image, 10, num_subscribers=0)
    pixels = np.zeros((48, 64, 3), np.uint8)

    def publish():
        tf.publish(transform('odom', 'base_link'))
        header = Header(stamp=ros.node.get_clock().now().to_msg(), frame_id='optical')
        images.publish(array_to_image(pixels, 'rgb8', header))

    ros.node.create_timer(0.05, publish)

    def examined(*arguments):
        doctor = [sys.executable, '-m', 'seg_perception.cli.main', 'doctor', '--json']
        command = [*doctor, '--seconds', '2', '--image', '/placed/image_raw', *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=90)
        return {f['check']: f for f in json.loads(result.stdout)}

    found = examined()
    assert found['TF']['what'] == '3 frames below odom'
    assert found['camera: TF']['what'] == "'optical' is known in 'base_link'"
    found = examined('--base-frame', 'base_footprint')
    assert found['camera: TF']['gravity'] == 'warning'
    assert 'base_frame:=base_link' in found['camera: TF']['fix']
