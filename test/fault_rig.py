"""One real node with cameras of every kind, and what is needed to hurt them and to look at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fault_model import harmless, write_fault_model
from rclpy.serialization import serialize_message
from ros_harness import Collected, Process, Ros, Spawner, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from seg_perception.geometry import Intrinsics
from seg_perception.imaging import encode
from seg_perception.ros import qos
from seg_perception.ros.messages import (
    array_to_image,
    image_to_frame,
    intrinsics_to_camera_info,
    make_header,
    stamp_to_ns,
    to_byte_array,
)

NODE = 'segmentation'
SIZE_HW = (48, 64)
CAMERAS = ('plain', 'packed', 'deep', 'strict', 'late', 'thinker')
"""raw; compressed; with depth; with a QoS that fits no camera; with old stamps; for the model."""
CALIBRATION = Intrinsics(
    size_wh=(64, 48),
    k=(60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0),
    p=(60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0),
    distortion_model='plumb_bob',
    d=(0.0,) * 5,
)
INFO = '/deep/camera_info'
DEPTH = '/deep/depth/image_raw'
DEPTH_INFO = '/deep/depth/camera_info'
PATIENT_S = [60.0, 120.0]
"""No camera is called silent while a busy machine makes pauses; faults of silence are not so."""


def parameters(folder: Path) -> dict[str, Any]:
    """The node's."""
    return {
        'model': str(write_fault_model(folder)),
        'num_threads': 1,
        'cameras': list(CAMERAS),
        'packed.transport': 'compressed',
        'deep.depth_topic': DEPTH,
        'deep.mount_xyz_rpy': [0.0, 0.0, 1.0, 0.0, 20.0, 0.0],
        'depth_wait_s': 0.0,
        'object_tracking': True,
        'qos_overrides./strict/image_raw.subscription.reliability': 'reliable',
        'diagnostics_period_s': 0.1,
        'status_period_s': 0.1,
        'silence_thresholds_s': PATIENT_S,
        'max_model_failures': 0,
        'model_timeout_s': 0.0,
    }


@dataclass
class Clock:
    """Gives each frame a stamp of its own."""

    last_ns: int = 0

    def now_ns(self) -> int:
        self.last_ns = max(time.time_ns(), self.last_ns + 1)
        return self.last_ns


