"""The monitor as a process, fed with label images of known content."""

from __future__ import annotations

import array
import json
import signal
import threading
import time

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import wait_until
from sensor_msgs.msg import Image

SIZE_HW = (48, 64)
NAMES = ['background', 'person', 'cat']


def image(pixels: np.ndarray, encoding: str, stamp) -> Image:
    message = Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        step=pixels.strides[0],
        data=array.array('B', pixels.tobytes()),
    )
    message.header.stamp = stamp
    message.header.frame_id = 'camera'
    return message


class Camera:
    """Publishes what a segmentation node would: half the picture is of the class asked for."""

    def __init__(self, ros) -> None:
        self.ros = ros
        wait = {'num_subscribers': 1}
        self.labels = ros.publisher('/camera/segmentation/labels', Image, **wait)
        self.overlay = ros.publisher('/camera/segmentation/overlay', Image, **wait)
        self.images = ros.publisher('/camera/image_raw', Image, **wait)
        self.diagnostics = ros.publisher('/diagnostics', DiagnosticArray, **wait)

    def send(self, class_id: int, age_s: float = 0.0) -> None:
        stamp = (self.ros.node.get_clock().now() - Duration(seconds=age_s)).to_msg()
        labels = np.zeros(SIZE_HW, np.uint8)
        labels[:, : SIZE_HW[1] // 2] = class_id
        overlay = np.full((*SIZE_HW, 3), 60 * class_id, np.uint8)
        self.images.publish(image(overlay, 'rgb8', stamp))
        self.labels.publish(image(labels, 'mono8', stamp))
        self.overlay.publish(image(overlay, 'rgb8', stamp))

    def account(self, received: int, published: int, **dropped: int) -> None:
        values = {'received': received, 'published': published}
        values |= {f'dropped_{reason}': count for reason, count in dropped.items()}
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK,
            name='segmentation: camera',
            values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )
        self.diagnostics.publish(DiagnosticArray(status=[status]))


def publish_label_info(ros):
    """Latches the class table; skips the test where vision_msgs is missing."""
    vision_msgs = pytest.importorskip(
        'vision_msgs.msg', reason='vision_msgs is not installed: run scripts/setup'
    )
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = ros.node.create_publisher(
        vision_msgs.LabelInfo, '/camera/segmentation/label_info', qos
    )
    message = vision_msgs.LabelInfo()
    for class_id, name in enumerate(NAMES):
        message.class_map.append(vision_msgs.VisionClass(class_id=class_id, class_name=name))
    publisher.publish(message)
    return publisher


def summary_value(log: str, name: str) -> str:
    (line,) = [line for line in log.splitlines() if line.startswith(name)]
    return line.removeprefix(name).strip()


@pytest.mark.distro
def test_summary_says_what_was_seen(ros, spawn, tmp_path):
    label_info = publish_label_info(ros)
    monitor = spawn(
        'monitor',
        {
            'max_frames': 20,
            'refresh_s': 0.05,
            'overlay_path': 'sheet.png',
            'summary_path': 'summary.json',
        },
    )
    camera = Camera(ros)
    camera.account(25, 20, superseded=4, malformed=1, stale=0)
    wait_until(label_info.get_subscription_count, 20.0, 'a reader of the class table')
    assert label_info.wait_for_all_acked(Duration(seconds=20.0))
    start_s = time.monotonic()
    for i in range(1, 21):
        camera.send(class_id=1 if i <= 10 else 2, age_s=0.050)
        if i < 20:
            monitor.wait_for_log(f'{i:5d} frames')  # it keeps a few only, where it is late
            time.sleep(0.05)
    took_s = time.monotonic() - start_s
    assert monitor.wait() == 0
    lines = [line.split('  ')[0] for line in monitor.log.splitlines()]
    assert lines[-5:] == [
        'frames published', 'rate', 'latency p50/p95', 'classes seen', 'overlay',
    ]  # fmt: skip
    published = '20 of 25 received, 5 dropped (1 malformed, 4 superseded)'
    assert summary_value(monitor.log, 'frames published') == published
    assert (
        summary_value(monitor.log, 'classes seen') == 'background 50.0%, cat 25.0%, person 25.0%'
    )
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['labels_received'] == summary['frames_published'] == 20
    assert summary['frames_dropped'] == {'superseded': 4, 'malformed': 1}
    assert 10.0 / took_s < summary['rate_hz'] < 21.0
    # Stamped 50 ms before they were sent.
    assert 50.0 <= summary['latency_p50_ms'] <= summary['latency_p95_ms'] < 1e3 * took_s
    assert summary['camera_images'] > 0

    # One tile per class that dominated a picture, side by side above their captions.
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))[..., ::-1]
    assert sheet.shape[0] > SIZE_HW[0]
    assert sheet.shape[1] == 2 * SIZE_HW[1]
    tiles = sheet[: SIZE_HW[0], : SIZE_HW[1]], sheet[: SIZE_HW[0], SIZE_HW[1] :]
    assert {int(np.unique(tile).item()) for tile in tiles} == {60, 120}


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_brings_the_summary(ros, spawn, signal_number):
    monitor = spawn('monitor', {'refresh_s': 0.1})
    labels = ros.publisher('/camera/segmentation/labels', Image)
    labels.publish(
        image(np.zeros(SIZE_HW, np.uint8), 'mono8', ros.node.get_clock().now().to_msg())
    )
    monitor.wait_for_log('1 frames')
    assert monitor.stop(signal_number) == 0
    assert summary_value(monitor.log, 'frames published') == '1 label images'
    assert 'Traceback' not in monitor.log


