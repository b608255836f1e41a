"""Subscriptions that come and go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from seg_perception.ros import qos
from seg_perception.ros.intake import Intake
from seg_perception.ros.log import ThrottledLog

Wanted = tuple[Any, str, Callable[[Any], None]]
"""Message type, topic and callback of a subscription."""


class Feed:
    """An image topic and its calibration: both are subscribed to, or neither.

    Images are received serialised. For the executor's thread.

    Args:
        node: owns the subscriptions.
        intake: receives the messages.
        subject: what log lines call it, e.g. the camera's name.
        reliability: what is asked of images, as `qos.image_input` takes it.
        log: for trouble.
    """

    def __init__(
        self,
        node: Node,
        intake: Intake,
        subject: str,
        reliability: Callable[[], str],
        log: ThrottledLog,
    ) -> None:
        self._node = node
        self._intake = intake
        self._subject = subject
        self._reliability = reliability
        self._log = log
        self._subscriptions: list[Subscription] = []

    @property
    def is_open(self) -> bool:
        """Whether the topics are subscribed to."""
        return bool(self._subscriptions)

    def open(self, *wanted: Wanted) -> None:
        """Subscribes; where that fails, says why and leaves it closed, to be tried again."""
        try:
            for message_type, topic, callback in wanted:
                self._subscribe(message_type, topic, callback)
        except Exception as error:  # rclpy's own, such as QoS overrides that cannot be
            self._log.error(self._subject, f'cannot subscribe: {type(error).__name__}: {error}')
            self.close()

    def close(self) -> None:
        """Leaves the topics."""
        for subscription in self._subscriptions:
            self._intake.remove(subscription)
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _subscribe(self, message_type: Any, topic: str, callback: Callable[[Any], None]) -> None:
        is_image = message_type is not CameraInfo
        subscription = self._node.create_subscription(
            message_type,
            topic,
            callback,
            qos.image_input(self._node, topic, self._reliability())
            if is_image
            else qos.sensor_input(),
            callback_group=self._intake.group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=is_image,
        )
        self._intake.add(subscription)
        self._subscriptions.append(subscription)
