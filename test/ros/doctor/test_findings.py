"""Everything that can be wrong with topics, images and machine has a finding with its fix."""

from __future__ import annotations

import dataclasses
import json
import zipfile

import numpy as np
import pytest

from seg_perception.geometry import Intrinsics
from seg_perception.imaging import encode
from seg_perception.ros.doctor.bundle import write_bundle
from seg_perception.ros.doctor.finding import Finding, Gravity, worst
from seg_perception.ros.doctor.machine import check_machine
from seg_perception.ros.doctor.streams import Seen, check_stream
from seg_perception.ros.doctor.wiring import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    CameraWiring,
    Publisher,
    check_wiring,
)
from seg_perception.structures import CompressedFrame, Frame

RAW = CameraWiring('front', '/front/image_raw', False, '/front/camera_info')
JPEG = dataclasses.replace(RAW, image_topic='/front/image_raw/compressed', is_compressed=True)
RGBD = dataclasses.replace(RAW, depth_topic='/front/depth/image_raw')
INFO = {'/front/camera_info': [Publisher('/driver', CAMERA_INFO, True)]}


def images(*nodes, message_type=IMAGE, is_reliable=True):
    return [Publisher(node, message_type, is_reliable) for node in nodes or ('/driver',)]


def gravest(findings):
    return max(findings, key=lambda finding: finding.gravity)


def test_a_camera_that_is_wired():
    findings = check_wiring(RAW, {'/front/image_raw': images(), **INFO})
    assert worst(findings) is Gravity.OK
    assert [f.check for f in findings] == ['front: image topic', 'front: camera_info']
    compressed = {'/front/image_raw/compressed': images(message_type=COMPRESSED), **INFO}
    assert worst(check_wiring(JPEG, compressed)) is Gravity.OK


@pytest.mark.parametrize(
    ('camera', 'topics', 'gravity', 'what', 'fix'),
    [
        (RAW, {}, Gravity.ERROR, 'nobody publishes /front/image_raw', 'start the camera driver'),
        (
            RAW,
            {'/front/image': images(), '/front/segmentation/labels': images(), **INFO},
            Gravity.ERROR,
            'nobody publishes',
            '-p front.image_topic:=/front/image, or start the driver; published are: /front/image',
        ),
        (
            RAW,
            {'/front/image_raw/compressed': images(message_type=COMPRESSED), **INFO},
            Gravity.ERROR,
            'nobody publishes',
            '-p front.transport:=compressed',
        ),
        (
            JPEG,
            {'/front/image_raw': images(), **INFO},
            Gravity.ERROR,
            'nobody publishes',
            '-p front.transport:=raw',
        ),
        (
            RAW,
            {'/front/image_raw': images(message_type=COMPRESSED), **INFO},
            Gravity.ERROR,
            'is a sensor_msgs/msg/CompressedImage, of /driver',
            '-p front.transport:=compressed -p front.image_topic:=/front/image_raw',
        ),
        (
            RAW,
            {'/front/image_raw': images(message_type='std_msgs/msg/String'), **INFO},
            Gravity.ERROR,
            'is a std_msgs/msg/String',
            'give the topic of a camera',
        ),
        (
            dataclasses.replace(RAW, wants_reliable=True),
            {'/front/image_raw': images(is_reliable=False), **INFO},
            Gravity.ERROR,
            'offered best effort by /driver and asked for reliable',
            '-p image_reliability:=auto',
        ),
        (
            RAW,
            {'/front/image_raw': images('/a', '/b'), **INFO},
            Gravity.WARNING,
            '2 publishers on /front/image_raw: /a, /b',
            'stop all but one',
        ),
        (
            RAW,
            {
                '/front/image_raw': images(),
                '/x/camera_info': INFO['/front/camera_info'],
            },
            Gravity.WARNING,
            'nobody publishes /front/camera_info',
            '-p front.camera_info_topic:=… (published are: /x/camera_info)',
        ),
        (
            RGBD,
            {'/front/image_raw': images(), '/front/aligned_depth': images(), **INFO},
            Gravity.ERROR,
            'nobody publishes /front/depth/image_raw',
            'published are: /front/aligned_depth',
        ),
        (
            RGBD,
            {
                '/front/image_raw': images(),
                '/front/depth/image_raw': images(message_type=COMPRESSED),
                **INFO,
            },
            Gravity.ERROR,
            'is a sensor_msgs/msg/CompressedImage',
            'depth is received raw',
        ),
    ],
)
def test_what_is_wrong_with_topics(camera, topics, gravity, what, fix):
    finding = gravest(check_wiring(camera, topics))
    assert finding.gravity is gravity
    assert what in finding.what
    assert fix in finding.fix