def test_writes_no_file_unasked(ros, spawn, tmp_path):
    monitor = spawn('monitor', {'max_frames': 3})
    wait = {'num_subscribers': 1}
    labels = ros.publisher('/camera/segmentation/labels', Image, **wait)
    overlays = ros.publisher('/camera/segmentation/overlay', Image, num_subscribers=0)
    before = set(tmp_path.rglob('*'))
    for _ in range(3):
        stamp = ros.node.get_clock().now().to_msg()
        labels.publish(image(np.ones(SIZE_HW, np.uint8), 'mono8', stamp))
        overlays.publish(image(np.ones((*SIZE_HW, 3), np.uint8), 'rgb8', stamp))
    assert monitor.wait() == 0
    assert set(tmp_path.rglob('*')) == before
    assert 'overlay ' not in monitor.log


def test_ends_after_its_duration(ros, spawn):
    monitor = spawn('monitor', {'duration_s': 1})
    labels = ros.publisher('/camera/segmentation/labels', Image)
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.05):
            stamp = ros.node.get_clock().now().to_msg()
            labels.publish(image(np.zeros(SIZE_HW, np.uint8), 'mono8', stamp))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert monitor.wait() == 0
    finally:
        stop.set()
        thread.join()


def test_says_why_there_is_nothing_to_see(ros, spawn):
    ros.publisher('/camera/image_raw', Image, num_subscribers=0)
    monitor = spawn('monitor', {'wait_s': 4.0}, expect_exit=1)
    assert monitor.wait() == 1
    assert 'nobody publishes /camera/segmentation/labels' in monitor.log
    assert 'image topics with a publisher: /camera/image_raw\n' in monitor.log
    assert summary_value(monitor.log, 'classes seen') == 'none'


def test_an_error_of_the_node_ends_the_wait(ros, spawn):
    monitor = spawn('monitor', expect_exit=1)
    diagnostics = ros.publisher('/diagnostics', DiagnosticArray)
    status = DiagnosticStatus(
        level=DiagnosticStatus.ERROR, name='segmentation: device', message='cannot configure: why'
    )
    diagnostics.publish(DiagnosticArray(status=[status]))
    assert monitor.wait() == 1
    assert 'segmentation: device: cannot configure: why' in monitor.log


def test_malformed_label_image_is_named_and_not_counted(ros, spawn):
    monitor = spawn('monitor', {'max_frames': 1})
    labels = ros.publisher('/camera/segmentation/labels', Image)
    now = ros.node.get_clock().now().to_msg()
    short = image(np.zeros(SIZE_HW, np.uint8), 'mono8', now)
    short.data = array.array('B', bytes(10))
    labels.publish(short)
    monitor.wait_for_log('label image:')
    assert monitor.is_running()
    labels.publish(image(np.zeros(SIZE_HW, np.uint8), 'mono8', now))
    assert monitor.wait() == 0
