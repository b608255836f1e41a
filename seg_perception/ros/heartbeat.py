"""Tells consumers of a camera whether silence means "nothing there" or "nobody looked"."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from seg_perception.ros import qos
from seg_perception.ros.diagnostics import heartbeat_status
from seg_perception.ros.health import CameraReport, Health, State


class Heartbeat:
    """Publishes a camera's state on ``status``, and logs when it falls silent and comes back.

    Args:
        node: publishes and logs.
        camera: the camera's name.
        namespace: of its outputs.
        period_s: between beats; subscribers may ask for a deadline of twice that or longer.
    """

    def __init__(self, node: Node, camera: str, namespace: str, period_s: float) -> None:
        self._node = node
        self._camera = camera
        self._publisher = node.create_publisher(
            DiagnosticStatus, f'{namespace}/status', qos.heartbeat(period_s)
        )
        self._silent_s = 0.0

    def beat(self, report: CameraReport, health: Health) -> None:
        """Says how the camera is now."""
        if self._publisher.get_subscription_count() > 0:
            name = f'{self._node.get_name()}: {self._camera}'
            self._publisher.publish(heartbeat_status(name, report, health))
        self._log_silence(report, health)

    def destroy(self) -> None:
        """Removes the publisher; who watches its deadline learns of it."""
        self._node.destroy_publisher(self._publisher)

    def _log_silence(self, report: CameraReport, health: Health) -> None:
        """One line when it falls silent, one when it is back."""
        logger = self._node.get_logger()
        if health.state is State.SILENT:
            if not self._silent_s:
                logger.warning(f'{self._camera}: {health.message}; {self._what_to_check(report)}')
            self._silent_s = report.account.age_s or report.listening_s or 0.0
        elif self._silent_s:
            if health.state is State.ACTIVE:
                logger.info(
                    f'{self._camera}: images again on {report.topic} after {self._silent_s:.0f} s'
                )
            self._silent_s = 0.0

    def _what_to_check(self, report: CameraReport) -> str:
        num_publishers = self._node.count_publishers(report.topic)
        if not num_publishers:
            return (
                'nobody publishes there: check that the camera driver runs, that its topic has '
                'this name (ros2 topic list), and that both have the same ROS_DOMAIN_ID'
            )
        return (
            f'{num_publishers} publisher(s) there: check that the driver sends '
            f'(ros2 topic hz {report.topic}), that both have the DDS profile for images, and '
            'QoS overrides (ros2 topic info -v)'
        )
