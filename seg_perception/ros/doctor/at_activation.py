"""Looks at the graph around the node when it is activated, until all is right; then rests."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from seg_perception.ros.camera import Camera
from seg_perception.ros.doctor.clashes import find_clashes
from seg_perception.ros.doctor.finding import Finding, Gravity, worst
from seg_perception.ros.doctor.graph import topics_of
from seg_perception.ros.doctor.wiring import CameraWiring, check_wiring
from seg_perception.ros.params import Parameters

DISCOVERY_S = 3.0
"""How long after activation the first look is: the graph must have been discovered."""
CLASH_S = 30.0
"""How long a clash must last to be told: a node that was killed stays in the graph for 20 s."""


class ActivationCheck:
    """Logs what is wrong with the wiring once, and looks again until it is right.

    All methods are for the executor's thread.

    Attributes:
        findings: of the last look; none before the first.
    """

    def __init__(self, node: Node) -> None:
        self.findings: Sequence[Finding] = ()
        self._node = node
        self._timer: Timer | None = None
        self._namespaces: Mapping[str, str] = {}
        self._clash_since_s: float | None = None

    def start(self, cameras: Collection[Camera], parameters: Parameters) -> None:
        """Looks in a moment."""
        self.stop()
        wirings = [_wiring(camera, parameters) for camera in cameras]
        self._namespaces = {camera.name: camera.namespace for camera in cameras}
        # On the steady clock: sim time may stand still.
        self._timer = self._node.create_timer(
            DISCOVERY_S, lambda: self._look(wirings), clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def stop(self) -> None:
        """Looks no more, and forgets."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = None
        self.findings = ()
        self._clash_since_s = None

    def _look(self, wirings: Sequence[CameraWiring]) -> None:
        topics = topics_of(self._node, {t for w in wirings for t in _topics(w)})
        was_wrong = worst(self.findings) is not Gravity.OK
        before = {finding.line() for finding in self.findings}
        self.findings = [finding for w in wirings for finding in check_wiring(w, topics)]
        if clashes := find_clashes(self._node, self._namespaces):
            self._clash_since_s = self._clash_since_s or time.monotonic()
            if time.monotonic() - self._clash_since_s > CLASH_S:
                self.findings += clashes
        else:
            self._clash_since_s = None
        for finding in self.findings:
            if finding.gravity is not Gravity.OK and finding.line() not in before:
                self._node.get_logger().warning(finding.line())
        if worst(self.findings) is Gravity.ERROR or clashes or self._timer is None:
            return
        if was_wrong:
            self._node.get_logger().info('all cameras are wired now')
        self._node.destroy_timer(self._timer)
        self._timer = None


def _wiring(camera: Camera, parameters: Parameters) -> CameraWiring:
    group = parameters.camera[camera.name]
    return CameraWiring(
        camera.name,
        camera.image_topic,
        group.transport == 'compressed',
        camera.camera_info_topic,
        camera.depth.topic if camera.depth is not None else '',
        wants_reliable=parameters.image_reliability == 'reliable',
    )


def _topics(wiring: CameraWiring) -> set[str]:
    topics = {wiring.image_topic, wiring.camera_info_topic, wiring.depth_topic}
    # Where only the other transport is published, that is what to say.
    topics.add(f'{wiring.image_topic.removesuffix("/compressed")}/compressed')
    topics.add(wiring.image_topic.removesuffix('/compressed'))
    return {topic for topic in topics if topic}