FRAME = Frame.from_array(np.zeros((48, 64, 3), np.uint8), frame_id='front_optical')
K = (50.0, 0, 32, 0, 50.0, 24, 0, 0, 1)
STAMPS = tuple(range(10**9, 2 * 10**9, 10**8))
GOOD = Seen(
    seconds=1.0,
    frame=FRAME,
    num_frames=10,
    ages_s=(0.01,) * 10,
    stamps_ns=STAMPS,
    intrinsics=Intrinsics((64, 48), K, (0.0,) * 12),
)
DEPTH = Frame.from_array(np.ones((48, 64), np.uint16), '16UC1', frame_id='front_optical')
GOOD_DEPTH = dataclasses.replace(GOOD, depth=DEPTH, depth_stamps_ns=STAMPS)


def stream(camera, seen, max_offset_s=0.0):
    return check_stream(camera, seen, max_pixels=10**6, max_offset_s=max_offset_s)


def test_a_camera_that_is_well():
    assert worst(stream(RAW, GOOD)) is Gravity.OK
    assert worst(stream(RGBD, GOOD_DEPTH)) is Gravity.OK
    jpeg = dataclasses.replace(
        GOOD, frame=CompressedFrame(encode(FRAME), 'jpeg', frame_id='front_optical')
    )
    assert worst(stream(JPEG, jpeg)) is Gravity.OK


@pytest.mark.parametrize(
    ('changes', 'gravity', 'what', 'fix'),
    [
        ({'frame': None}, Gravity.ERROR, 'nothing came within 1 s', 'DDS profile'),
        (
            {'frame': dataclasses.replace(FRAME, encoding='rgb7')},
            Gravity.ERROR,
            "encoding 'rgb7'",
            'let the driver send rgb8',
        ),
        (
            {'frame': dataclasses.replace(FRAME, encoding='32FC1')},
            Gravity.ERROR,
            "encoding '32FC1'",
            'front.depth_topic',
        ),
        ({'frame': dataclasses.replace(FRAME, step=3)}, Gravity.ERROR, 'step 3', 'driver'),
        ({'num_frames': 5}, Gravity.WARNING, '5.0 Hz came of about 10.0 Hz', 'DDS profile'),
        ({'ages_s': (3.0,) * 10}, Gravity.WARNING, '3.0 s old', 'synchronise the clocks'),
        ({'ages_s': (1.7e9,) * 10}, Gravity.WARNING, 's old', 'use_sim_time:=true'),
        ({'ages_s': (-2.0,) * 10}, Gravity.WARNING, '2.0 s ahead', 'synchronise the clocks'),
        ({'stamps_ns': (0,) * 10}, Gravity.WARNING, 'stamps are 0', 'stamp its images'),
        (
            {'frame': dataclasses.replace(FRAME, frame_id='')},
            Gravity.WARNING,
            'names no frame',
            'optical frame',
        ),
        (
            {'intrinsics': Intrinsics((640, 480), K, (0.0,) * 12)},
            Gravity.WARNING,
            'is of 640x480, the images are 64x48',
            'calibrate at the size',
        ),
        (
            {'intrinsics': Intrinsics((64, 48), (0.0,) * 9, (0.0,) * 12)},
            Gravity.WARNING,
            'K is 0',
            'camera_calibration',
        ),
        ({'complaint': 'it is damaged'}, Gravity.WARNING, 'it is damaged', 'calibrate'),
    ],
)
def test_what_is_wrong_with_images(changes, gravity, what, fix):
    finding = gravest(stream(RAW, dataclasses.replace(GOOD, **changes)))
    assert finding.gravity is gravity
    assert what in finding.what
    assert fix in finding.fix


