"""A node that listens to cameras for some seconds and notes what comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.errors import GeometryError, InputError
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.messages.cdr import read_compressed_image, read_image
from seg_perception.ros.doctor.frames import Transform
from seg_perception.ros.doctor.streams import Seen
from seg_perception.ros.doctor.wiring import CameraWiring
from seg_perception.ros.messages import stamp_to_ns

_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_TF_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_TF_STATIC_QOS = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
_MAX_NOTED = 2000


class TransformNotes:
    """Listens to TF from its making on and notes the newest transform of each parent and child.

    Attributes:
        is_deaf: tf2_msgs is not installed, so that nothing is heard.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._noted: dict[tuple[str, str, bool], Transform] = {}
        self._subscriptions: list[Any] = []
        try:
            from tf2_msgs.msg import TFMessage  # not among the pip wheels of ROS
        except ImportError:
            self.is_deaf = True
            return
        self.is_deaf = False
        for topic, qos in (('/tf', _TF_QOS), ('/tf_static', _TF_STATIC_QOS)):
            on_message = partial(self._on_message, topic == '/tf_static')
            self._subscriptions.append(node.create_subscription(TFMessage, topic, on_message, qos))

    def transforms(self) -> list[Transform]:
        """What came."""
        return list(self._noted.values())

    def close(self) -> None:
        """Leaves TF."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_message(self, is_static: bool, message: Any) -> None:
        now_ns = int(self._node.get_clock().now().nanoseconds)
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            key = (stamped.header.frame_id, stamped.child_frame_id, is_static)
            age_s = (now_ns - stamp_to_ns(stamped.header.stamp)) * 1e-9
            # Last of all, as the last one heard holds.
            self._noted.pop(key, None)
            self._noted[key] = Transform(*key, age_s, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def listen(
    node: Node, executor: SingleThreadedExecutor, cameras: list[CameraWiring], seconds: float
) -> dict[str, Seen]:
    """What came from each camera within some seconds, by its name."""
    noted = {camera.name: _Notes(node, camera) for camera in cameras}
    deadline_s = time.monotonic() + seconds
    while (left_s := deadline_s - time.monotonic()) > 0.0:
        executor.spin_once(left_s)
    for notes in noted.values():
        notes.close()
    return {name: notes.seen(seconds) for name, notes in noted.items()}


class _Notes:
    """Subscriptions to one camera and what came."""

    def __init__(self, node: Node, camera: CameraWiring) -> None:
        self._node = node
        self._seen = Seen(0.0)
        self._ages_s: list[float] = []
        self._stamps_ns: list[int] = []
        self._depth_stamps_ns: list[int] = []
        kind = CompressedImage if camera.is_compressed else Image
        read = read_compressed_image if camera.is_compressed else read_image
        self._read: Callable[[bytes], Any] = read
        wanted = [(kind, camera.image_topic, self._on_image, True)]
        wanted += [(CameraInfo, camera.camera_info_topic, self._on_info, False)]
        if camera.depth_topic:
            wanted += [(Image, camera.depth_topic, self._on_depth, True)]
        self._subscriptions = [
            node.create_subscription(message_type, topic, callback, _QOS, raw=is_raw)
            for message_type, topic, callback, is_raw in wanted
            if topic
        ]

    def seen(self, seconds: float) -> Seen:
        """What came."""
        self._seen.seconds = seconds
        self._seen.ages_s = tuple(self._ages_s)
        self._seen.stamps_ns = tuple(self._stamps_ns)
        self._seen.depth_stamps_ns = tuple(self._depth_stamps_ns)
        return self._seen

    def close(self) -> None:
        """Leaves the camera."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_image(self, message: bytes) -> None:
        now_ns = int(self._node.get_clock().now().nanoseconds)
        try:
            frame = self._read(message)
        except InputError:  # not even a header: it does not count as an image
            return
        self._seen.frame = frame
        self._seen.num_frames += 1
        if len(self._stamps_ns) < _MAX_NOTED:
            self._stamps_ns.append(frame.stamp_ns)
            self._ages_s.append((now_ns - frame.stamp_ns) * 1e-9)

    def _on_info(self, message: CameraInfo) -> None:
        try:
            self._seen.intrinsics = camera_info_to_intrinsics(message)
        except GeometryError as error:
            self._seen.complaint = str(error)

    def _on_depth(self, message: bytes) -> None:
        try:
            self._seen.depth = frame = read_image(message)
        except InputError:
            return
        if len(self._depth_stamps_ns) < _MAX_NOTED:
            self._depth_stamps_ns.append(frame.stamp_ns)
