"""The benchmark's camera: publishes prepared pictures at exact times, as cheaply as it can.

A servant (see ``processes``). Pictures are serialised once; only the stamp is written anew, so
that the camera's own CPU time is close to what handing bytes to the middleware costs.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_perception.benchmarks.pictures import pictures
from seg_perception.ros.bench.processes import leave, serve
from seg_perception.ros.messages import to_byte_array
from seg_perception.ros.process import prepare_environment
from seg_perception.ros.serialized import publish_serialized
from seg_perception.structures import U8, CompressedFrame, Frame

_STAMP_AT = 4
"""A message starts with four bytes of encapsulation; its header's stamp comes first."""


@dataclass(slots=True)
class _Stream:
    publisher: Publisher
    messages: list[U8]
    period_s: float
    due_s: float
    num_published: int = 0


class BenchCamera:
    """Plays streams from a thread of its own.

    Args:
        node: owns the publishers.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publishers: dict[str, Publisher] = {}
        self._messages: dict[tuple[Any, ...], list[U8]] = {}
        self._stopping = threading.Event()
        self._player: threading.Thread | None = None
        self._stamps_ns: dict[str, list[int]] = {}

    def play(self, streams: list[dict[str, Any]]) -> None:
        """Starts to publish.

        Args:
            streams: each with ``topic``, ``rate_hz``, ``encoding``, ``sizes_wh`` (played one
                after the other), ``scene`` and ``num`` pictures of each size.
        """
        self.stop()
        start_s = time.monotonic()
        playing = {}
        for index, stream in enumerate(streams):
            period_s = 1.0 / stream['rate_hz']
            playing[stream['topic']] = _Stream(
                self._publisher(stream['topic'], stream['encoding'] == 'jpeg'),
                [message for size in stream['sizes_wh'] for message in self._load(size, stream)],
                period_s,
                # Cameras of a robot are not in step.
                start_s + period_s * index / len(streams),
            )
        self._stopping.clear()
        self._stamps_ns = {topic: [] for topic in playing}
        self._player = threading.Thread(target=self._play, args=(playing,), daemon=True)
        self._player.start()

    def stop(self) -> dict[str, list[int]]:
        """Stops publishing; the stamps of what was published, by topic."""
        self._stopping.set()
        if self._player is not None:
            self._player.join()
            self._player = None
        return self._stamps_ns

    def listeners(self, topic: str, is_compressed: bool) -> int:
        """How many subscriptions a topic has."""
        return int(self._publisher(topic, is_compressed).get_subscription_count())

    def _play(self, playing: dict[str, _Stream]) -> None:
        while True:
            topic, stream = min(playing.items(), key=lambda item: item[1].due_s)
            if self._stopping.wait(max(0.0, stream.due_s - time.monotonic())):
                return
            message = stream.messages[stream.num_published % len(stream.messages)]
            stamp_ns = self._stamp(message)
            # What rclpy copies besides would count as the node's latency.
            publish_serialized(stream.publisher, message)
            self._stamps_ns[topic].append(stamp_ns)
            stream.num_published += 1
            # What is late is not made up for: a camera never bursts.
            stream.due_s = max(stream.due_s + stream.period_s, time.monotonic())

    @staticmethod
    def _stamp(message: U8) -> int:
        """Writes the time into a message's header and returns it."""
        stamp_ns = time.time_ns()
        struct.pack_into('<iI', message.data, _STAMP_AT, *divmod(stamp_ns, 10**9))
        return stamp_ns

    def _publisher(self, topic: str, is_compressed: bool) -> Publisher:
        if topic not in self._publishers:
            message_type = CompressedImage if is_compressed else Image
            # Reliable suits every subscriber.
            qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
            self._publishers[topic] = self._node.create_publisher(message_type, topic, qos)
        return self._publishers[topic]

    def _load(self, size_wh: list[int], stream: dict[str, Any]) -> list[U8]:
        width, height = size_wh
        key = (width, height, stream['encoding'], stream['scene'], stream['num'])
        if key not in self._messages:
            frames = pictures(
                (width, height),
                stream['encoding'],
                scene=stream['scene'],
                num=stream['num'],
            )
            self._messages[key] = [
                np.frombuffer(_serialized(frame), np.uint8).copy() for frame in frames
            ]
        return self._messages[key]


def _serialized(frame: Frame | CompressedFrame) -> bytes:
    header = Header(frame_id='bench_camera_optical_frame')
    data = to_byte_array(frame.data)
    if isinstance(frame, CompressedFrame):
        message = CompressedImage(header=header, format=frame.format, data=data)
    else:
        message = Image(
            header=header,
            height=frame.height,
            width=frame.width,
            encoding=frame.encoding,
            step=frame.step,
            data=data,
        )
    return bytes(serialize_message(message))


def main() -> NoReturn:
    """Serves the benchmark until it closes the pipe."""
    prepare_environment()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node('bench_camera')
    camera = BenchCamera(node)
    serve(
        {'play': camera.play, 'stop': camera.stop, 'listeners': camera.listeners},
        sys.stdin,
        sys.stdout,
    )
    camera.stop()
    # Fast DDS leaves its shared memory behind where it is not told to go.
    node.destroy_node()
    rclpy.shutdown()
    leave()
