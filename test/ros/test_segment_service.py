"""The service ``~/segment`` with several callers at once, each with its own time."""

from __future__ import annotations

import sys
import time

import pytest
from photographs import astronaut
from ros_harness import wait_until
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, make_header

pytestmark = pytest.mark.distro

TIMEOUT_S = 10.0
IMPATIENT = f"""
from seg_perception.ros import node, segment_service
segment_service.TIMEOUT_S = {TIMEOUT_S}
node.main()
"""
PARAMETERS = ('input_size_wh:=[64, 64]', 'num_threads:=1')


def test_a_caller_whose_time_is_over_leaves_the_others_theirs(spawn, ros):
    args = [word for parameter in PARAMETERS for word in ('-p', parameter)]
    node = spawn.command([sys.executable, '-c', IMPATIENT, '--ros-args', *args], name='node')
    node.wait_for_log('loaded in', 60.0)
    client = ros.node.create_client(Trigger, '/segmentation/segment')
    wait_until(client.service_is_ready, 20.0, 'the service')
    publisher = ros.node.create_publisher(Image, '/camera/image_raw', qos.sensor_input())
    image = array_to_image(astronaut(), 'rgb8', make_header(1, 'cam'))
    first = client.call_async(Trigger.Request())
    wait_until(publisher.get_subscription_count, 20.0, 'the node to listen for the caller')
    start_s = time.monotonic()
    time.sleep(max(0.0, start_s + 0.6 * TIMEOUT_S - time.monotonic()))
    others = [client.call_async(Trigger.Request()) for _ in range(3)]
    wait_until(first.done, 20.0, 'an answer to the first caller')
    assert not first.result().success
    assert f'no image on /camera/image_raw within {TIMEOUT_S:g} s' in first.result().message
    assert not any(other.done() for other in others)

    def are_answered():
        publisher.publish(image)
        return all(other.done() for other in others)

    wait_until(are_answered, 20.0, 'answers to the others')
    for other in others:
        assert other.result().success, other.result().message
        assert other.result().message.startswith('camera: 128x96: ')
