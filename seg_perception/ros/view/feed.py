"""One camera's messages on their way to its scene: only the newest, only so many a second.

Every subscription keeps one message, the newest: while something is drawn, what comes meanwhile
is replaced by what comes after it, and neither the node nor this process holds frames back.
An image waits for labels of its stamp, so that the page never shows labels of another image; only
where none come is it shown without.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from seg_perception.errors import GeometryError, SegPerceptionError
from seg_perception.imaging import decode, to_rgb, view_frame
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.messages.cdr import read_compressed_image, read_image
from seg_perception.ros import qos
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.messages import serialized_to_frame, stamp_to_ns
from seg_perception.ros.view.discovery import OUTPUTS, Camera
from seg_perception.ros.view.reading import (
    read_boxes,
    read_class_table,
    read_objects,
    read_points,
)
from seg_perception.ros.view.recording import Recording
from seg_perception.ros.view.scene import CameraScene, Look

MAX_WAITING_BYTES = 64 * 2**20
"""Of images that wait for their labels."""
UNLABELLED_AFTER_S = 1.0
"""An image is shown without labels after this where none come at all …"""
LATE_AFTER_S = 5.0
"""… and after this where labels of others do."""
_MAX_DUE = 64
"""Stamps that are remembered as those to be shown."""


class CameraFeed:
    """Listens to a camera's images and outputs, and draws them.

    Args:
        node: listens.
        recording: where it is drawn.
        camera: what there is.
        look: how much is drawn.
        max_rate_hz: so many frames a second at most, by their stamps.
        log: for what cannot be read.

    Attributes:
        camera: what there is now.
        num_drawn: frames drawn, by kind.
        last_ns: when something of a kind came last, on the steady clock.
    """

    def __init__(
        self,
        node: Node,
        recording: Recording,
        camera: Camera,
        look: Look,
        *,
        max_rate_hz: float,
        log: ThrottledLog,
    ) -> None:
        self.camera = camera
        self.num_drawn: dict[str, int] = {}
        self.last_ns: dict[str, int] = {}
        self._node, self._recording, self._log = node, recording, log
        self.scene = CameraScene(recording, camera.name, look)
        self._period_ns = round(1e9 / max_rate_hz)
        self._subscriptions: dict[str, Any] = {}
        self._waiting: OrderedDict[int, tuple[float, bytes]] = OrderedDict()
        self._due: OrderedDict[int, None] = OrderedDict()
        self._last_due_ns: int | None = None
        self.listen(camera)

    def listen(self, camera: Camera) -> None:
        """Listens to what there is now too; what is gone may come back, and is kept."""
        from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

        self.camera = camera
        if camera.has_images:
            kind = CompressedImage if camera.is_compressed else Image
            self._subscribe('image', kind, camera.image_topic, self._on_image, is_raw=True)
        readers: dict[str, tuple[Any, Callable[[Any], None], bool]] = {
            'labels': (Image, self._on_labels, True),
            'confidence': (Image, self._on_confidence, True),
            'label_info': (LabelInfo, self._on_label_info, False),
            'objects': (Detection2DArray, self._on_objects, False),
            'camera_info': (CameraInfo, self._on_camera_info, False),
            'points': (PointCloud2, self._on_points, False),
            'objects_3d': (Detection3DArray, self._on_boxes, False),
        }
        for output in OUTPUTS:
            if output in camera.outputs:
                kind, read, is_raw = readers[output]
                self._subscribe(output, kind, f'{camera.namespace}/{output}', read, is_raw=is_raw)

    def show_unlabelled(self) -> None:
        """Shows the newest image whose labels do not come; to be called now and then."""
        now_s = time.monotonic()
        is_labelled = (
            'labels' in self.camera.outputs
            and now_s - self.last_ns.get('labels', -math.inf) * 1e-9 < LATE_AFTER_S
        )
        late_s = now_s - (LATE_AFTER_S if is_labelled else UNLABELLED_AFTER_S)
        late = [stamp for stamp, (came_s, _) in self._waiting.items() if came_s < late_s]
        if not late:
            return
        stamp_ns = late[-1]
        _, message = self._waiting[stamp_ns]
        for stamp in late:
            del self._waiting[stamp]
        if self._is_due(stamp_ns):
            self._draw_image(stamp_ns, message)

    def _subscribe(
        self, name: str, kind: Any, topic: str, read: Callable[[Any], None], *, is_raw: bool
    ) -> None:
        kept = self._subscriptions.get(name)
        if kept is not None and kept.topic_name == topic and kept.msg_type is kind:
            return
        if kept is not None:
            self._node.destroy_subscription(kept)

        def take(message: Any) -> None:
            self.last_ns[name] = time.monotonic_ns()
            try:
                read(message)
            except SegPerceptionError as error:
                self._log.warning(topic, str(error))

        profile = qos.latched() if name == 'label_info' else _newest()
        self._subscriptions[name] = self._node.create_subscription(
            kind, topic, take, profile, raw=is_raw
        )

    def _on_image(self, message: bytes) -> None:
        read = read_compressed_image if self.camera.is_compressed else read_image
        stamp_ns = read(message).stamp_ns
        self._waiting[stamp_ns] = time.monotonic(), message
        self._waiting.move_to_end(stamp_ns)
        num_bytes = sum(len(waiting) for _, waiting in self._waiting.values())
        while num_bytes > MAX_WAITING_BYTES and len(self._waiting) > 1:
            _, (_, oldest) = self._waiting.popitem(last=False)
            num_bytes -= len(oldest)
        if stamp_ns in self._due:  # its labels were here first
            self._show_image(stamp_ns)

    def _on_labels(self, message: bytes) -> None:
        frame = serialized_to_frame(message)
        if not self._is_due(frame.stamp_ns):
            return
        labels_YX = view_frame(frame)
        self.scene.draw_labels(frame.stamp_ns, labels_YX)
        self._count('labels')
        self._show_image(frame.stamp_ns)
        self._note_latency(frame.stamp_ns)

    def _on_confidence(self, message: bytes) -> None:
        frame = serialized_to_frame(message)
        if self._is_due(frame.stamp_ns):
            self.scene.draw_confidence(frame.stamp_ns, np.ascontiguousarray(view_frame(frame)))
            self._count('confidence')

    def _on_objects(self, message: Any) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        if self._is_due(stamp_ns):
            self.scene.draw_objects(stamp_ns, read_objects(message))
            self._count('objects')

    def _on_boxes(self, message: Any) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        if self._is_due(stamp_ns):
            self.scene.draw_boxes(stamp_ns, read_boxes(message))
            self._count('objects_3d')

    def _on_points(self, message: PointCloud2) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        if self._is_due(stamp_ns):
            self.scene.draw_points(stamp_ns, *read_points(message))
            self._count('points')

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            self.scene.draw_intrinsics(camera_info_to_intrinsics(message))
        except GeometryError as error:
            self._log.warning(f'{self.camera.namespace}/camera_info', str(error))

    def _on_label_info(self, message: Any) -> None:
        self.scene.name_classes(read_class_table(message))

    def _show_image(self, stamp_ns: int) -> None:
        """Shows the image of a stamp, where it is there, and forgets those before it."""
        found = self._waiting.get(stamp_ns)
        for stamp in [stamp for stamp in self._waiting if stamp <= stamp_ns]:
            del self._waiting[stamp]
        if found is not None:
            self._draw_image(stamp_ns, found[1])

    def _draw_image(self, stamp_ns: int, message: bytes) -> None:
        if self.camera.is_compressed:
            frame = decode(read_compressed_image(message))
        else:
            frame = serialized_to_frame(message)
        self.scene.draw_image(stamp_ns, to_rgb(frame))
        self._count('image')

    def _is_due(self, stamp_ns: int) -> bool:
        """Whether what has this stamp is shown: all of it, or nothing."""
        if stamp_ns in self._due:
            return True
        last_ns = self._last_due_ns
        if last_ns is not None and 0 <= stamp_ns - last_ns < self._period_ns:
            return False
        if last_ns is not None and stamp_ns < last_ns and last_ns - stamp_ns < self._period_ns:
            return False  # came late, and was not due then
        self._recording.follow(self.camera.namespace, stamp_ns)
        self._last_due_ns = stamp_ns
        self._due[stamp_ns] = None
        if len(self._due) > _MAX_DUE:
            self._due.popitem(last=False)
        return True

    def _note_latency(self, stamp_ns: int) -> None:
        """How old its labels are when they come here."""
        age_ns = self._node.get_clock().now().nanoseconds - stamp_ns
        if abs(age_ns) < _PLAUSIBLE_AGE_NS:
            self.scene.draw_numbers(stamp_ns, 'latency', {'here': age_ns / 1e6})

    def _count(self, kind: str) -> None:
        self.num_drawn[kind] = self.num_drawn.get(kind, 0) + 1


_PLAUSIBLE_AGE_NS = 60 * 10**9
"""Older labels are of a recording, played against the clock of today."""


def _newest() -> QoSProfile:
    """Asks nobody to wait or to send again: what is lost was not shown, that is all."""
    return qos.sensor_input()
