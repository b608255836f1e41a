"""One camera of the node: its subscriptions, its account, its outputs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.errors import (
    ConfigurationError,
    EncodingError,
    GeometryError,
    InputError,
)
from seg_perception.geometry import Intrinsics
from seg_perception.imaging import check_compressed, check_frame
from seg_perception.ros import qos
from seg_perception.ros.accounting import CameraAccount, DropReason
from seg_perception.ros.cdr import read_compressed_image
from seg_perception.ros.intake import Intake
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.mailbox import Mailboxes
from seg_perception.ros.messages import camera_info_to_intrinsics, serialized_to_frame
from seg_perception.ros.outputs import CameraOutputs
from seg_perception.ros.params import CameraParameters
from seg_perception.structures import CompressedFrame, Frame


class Request:
    """Somebody waits for one frame of a camera (the ``~/segment`` service)."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.outcome = ''
        self.is_success = False

    def resolve(self, outcome: str, *, is_success: bool) -> None:
        """Tells the one who waits."""
        self.outcome, self.is_success = outcome, is_success
        self.done.set()


@dataclass(frozen=True, slots=True)
class Job:
    """A frame on its way to the model.

    Attributes:
        frame: checked, not yet decoded.
        arrived_s: when it arrived, on the monotonic clock.
        requests: who waits for it.
    """

    frame: Frame | CompressedFrame
    arrived_s: float
    requests: list[Request] = field(default_factory=list)

    def inherit(self, replaced: Job) -> None:
        """Those who waited for an older frame get this one."""
        self.requests.extend(replaced.requests)