@pytest.mark.parametrize(
    ('changes', 'what', 'fix'),
    [
        ({'depth': None}, 'nothing came from /front/depth/image_raw', 'aligned'),
        ({'depth': FRAME}, 'has encoding rgb8', '16UC1, mono16, 32FC1'),
        (
            {'depth': dataclasses.replace(DEPTH, frame_id='depth_optical')},
            "depth is in 'depth_optical', the images in 'front_optical'",
            'registered',
        ),
        (
            {'depth_stamps_ns': tuple(s + 4_000_000 for s in STAMPS)},
            '4.0 ms apart, depth_max_offset_s is 0',
            '-p depth_max_offset_s:=0.007',
        ),
    ],
)
def test_what_is_wrong_with_depth(changes, what, fix):
    finding = gravest(stream(RGBD, dataclasses.replace(GOOD_DEPTH, **changes)))
    assert finding.gravity is Gravity.ERROR
    assert what in finding.what
    assert fix in finding.fix


def test_depth_may_be_as_far_off_as_allowed():
    late = dataclasses.replace(GOOD_DEPTH, depth_stamps_ns=tuple(s + 4_000_000 for s in STAMPS))
    assert worst(stream(RGBD, late, max_offset_s=0.005)) is Gravity.OK


def test_this_machine_can_run_the_node(tmp_path):
    findings = {f.check: f for f in check_machine({'ROS_DISTRO': 'jazzy'})}
    assert worst(findings.values()) is not Gravity.ERROR
    assert findings['torch'].gravity is Gravity.OK
    profile = findings['DDS profile']
    assert profile.gravity is Gravity.WARNING
    assert 'export FASTRTPS_DEFAULT_PROFILES_FILE=' in profile.fix
    gone = {'ROS_DISTRO': 'jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE': str(tmp_path / 'gone.xml')}
    findings = {f.check: f for f in check_machine(gone)}
    assert findings['DDS profile'].gravity is Gravity.ERROR
    assert 'gone.xml does not exist' in findings['DDS profile'].what


def test_a_domain_that_cannot_be_is_an_error():
    for domain in ('abc', '-1', '233', '1.5'):
        findings = {f.check: f for f in check_machine({'ROS_DOMAIN_ID': domain})}
        assert findings['domain'].gravity is Gravity.ERROR
        assert f"'{domain}'" in findings['domain'].what
    findings = {f.check: f for f in check_machine({'ROS_DOMAIN_ID': '232'})}
    assert findings['domain'].gravity is Gravity.OK


def test_a_bundle_has_what_a_report_needs_and_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    monkeypatch.setenv('ROS_SECRET_TOKEN', 'hush')
    monkeypatch.setenv('AWS_KEY', 'hush')
    path = tmp_path / 'report.zip'
    names = write_bundle(path, [Finding('a', Gravity.WARNING, 'b', 'c')], {'model': 'm'})
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(names)
        texts = {name: archive.read(name).decode() for name in names}
    assert json.loads(texts['findings.json']) == [
        {'check': 'a', 'gravity': 'warning', 'what': 'b', 'fix': 'c'}
    ]
    assert json.loads(texts['environment.json'])['ROS_DOMAIN_ID'] == '7'
    assert json.loads(texts['parameters.json']) == {'model': 'm'}
    assert 'torch' in json.loads(texts['versions.json'])
    assert 'hush' not in ''.join(texts.values())