class FaultRig:
    """Sends what a test wants to the node's cameras, and shows what the node says."""

    def __init__(self, ros: Ros, spawn: Spawner, folder: Path) -> None:
        node = spawn('node', parameters(folder), ttl_s=400.0)
        node.wait_for_log('loaded in', 60.0)
        self._look_at(ros, node, NODE, CAMERAS)
        self.folder = folder

    @classmethod
    def at(cls, ros: Ros, node: Process, name: str, cameras: Sequence[str]) -> FaultRig:
        """A rig at another node with raw cameras."""
        rig = cls.__new__(cls)
        rig._look_at(ros, node, name, cameras)
        return rig

    def _look_at(self, ros: Ros, node: Process, name: str, cameras: Sequence[str]) -> None:
        self.ros = ros
        self.name = name
        self.node = node
        self.clock = Clock()
        self.diagnostics = ros.collect('/diagnostics', DiagnosticArray)
        self.beats: dict[str, Collected] = {}
        self.labels: dict[str, Collected] = {}
        self.publishers: dict[str, Any] = {}
        for camera in cameras:
            self.beats[camera] = ros.collect(f'/{camera}/segmentation/status', DiagnosticStatus)
            self.labels[camera] = ros.collect(
                f'/{camera}/segmentation/labels', Image, qos.output()
            )
        for camera in cameras:
            kind = CompressedImage if camera == 'packed' else Image
            self.publishers[camera] = ros.publisher(
                self.topic(camera), kind, qos.sensor_input(), num_subscribers=camera != 'strict'
            )

    @staticmethod
    def topic(camera: str) -> str:
        """A camera's image topic."""
        return f'/{camera}/image_raw' + ('/compressed' if camera == 'packed' else '')

    def image(self, camera: str = 'plain', picture: Any = None, **changes: Any) -> Any:
        """A good image of a camera, with fields changed."""
        picture = harmless(SIZE_HW) if picture is None else picture
        header = make_header(changes.pop('stamp_ns', self.clock.now_ns()), 'optical')
        message = array_to_image(picture, changes.pop('encoding', 'rgb8'), header)
        if camera == 'packed':
            data = encode(image_to_frame(message), 'png')
            message = CompressedImage(header=header, format='png', data=to_byte_array(data))
        for name, value in changes.items():
            setattr(message, name, to_byte_array(value) if name == 'data' else value)
        return message

    def send(self, camera: str = 'plain', message: Any = None, **changes: Any) -> Any:
        """Publishes a message, or a good image with fields changed."""
        message = self.image(camera, **changes) if message is None else message
        self.publishers[camera].publish(message)
        return message

    def serialized(self, **changes: Any) -> bytes:
        """A good image of ``plain`` as it goes over the wire."""
        return bytes(serialize_message(self.image(**changes)))

    def status(self, name: str) -> DiagnosticStatus:
        """The newest status of a camera, or of ``device``."""
        for message in reversed(self.diagnostics):
            for status in message.status:
                if status.name == f'{self.name}: {name}':
                    return status
        return DiagnosticStatus()

    def values(self, name: str) -> dict[str, str]:
        """The newest values of a status."""
        return {pair.key: pair.value for pair in self.status(name).values}

    def look_anew(self) -> None:
        """Waits for diagnostics that were made after now."""
        num_seen = len(self.diagnostics)
        self.until(lambda: len(self.diagnostics) > num_seen + 1, 'fresh diagnostics')

    def count(self, camera: str, key: str) -> int:
        """A counter of a camera."""
        return int(self.values(camera).get(key, 0))

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 15.0) -> None:
        """Waits."""
        wait_until(condition, timeout_s, what)

    def says(self, name: str, text: str, level: bytes | None = None) -> None:
        """Waits until a status of /diagnostics has this message, and level."""

        def is_said() -> bool:
            status = self.status(name)
            return text in status.message and level in (None, status.level)

        deadline_s = time.monotonic() + 15.0
        while not is_said():
            last = self.status(name)
            assert time.monotonic() < deadline_s, (
                f'{name}: {text!r} not said, but {last.message!r}'
            )
            time.sleep(0.01)

    def beats_with(self, camera: str, level: bytes, state: str) -> None:
        """Waits until a camera's heartbeat has this level and state."""

        def is_so() -> bool:
            beats = self.beats[camera]
            return bool(beats) and (beats[-1].level, beats[-1].values[0].value) == (level, state)

        self.until(is_so, f'{camera}: a beat of state {state}')

    def logs(self, text: str, since: int = 0) -> None:
        """Waits until the node has logged this, after the first ``since`` characters."""
        self.until(lambda: text in self.node.log[since:], f"'{text}' in the log")

    def costs(
        self, reason: str, camera: str = 'plain', message: Any = None, **changes: Any
    ) -> None:
        """Sends a bad image until it is counted as dropped for this reason."""
        self.look_anew()
        before = self.count(camera, f'dropped_{reason}')
        num_labels, num_others = len(self.labels[camera]), self.other_drops(camera, reason)

        def is_counted() -> bool:
            self.send(camera, message, **changes)
            time.sleep(0.03)
            return self.count(camera, f'dropped_{reason}') > before

        self.until(is_counted, f'{camera}: dropped_{reason}')
        assert len(self.labels[camera]) == num_labels, 'labels of a bad image'
        assert self.other_drops(camera, reason) == num_others

    def other_drops(self, camera: str, reason: str) -> int:
        """All drops but those of one reason, and of what a burst replaces."""
        return sum(
            int(value)
            for key, value in self.values(camera).items()
            if key.startswith('dropped_')
            and key not in (f'dropped_{reason}', 'dropped_superseded')
        )

    def works(self, camera: str = 'plain', **changes: Any) -> Image:
        """Sends good images until labels of one of them come; gives those labels."""
        num_labels = len(self.labels[camera])  # some of what was sent before may yet come
        sent = []

        def of_sent() -> list[Image]:
            return [m for m in self.labels[camera][num_labels:] if m.header.stamp in sent]

        def is_there() -> bool:
            sent.append(self.send(camera, **changes).header.stamp)
            time.sleep(0.03)
            return bool(of_sent())

        self.until(is_there, f'labels of {camera}', 30.0)
        return of_sent()[0]

    def is_balanced(self, camera: str) -> bool:
        """Whether a camera's account adds up."""
        values = {k: float(v) for k, v in self.values(camera).items()}
        dropped = sum(v for k, v in values.items() if k.startswith('dropped_'))
        return values['received'] == values['published'] + dropped + values['pending']

    def set(self, **values: Any) -> Any:
        """Sets one parameter; the result."""
        [result] = self.ros.set_params(NODE, **values)
        return result


