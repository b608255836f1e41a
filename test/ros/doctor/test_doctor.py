"""The doctor on live topics: the command, and the node that looks at its cameras itself."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import wait_until
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image

DOCTOR = [sys.executable, '-m', 'seg_perception.cli.main', 'doctor', '--json', '--seconds', '2']
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


def examined(*arguments):
    result = subprocess.run([*DOCTOR, *arguments], capture_output=True, text=True, timeout=90)
    assert result.returncode in (0, 1), result.stderr
    return {f['check']: f for f in json.loads(result.stdout)}, result.returncode


def send(ros, topic, encoding='rgb8'):
    """Publishes 20 images per second until the test ends."""
    publisher = ros.publisher(topic, Image, 10, num_subscribers=0)
    pixels = np.zeros((48, 64, 3), np.uint8)

    def publish():
        stamp = ros.node.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id='optical')
        publisher.publish(array_to_image(pixels, encoding, header))

    ros.node.create_timer(0.05, publish)


def test_the_command_looks_at_a_camera(ros):
    send(ros, '/doctored/image_raw')
    info = ros.publisher('/doctored/camera_info', CameraInfo, 10, num_subscribers=0)
    calibration = CameraInfo(width=640, height=480)
    calibration.k[0] = calibration.k[4] = 500.0
    ros.node.create_timer(0.1, lambda: info.publish(calibration))
    found, exit_code = examined('--image', '/doctored/image_raw')
    assert found['camera: images']['what'] == '64x48 rgb8'
    assert found['camera: image topic']['gravity'] == 'ok'
    assert 'is of 640x480, the images are 64x48' in found['camera: calibration']['what']
    assert exit_code == 0
    found, exit_code = examined('--image', '/doctored/image')
    assert '/doctored/image_raw' in found['camera: image topic']['fix']
    assert exit_code == 1


@pytest.mark.distro
def test_the_command_finds_the_cameras_of_a_node(ros, spawn, tmp_path):
    spawn('node', {'cameras': ['left'], 'left.image_topic': '/left/image_raw', 'autostart': False})
    wait_until(
        lambda: any(name == 'segmentation' for name in ros.node.get_node_names()), 60.0, 'node'
    )
    send(ros, '/left/image_raw', encoding='bgr7')
    bundle = tmp_path / 'report.zip'
    found, exit_code = examined('--bundle', str(bundle))
    assert "'bgr7'" in found['left: images']['what']
    assert exit_code == 1
    assert bundle.is_file()


@pytest.mark.distro
def test_the_node_says_what_is_wrong_until_it_is_right(ros, spawn):
    statuses = ros.collect('/diagnostics', DiagnosticArray)
    node = spawn('node', {'camera.image_topic': '/camera/image_raw', 'lazy': False})

    def wiring(messages):
        return [s for m in messages for s in m.status if s.name == 'segmentation: wiring']

    found = statuses.wait_until(wiring, 90.0)
    assert 'nobody publishes /camera/image_raw' in wiring(found)[-1].message
    send(ros, '/camera/image_raw')
    ros.publisher('/camera/camera_info', CameraInfo, 10, num_subscribers=0)
    statuses.wait_until(lambda m: wiring(m)[-1].message == 'all cameras are wired', 30.0)
    # Once, however often it looked.
    assert node.log.count('camera: image topic: nobody publishes') == 1
    assert node.log.count('all cameras are wired now') == 1


IMPATIENT = """
from seg_perception.ros import node
from seg_perception.ros.doctor import at_activation
at_activation.CLASH_S = 1.0
node.main()
"""


def test_the_node_tells_of_others_with_its_name_or_its_topics(ros, ros_executor, spawn):
    args = ['--ros-args', '-p', 'input_size_wh:=[64, 64]', '-p', 'num_threads:=1']
    node = spawn.command([sys.executable, '-c', IMPATIENT, *args], name='node')
    node.wait_for_log('loaded in', 90.0)
    ros.publisher('/camera/segmentation/status', DiagnosticStatus, 10, num_subscribers=0)
    namesake = rclpy.create_node('segmentation', context=ros_executor.context)
    node.wait_for_log('2 nodes are called /segmentation: services', 60.0)
    node.wait_for_log('camera: outputs: 2 nodes publish in /camera/segmentation', 60.0)
    namesake.destroy_node()


@pytest.mark.distro
def test_reliability_follows_the_publishers_where_asked(ros):
    def chosen(topic, reliability):
        return qos.image_input(ros.node, topic, reliability).reliability

    assert chosen('/nobody', 'auto') == ReliabilityPolicy.BEST_EFFORT
    ros.publisher('/firm', Image, RELIABLE, num_subscribers=0)
    wait_until(lambda: ros.node.count_publishers('/firm'), 20.0, 'the publisher')
    assert chosen('/firm', 'auto') == ReliabilityPolicy.RELIABLE
    assert chosen('/firm', 'best_effort') == ReliabilityPolicy.BEST_EFFORT
    assert chosen('/nobody', 'reliable') == ReliabilityPolicy.RELIABLE
    ros.publisher('/firm', Image, BEST_EFFORT, num_subscribers=0)
    wait_until(lambda: ros.node.count_publishers('/firm') == 2, 20.0, 'the other publisher')
    assert chosen('/firm', 'auto') == ReliabilityPolicy.BEST_EFFORT
