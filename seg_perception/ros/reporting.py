"""What the node says of itself: ``/diagnostics`` and each camera's ``status``.

The timers run on the steady clock: a node whose sim time stands still or jumps back must say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from seg_perception.ros.camera import Camera
from seg_perception.ros.clock import ClockSnapshot
from seg_perception.ros.diagnostics import LEVELS, camera_status, make_status
from seg_perception.ros.doctor.finding import Finding, Gravity
from seg_perception.ros.health import RECENT_S, CameraReport, Health, Level, State, judge
from seg_perception.ros.heartbeat import Heartbeat
from seg_perception.ros.params import Parameters
from seg_perception.ros.resources import resource_values


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What is known of the node at one moment.

    Attributes:
        parameters: in force.
        state: active, disabled or inactive.
        failure: why it cannot work; empty where it can.
        model: what runs where and how; empty where nothing is loaded.
        clock: the node's clock.
        cameras: those it has.
        concerns: what else is wrong.
        wiring: what was found of the cameras' topics; empty before anybody looked.
    """

    parameters: Parameters
    state: State
    failure: str
    model: Mapping[str, str]
    clock: ClockSnapshot
    cameras: Sequence[Camera] = ()
    concerns: Sequence[tuple[Level, str]] = field(default=())
    wiring: Sequence[Finding] = ()


class Reporter:
    """Publishes what the node says of itself.

    Args:
        node: publishes.
        report: gives what there is to say.
    """

    def __init__(self, node: Node, report: Callable[[], NodeReport]) -> None:
        self._node = node
        self._report = report
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._heartbeats: dict[str, Heartbeat] = {}
        period_s = report().parameters.diagnostics_period_s
        self._timer = node.create_timer(period_s, self._publish_diagnostics, clock=self._clock)
        self._beat_timer: Timer | None = None

    def open(self) -> None:
        """Starts the status topics of the cameras there are now; takes the periods in force."""
        report = self._report()
        parameters = report.parameters
        self._node.destroy_timer(self._timer)
        self._timer = self._node.create_timer(
            parameters.diagnostics_period_s, self._publish_diagnostics, clock=self._clock
        )
        self._heartbeats = {
            camera.name: Heartbeat(
                self._node, camera.name, camera.namespace, parameters.status_period_s
            )
            for camera in report.cameras
        }
        self._beat_timer = self._node.create_timer(
            parameters.status_period_s, self._beat, clock=self._clock
        )

    def close(self) -> None:
        """Ends the status topics."""
        if self._beat_timer is not None:
            self._node.destroy_timer(self._beat_timer)
        self._beat_timer = None
        for heartbeat in self._heartbeats.values():
            heartbeat.destroy()
        self._heartbeats = {}

    def _beat(self) -> None:
        report = self._report()
        for camera in report.cameras:
            about, health = _judged(report, camera, in_full=False)
            self._heartbeats[camera.name].beat(about, health)

    def _publish_diagnostics(self) -> None:
        report = self._report()
        name = self._node.get_name()
        statuses = [_device_status(f'{name}: device', report)]
        for camera in report.cameras:
            about, health = _judged(report, camera, in_full=True)
            expected_hz = report.parameters.camera[camera.name].expected_rate_hz
            statuses.append(camera_status(f'{name}: {camera.name}', about, health, expected_hz))
        if report.wiring:
            statuses.append(_wiring_status(f'{name}: wiring', report.wiring))
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def _judged(report: NodeReport, camera: Camera, *, in_full: bool) -> tuple[CameraReport, Health]:
    about = camera.report(report.state, report.failure, in_full=in_full)
    group = report.parameters.camera[camera.name]
    return about, judge(about, report.parameters, group)


def _wiring_status(name: str, findings: Sequence[Finding]) -> DiagnosticStatus:
    """Never worse than a warning: whether images come is for the cameras' own statuses."""
    gravest = max(findings, key=lambda finding: finding.gravity)
    is_well = gravest.gravity is Gravity.OK
    values = {finding.check: finding.line() for finding in findings}
    message = 'all cameras are wired' if is_well else gravest.line()
    return make_status(name, LEVELS[Level.OK if is_well else Level.WARN], message, values)


def _device_status(name: str, report: NodeReport) -> DiagnosticStatus:
    clock = report.clock
    concerns = list(report.concerns)
    if clock.trouble:
        concerns.append((Level.WARN, clock.trouble))
    elif clock.since_jump_s is not None and clock.since_jump_s < RECENT_S:
        concerns.append((Level.WARN, f'the clock jumped by {clock.last_jump_s:+.1f} s'))
    if report.state is State.INACTIVE:
        concerns.append((Level.WARN, 'inactive'))
    if report.failure:
        concerns.insert(0, (Level.ERROR, report.failure))
    level, message = max(
        [(Level.OK, report.state.value), *concerns], key=lambda concern: concern[0]
    )
    values = {**report.model, 'clock_jumps': clock.num_jumps, **resource_values()}
    return make_status(name, LEVELS[level], message, values)