class DepthCamera:
    """The depth side of ``deep``, and a listener to its cloud."""

    def __init__(self, rig: FaultRig) -> None:
        self.rig = rig
        self.clouds = rig.ros.collect('/deep/segmentation/points', PointCloud2, qos.output())
        sensor = qos.sensor_input()
        self.depth = rig.ros.publisher(DEPTH, Image, sensor)
        self.depth_info = rig.ros.publisher(DEPTH_INFO, CameraInfo, sensor)
        self.info = rig.ros.publisher(INFO, CameraInfo, sensor)

    def calibrate(self) -> None:
        """Sends both calibrations."""
        info = intrinsics_to_camera_info(CALIBRATION, make_header(1, 'optical'))
        self.info.publish(info)
        self.depth_info.publish(info)

    def send(
        self,
        *,
        depth_offset_ns: int | None = 0,
        frame_id: str = 'optical',
        depth_mm: Any = None,
        encoding: str = '16UC1',
        **changes: Any,
    ) -> int:
        """A depth image (none where the offset is None), then a colour image; their stamp."""
        stamp_ns = self.rig.clock.now_ns()
        if depth_offset_ns is not None:
            depth_mm = np.full(SIZE_HW, 1500, np.uint16) if depth_mm is None else depth_mm
            header = make_header(stamp_ns + depth_offset_ns, frame_id)
            depth = array_to_image(depth_mm, encoding, header)
            for name, value in changes.items():
                setattr(depth, name, to_byte_array(value) if name == 'data' else value)
            self.depth.publish(depth)
            time.sleep(0.01)
        self.rig.send('deep', stamp_ns=stamp_ns)
        return stamp_ns

    def has_cloud(self, *stamps_ns: int) -> bool:
        """Whether a cloud of one of these stamps has come."""
        return any(stamp_to_ns(m.header.stamp) in stamps_ns for m in list(self.clouds))

    def suffers(self, cause: str, before: Callable[[], None] = lambda: None, **how: Any) -> None:
        """Sends such pairs until the cause is counted; labels go on, clouds do not."""
        rig = self.rig
        count, num_labels = rig.count('deep', f'depth_{cause}'), len(rig.labels['deep'])

        def is_counted() -> bool:
            before()
            self.send(**how)
            time.sleep(0.03)
            return rig.count('deep', f'depth_{cause}') > count

        rig.until(is_counted, f'depth_{cause}')
        rig.says('deep', f'depth {cause}', DiagnosticStatus.WARN)
        rig.until(lambda: len(rig.labels['deep']) > num_labels, 'labels without depth')

    def works(self) -> None:
        """Sends good pairs until the cloud of one of them comes."""
        sent_ns = []

        def is_there() -> bool:
            self.calibrate()
            sent_ns.append(self.send())
            time.sleep(0.03)
            return self.has_cloud(*sent_ns)

        self.rig.until(is_there, 'a cloud', 30.0)
