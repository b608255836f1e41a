"""``seg-perception view`` beside the real node: what it draws, read back from file and server."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
from typing import Any

import numpy as np
import pytest
import rgbd_model
import rgbd_scene
import rrd_file
from ros_harness import send_until, wait_until
from sensor_msgs.msg import CameraInfo, Image

from seg_perception.ros import qos
from seg_perception.ros.messages import (
    array_to_image,
    intrinsics_to_camera_info,
    make_header,
)

pytest.importorskip('rerun', reason="rerun-sdk (extra 'view') is not installed")

VIEW = [sys.executable, '-m', 'seg_perception.cli.main', 'view']
FREE_PORTS = ['--port', '0', '--data-port', '0']
COLOR, DEPTH = '/front/image_raw', '/front/depth/image_raw'
START_NS = 1_700_000_000_000_000_000
CAMERA = rgbd_scene.camera((320, 240))
SCENE = rgbd_scene.render(CAMERA)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return rgbd_model.write(tmp_path_factory.mktemp('nearest_color'))


@pytest.fixture
def start_node(spawn, model):
    """Starts the node with one camera."""

    def start(**params):
        node = spawn(
            'node',
            {
                'model': str(model),
                'num_threads': 1,
                'cameras': ['front'],
                'front.image_topic': COLOR,
                'diagnostics_period_s': 0.2,
                **params,
            },
        )
        node.wait_for_log('loaded in', 90.0)
        return node

    return start


class DepthCamera:
    """Sends the scene, each time with a later stamp."""

    def __init__(self, ros: Any, start_ns: int = START_NS, period_ns: int = 200_000_000) -> None:
        self.stamp_ns, self._period_ns = start_ns, period_ns
        self._publishers = [
            ros.publisher(topic, kind, qos.sensor_input(), num_subscribers=0)
            for topic, kind in (
                ('/front/camera_info', CameraInfo),
                ('/front/depth/camera_info', CameraInfo),
                (DEPTH, Image),
                (COLOR, Image),
            )
        ]

    def send(self, size_px: int | None = None) -> None:
        """One image, calibration and depth; or an image alone, of another size."""
        header = make_header(self.stamp_ns, 'front_optical')
        info, depth_info, depth, color = self._publishers
        if size_px is None:
            info.publish(intrinsics_to_camera_info(CAMERA, header))
            depth_info.publish(intrinsics_to_camera_info(CAMERA, header))
            depth.publish(array_to_image(SCENE.depth_m_YX.astype(np.float32), '32FC1', header))
            color.publish(array_to_image(SCENE.rgb_YX3, 'rgb8', header))
        else:
            pixels = np.full((size_px, size_px, 3), rgbd_scene.COLORS_RGB[2], np.uint8)
            color.publish(array_to_image(pixels, 'rgb8', header))
        self.stamp_ns += self._period_ns


def play(send, condition, what: str, timeout_s: float = 60.0) -> None:
    """Sends five times a second until something holds."""

    send_until(send, condition, what, timeout_s, period_s=0.2)


def page_of(process) -> str:
    log = process.wait_for_log('waits for', 60.0)
    return next(line for line in log.splitlines() if line.startswith('page  '))[6:]


@pytest.mark.slow
def test_draws_all_there_is_of_a_depth_camera(start_node, spawn, ros, tmp_path):
    """Image, labels with names and colours, confidence, objects, points, boxes, curves, status."""
    saved, received = tmp_path / 'run.rrd', tmp_path / 'server.rrd'
    view = spawn.command([*VIEW, *FREE_PORTS, '--rate', '50', '--save', str(saved)], name='view')
    page = page_of(view)
    start_node(
        **{'front.depth_topic': DEPTH, 'front.mount_xyz_rpy': [0.0, 0.0, 1.0, 0.0, 20.0, 0.0]},
        object_classes=['box', 'ball'],
    )
    camera = DepthCamera(ros)
    play(camera.send, lambda: 'front: shown' in view.log, 'a camera that is shown')
    sizes = set()

    def has_drawn_much():
        sizes.add(saved.stat().st_size)
        return len(sizes) > 25

    play(camera.send, has_drawn_much, 'a file that grows')

    # The page leads to its data, and may fetch nowhere else.
    with urllib.request.urlopen(page, timeout=30.0) as answer:
        data_port = answer.url.rpartition('%3A')[2].partition('%2F')[0]
        assert f'http://localhost:{data_port}' in answer.headers['Content-Security-Policy']
        assert b're_viewer.js' in answer.read()
    # Who connects now is sent what was drawn before.
    from seg_perception.ros.view.rerun_sdk import server_program

    url = f'rerun+http://localhost:{data_port}/proxy'
    client = spawn.command(
        [str(server_program()), url, '--save', str(received), '--port', '0'],
        name='client',
        expect_exit=None,
    )
    wait_until(lambda: received.exists() and received.stat().st_size > 100_000, 30.0, 'the data')
    time.sleep(1.0)
    client.stop()

    assert view.stop(signal.SIGINT) == 0
    assert 'Traceback' not in view.log
    for path in (saved, received):
        check_depth_camera(rrd_file.read(path))


def check_depth_camera(drawn) -> None:
    # What holds always: the classes, where the camera is.
    always = {k: v for row in drawn['/front'] if not row.timeline for k, v in row.values.items()}
    described = [item['class_description']['info'] for item in always['context'][0]]
    names = {info['id']: info['label'] for info in described}
    assert names == {**dict(enumerate(rgbd_scene.CLASS_NAMES)), 255: 'unlabelled'}
    colors = {info['id']: info['color'] for info in described}
    assert len(set(colors.values())) >= 4
    assert colors[0] & 0xFF == colors[255] & 0xFF == 0  # seen through
    pinhole = next(row.values for row in drawn['/front/camera'] if 'resolution' in row.values)
    assert pinhole['resolution'] == [[320.0, 240.0]]
    np.testing.assert_allclose(
        np.reshape(pinhole['image_from_camera'], (3, 3)).T.ravel(), CAMERA.k, rtol=1e-6
    )

    # What has a stamp: that of the image, to the nanosecond.
    labels = drawn['/front/camera/labels']
    stamps = [row.time_ns for row in labels]
    assert len(stamps) >= 3
    assert all(row.timeline == 'stamp' for row in labels)
    assert all((stamp - START_NS) % 200_000_000 == 0 for stamp in stamps)
    assert len(set(stamps)) == len(stamps)
    for row in labels:
        np.testing.assert_array_equal(rrd_file.pixels(row), SCENE.labels_YX)
    assert {row.time_ns for row in drawn['/front/camera/image']} <= set(stamps)
    assert drawn['/front/camera/image']
    assert (rrd_file.pixels(drawn['/front/camera/confidence'][-1]) > 0).all()

    objects = drawn['/front/camera/objects'][-1].values
    texts = sorted(objects['labels'])
    assert [text.split()[0] for text in texts] == ['ball', 'box', 'box']
    assert all(text.endswith('%') for text in texts)
    boxes = {
        tuple(np.subtract(c, h)) + tuple(np.add(c, h))
        for c, h in zip(objects['centers'], objects['half_sizes'], strict=True)
    }
    for instance in (1, 2, 3):
        rows, columns = np.nonzero(SCENE.instances_YX == instance)
        truth = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert any(np.abs(np.subtract(truth, box)).max() <= 1.0 for box in boxes), instance

    points = np.array(drawn['/front/points'][-1].values['positions'])
    known = SCENE.points_m_YX3[np.isfinite(SCENE.depth_m_YX)]
    assert len(known) / 2 < len(points) <= 60_000
    np.testing.assert_allclose(points.min(0), known.min(0), atol=0.02)
    np.testing.assert_allclose(points.max(0), known.max(0), atol=0.02)
    in_space = drawn['/front/boxes'][-1].values
    centers = np.array(in_space['centers'])
    for instance in (1, 2):
        distance_m = np.linalg.norm(centers - SCENE.truth[instance].center_xyz_m, axis=1).min()
        assert distance_m < 0.05, instance

    shares = drawn['/plots/classes/front/floor']
    percent = [row.values['scalars'][0] for row in shares if row.timeline]
    assert percent[-1] == pytest.approx(100.0 * (SCENE.labels_YX == 1).mean(), abs=0.5)
    for curve in ('latency/front/latency_p50_ms', 'rate/front/rate_hz'):
        assert any(row.timeline for row in drawn[f'/plots/{curve}']), curve
    status = drawn['/status'][-1].values['text'][0]
    assert 'front' in status
    assert 'published' in status


@pytest.mark.slow
def test_goes_on_while_topics_come_go_change_and_start_over(start_node, spawn, ros, tmp_path):
    saved = tmp_path / 'run.rrd'
    view = spawn.command(
        [*VIEW, '--no-page', '--save', str(saved), '--rate', '50', '--json', 'front'], name='view'
    )
    view.wait_for_log('waits for a camera called front', 60.0)
    # Images and no node: labels that never come.
    camera = DepthCamera(ros)
    node = start_node()
    play(camera.send, lambda: 'front: shown' in view.log, 'a camera that is shown')
    # Another size, in the middle.
    labels = ros.collect('/front/segmentation/labels', Image, qos.output())
    play(
        lambda: camera.send(size_px=64),
        lambda: sum(message.height == 64 for message in list(labels)) >= 10,
        'labels of another size',
    )
    # The node goes, which is said, and comes back.
    node.stop()
    play(camera.send, lambda: view.log.count('waits for /front/segmentation/labels') >= 2, 'word')
    time.sleep(3.0)  # images wait for labels no longer
    shown_before = view.log.count('front: shown')
    start_node()
    play(camera.send, lambda: view.log.count('front: shown') > shown_before, 'the camera again')
    # Stamps go back, by a bag that starts over: that is another recording.
    camera.stamp_ns = START_NS - 3600 * 10**9
    again = tmp_path / 'run_2.rrd'
    play(camera.send, lambda: again.exists() and again.stat().st_size > 200_000, 'a second file')
    assert view.stop(signal.SIGINT) == 0

    document = json.loads(view.log[view.log.index('{\n') :])
    assert document['saved_paths'] == [str(saved), str(again)]
    drawn = document['cameras']['front']['drawn']
    assert drawn['labels'] >= 10
    assert drawn['image'] >= 10
    shapes = {rrd_file.pixels(row).shape for row in rrd_file.read(saved)['/front/camera/labels']}
    assert shapes == {SCENE.labels_YX.shape, (64, 64)}
    second = rrd_file.read(again)
    labels = second['/front/camera/labels']
    assert max(row.time_ns for row in labels) < START_NS
    assert any('context' in row.values for row in second['/front'])  # the classes are there too
    # Without labels, images alone.
    images = {row.time_ns for row in rrd_file.read(saved)['/front/camera/image']}
    assert images - {row.time_ns for row in rrd_file.read(saved)['/front/camera/labels']}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--no-page'], 'expected a page or a file to record to, got neither'),
        (['--port', '9321', '--data-port', '9321'], 'expected two different ports, got 9321'),
        (['--host', '192.0.2.7'], 'cannot listen on port'),
        (['--no-page', '--save', '/proc/no/run.rrd'], 'cannot record to /proc/no/run.rrd'),
        (['--rate', '0'], 'parameter max_rate_hz: expected 0.1 to 1000, got 0'),
    ],
)
def test_what_cannot_work_ends_with_1_and_a_line(arguments, message, spawn):
    view = spawn.command([*VIEW, *arguments, '--json'], name='view', expect_exit=1)
    assert view.wait(60.0) == 1
    assert message in view.log
    assert 'Traceback' not in view.log
    assert json.loads(view.log[view.log.index('{\n') : view.log.rindex('}') + 1])['error']['kind']
