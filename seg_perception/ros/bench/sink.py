"""The benchmark's sink: takes what a node publishes as bytes, and notes when it came.

A servant (see ``processes``). Messages are not deserialised, so that it takes little CPU time.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from seg_perception.ros.bench.processes import leave, serve
from seg_perception.ros.process import prepare_environment


class BenchSink:
    """Collects arrivals.

    Args:
        node: owns the subscriptions.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._subscriptions: dict[str, Subscription] = {}
        self._arrivals: dict[str, list[tuple[int, int]]] = {}
        self._newest: dict[str, bytes] = {}
        self._since_ns = 0
        self._statuses: dict[str, dict[str, str]] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def listen(self, topics: list[str]) -> None:
        """Subscribes to these image topics and leaves all others.

        Forgets what came, and takes nothing that was stamped before: a node may still be at work
        on images of the last case.
        """
        with self._lock:
            self._since_ns = time.time_ns()
            for topic in set(self._subscriptions) - set(topics):
                self._node.destroy_subscription(self._subscriptions.pop(topic))
            self._arrivals = {topic: [] for topic in topics}
            self._newest = {}
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        for topic in topics:
            if topic not in self._subscriptions:
                self._subscriptions[topic] = self._node.create_subscription(
                    Image, topic, self._receiver(topic), qos, raw=True
                )

    def counts(self) -> dict[str, int]:
        """Messages of each topic since the last ``listen`` or ``take``."""
        with self._lock:
            return {topic: len(arrivals) for topic, arrivals in self._arrivals.items()}

    def take(self) -> dict[str, list[tuple[int, int]]]:
        """Stamp and arrival, nanoseconds of the system's clock, of each message since the last."""
        with self._lock:
            taken, self._arrivals = self._arrivals, {topic: [] for topic in self._arrivals}
        return taken

    def save(self, folder: str) -> dict[str, str]:
        """Writes the newest message of each topic, serialised; paths by topic."""
        with self._lock:
            newest = dict(self._newest)
        paths = {topic: Path(folder, f'{i}.cdr') for i, topic in enumerate(newest)}
        for topic, path in paths.items():
            path.write_bytes(newest[topic])
        return {topic: str(path) for topic, path in paths.items()}

    def diagnostics(self) -> dict[str, dict[str, str]]:
        """The newest diagnostic status of each camera, by image topic."""
        with self._lock:
            return dict(self._statuses)

    def _receiver(self, topic: str) -> Any:
        def receive(message: bytes) -> None:
            now_ns = time.time_ns()
            sec, nanosec = struct.unpack_from('<iI', message, 4)
            stamp_ns = sec * 10**9 + nanosec
            with self._lock:
                if topic in self._arrivals and stamp_ns >= self._since_ns:
                    self._arrivals[topic].append((stamp_ns, now_ns))
                    self._newest[topic] = message

        return receive

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self._lock:
            for status in message.status:
                self._statuses[status.hardware_id] = {v.key: v.value for v in status.values}


def main() -> NoReturn:
    """Serves the benchmark until it closes the pipe."""
    prepare_environment()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node('bench_sink')
    sink = BenchSink(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    commands = (sink.listen, sink.counts, sink.take, sink.save, sink.diagnostics)
    serve({command.__name__: command for command in commands}, sys.stdin, sys.stdout)
    # Fast DDS leaves its shared memory behind where it is not told to go.
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.shutdown()
    leave()
