"""Serialised messages past rclpy, over real topics; rclpy's own conversions are the twin."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_harness import wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import String

from seg_perception.ros import serialized
from seg_perception.ros.serialized import publish_serialized, take_serialized

pytestmark = pytest.mark.distro


@pytest.fixture(autouse=True, params=['rcl', 'rclpy'])
def way(request, monkeypatch):
    """Both ways: past rclpy, and through it where rcl is not to be found."""
    assert serialized._rcl is not None
    if request.param == 'rclpy':
        # Of the libraries that are loaded, none has the function.
        monkeypatch.setattr(serialized.ctypes, 'CDLL', lambda _: ctypes.pythonapi)
        monkeypatch.setattr(serialized, '_rcl', serialized._find_rcl())
        assert serialized._rcl is None
        monkeypatch.undo()
        monkeypatch.setattr(serialized, '_rcl', None)


def image(num):
    return Image(height=num, width=4, step=4, encoding='mono8', data=bytes(range(4)) * num)


def test_what_is_published_arrives(ros):
    got = []
    ros.node.create_subscription(Image, 'published', got.append, 10)
    publisher = ros.publisher('published', Image)
    for num in (1, 2000):
        message = np.frombuffer(serialize_message(image(num)), np.uint8).copy()
        publish_serialized(publisher, message)
        message[:] = 0  # its memory is the caller's again
    wait_until(lambda: len(got) == 2, 10.0, 'two images')
    assert got == [image(1), image(2000)]


def taken(subscription):
    """The next message, once there is one."""
    found = []

    def take():
        message = take_serialized(subscription)
        found.extend([] if message is None else [message])
        return bool(found)

    wait_until(take, 10.0, 'a message')
    return found[0]


def test_what_is_taken_equals_what_was_published_for_as_long_as_it_is_held(ros):
    from seg_perception.ros.intake import IntakeGroup

    # A group that the executor leaves alone.
    subscription = ros.node.create_subscription(
        Image, 'taken', lambda _: None, 10, callback_group=IntakeGroup(), raw=True
    )
    assert take_serialized(subscription) is None
    publisher = ros.publisher('taken', Image)
    held = []
    for num in (1, 3000, 5, 3000):
        publisher.publish(image(num))
        held.append(taken(subscription)[4:])  # a view of a part keeps all
        gc.collect()
    for message, num in zip(held, (1, 3000, 5, 3000), strict=True):
        whole = bytes(message.obj)
        assert deserialize_message(whole, Image) == image(num)
        assert message == whole[4:]
        assert message.readonly


def test_publishing_on_what_is_gone_says_so(ros):
    from rclpy.exceptions import InvalidHandle

    publisher = ros.node.create_publisher(String, 'gone', 1)
    ros.node.destroy_publisher(publisher)
    with pytest.raises(InvalidHandle):
        publish_serialized(publisher, np.zeros(8, np.uint8))
