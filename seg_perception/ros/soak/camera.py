"""The soak's cameras: they also burst, leave, return and send what no camera should."""

from __future__ import annotations

import sys
from typing import NoReturn

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from seg_perception.ros.bench.camera import BenchCamera
from seg_perception.ros.bench.processes import leave, serve
from seg_perception.ros.process import prepare_environment
from seg_perception.ros.soak.bad_messages import bad_messages

_COMMANDS = ('play', 'stop', 'listeners', 'burst', 'send_bad', 'withdraw')


class SoakCamera(BenchCamera):
    """As the benchmark's, and worse."""

    def burst(self, topic: str, num: int, width: int, height: int, encoding: str) -> int:
        """Publishes images as fast as it can, whatever else is played; how many."""
        stream = {'encoding': encoding, 'scene': 'regions', 'num': 2}
        messages = self._load([width, height], stream)
        publisher = self._publisher(topic, encoding == 'jpeg')
        for i in range(num):
            message = messages[i % len(messages)]
            self._stamp(message)
            publisher.publish(bytes(message))
        return num

    def send_bad(self, topic: str, is_compressed: bool, kind: str) -> None:
        """Publishes one bad message."""
        message = bad_messages(is_compressed=is_compressed)[kind].make()
        self._publisher(topic, is_compressed).publish(message)

    def withdraw(self, topic: str) -> None:
        """Stops to exist for a topic's subscribers; nothing may be playing there."""
        publisher = self._publishers.pop(topic, None)
        if publisher is not None:
            self._node.destroy_publisher(publisher)


def main() -> NoReturn:
    """Serves the soak until it closes the pipe."""
    prepare_environment()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node('soak_camera')
    camera = SoakCamera(node)
    serve({name: getattr(camera, name) for name in _COMMANDS}, sys.stdin, sys.stdout)
    camera.stop()
    node.destroy_node()
    rclpy.shutdown()
    leave()