class Camera:
    """Validates what a camera sends and leaves the newest frame in its mailbox.

    Args:
        node: owns the subscriptions.
        name: the camera's name among the parameters.
        parameters: the camera's group, as it is now.
        max_pixels: larger images are refused.
        outputs: builds the publishers for a namespace.
        mailboxes: where frames go.
        intake: receives the messages.
        log: for trouble.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        parameters: Callable[[], CameraParameters],
        max_pixels: int,
        outputs: Callable[[str], CameraOutputs],
        mailboxes: Mailboxes[Job],
        intake: Intake,
        log: ThrottledLog,
    ) -> None:
        self.name = name
        self.account = CameraAccount()
        self._node = node
        self._parameters = parameters
        self._max_pixels = max_pixels
        self._mailboxes = mailboxes
        self._intake = intake
        self._log = log
        group = parameters()
        image_topic = self._resolved('image_topic', group.image_topic)
        namespace = image_topic.rsplit('/', 1)[0]
        self._is_compressed = group.transport == 'compressed'
        self.image_topic = f'{image_topic}/compressed' if self._is_compressed else image_topic
        # Subscribing applies remappings once more, so a raw topic goes there as it was given.
        self._given_topic = self.image_topic if self._is_compressed else group.image_topic
        self._given_camera_info_topic = group.camera_info_topic or f'{namespace}/camera_info'
        self.camera_info_topic = self._resolved('camera_info_topic', self._given_camera_info_topic)
        self.namespace = f'{namespace}/segmentation'
        self.outputs = outputs(self.namespace)
        self.is_enabled = True
        self._intrinsics: Intrinsics | None = None
        self._subscriptions: list[Subscription] = []
        self._requests: list[Request] = []
        self._requests_lock = threading.Lock()
        self._next_due_s = 0.0
        self._listening_since_s = 0.0

    def wants_images(self, *, is_lazy: bool) -> bool:
        """Whether there is a reason to listen to the camera."""
        if self._requests:
            return True
        return self.is_enabled and (not is_lazy or bool(self.outputs.wanted()))

    @property
    def is_listening(self) -> bool:
        """Whether the node is subscribed to the camera now."""
        return bool(self._subscriptions)

    @property
    def listening_s(self) -> float | None:
        """Seconds since the node subscribed to the camera; None where it is not subscribed."""
        return time.monotonic() - self._listening_since_s if self.is_listening else None

    def listen(self, is_wanted: bool) -> None:
        """Subscribes to the camera or leaves it; where that fails, says why and tries again."""
        if is_wanted == self.is_listening:
            return
        if not is_wanted:
            self._leave()
            return
        self._listening_since_s = time.monotonic()
        try:
            if self._is_compressed:
                self._subscribe(CompressedImage, self._given_topic, self._on_compressed, raw=True)
            else:
                self._subscribe(Image, self._given_topic, self._on_image, raw=True)
            self._subscribe(CameraInfo, self._given_camera_info_topic, self._on_camera_info)
        except Exception as error:  # rclpy's own, such as QoS overrides that cannot be
            self._leave()
            self._log.error(self.name, f'cannot subscribe: {type(error).__name__}: {error}')

    def request(self) -> Request:
        """Asks for the next frame, whether enabled or not and however soon it comes."""
        request = Request()
        with self._requests_lock:
            self._requests.append(request)
        return request

    def refuse_requests(self, outcome: str) -> None:
        """Tells all who wait for a frame that none will come."""
        for request in self._take_requests():
            request.resolve(outcome, is_success=False)

    def intrinsics_of(self, frame: Frame) -> Intrinsics | None:
        """The newest calibration, if it belongs to images of this size."""
        intrinsics = self._intrinsics
        if intrinsics is None or intrinsics.size_wh == (frame.width, frame.height):
            return intrinsics
        self._log.warning(
            self.name,
            f'{self.camera_info_topic} describes images of {intrinsics.size_wh[0]}x'
            f'{intrinsics.size_wh[1]}, {self.image_topic} has {frame.width}x{frame.height}: '
            'no camera_info is published until they agree',
        )
        return None

    def reject(self, error: InputError) -> None:
        """Counts a frame that cannot be used and says why."""
        is_unsupported = isinstance(error, EncodingError)
        self.account.drop(DropReason.UNSUPPORTED if is_unsupported else DropReason.MALFORMED)
        self._log.warning(self.name, f'{self.image_topic}: {error}')

    def close(self) -> None:
        """Leaves the camera and removes the publishers."""
        self.listen(False)
        self.outputs.destroy()

    def _leave(self) -> None:
        for subscription in self._subscriptions:
            self._intake.remove(subscription)
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _resolved(self, parameter: str, topic: str) -> str:
        """A topic name with namespace and remappings applied."""
        try:
            return str(self._node.resolve_topic_name(topic))
        except (NameValidationException, RuntimeError) as error:
            raise ConfigurationError(
                f"parameter {self.name}.{parameter}: expected a topic name, got '{topic}': "
                f'{" ".join(str(error).split())}'
            ) from error

    def _take_requests(self) -> list[Request]:
        with self._requests_lock:
            requests, self._requests = self._requests, []
        return requests

    def _subscribe(
        self,
        message_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        *,
        raw: bool = False,
    ) -> None:
        subscription = self._node.create_subscription(
            message_type,
            topic,
            callback,
            qos.sensor_input(),
            callback_group=self._intake.group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            raw=raw,
        )
        self._subscriptions.append(subscription)
        self._intake.add(subscription)

    def _on_image(self, message: bytes) -> None:
        self.account.receive()
        try:
            frame = serialized_to_frame(message, self.name)
            check_frame(frame, max_pixels=self._max_pixels)
        except InputError as error:
            self.reject(error)
            self.refuse_requests(str(error))
        else:
            self._accept(frame)

    def _on_compressed(self, message: bytes) -> None:
        self.account.receive()
        try:
            frame = read_compressed_image(message, self.name)
            check_compressed(frame, max_pixels=self._max_pixels)
        except InputError as error:
            self.reject(error)
            self.refuse_requests(str(error))
        else:
            self._accept(frame)

    def _accept(self, frame: Frame | CompressedFrame) -> None:
        now_s = time.monotonic()
        requests = self._take_requests()
        if not requests:
            if not self.is_enabled:
                self.account.drop(DropReason.INACTIVE)
                return
            if self._is_too_soon(now_s):
                self.account.drop(DropReason.RATE_LIMITED)
                return
        job = Job(frame, now_s, requests)
        replaced = self._mailboxes.put(self.name, job)
        if replaced is job:
            self.account.drop(DropReason.INACTIVE)
            with self._requests_lock:
                self._requests += requests
        elif replaced is not None:
            self.account.drop(DropReason.SUPERSEDED)

    def _is_too_soon(self, now_s: float) -> bool:
        max_rate_hz = self._parameters().max_rate_hz
        if max_rate_hz <= 0.0:
            return False
        period_s = 1.0 / max_rate_hz
        # Frames jitter: a tenth of a period early still counts as on time, and the next one is
        # due a period after this one was, so that the mean rate is kept.
        if now_s < self._next_due_s - 0.1 * period_s:
            return True
        self._next_due_s = max(self._next_due_s, now_s - period_s) + period_s
        return False

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            self._intrinsics = camera_info_to_intrinsics(message)
        except GeometryError as error:
            self._log.warning(self.name, f'{self.camera_info_topic}: {error}')
