"""Watches a camera's segmentation: rate, latency, frames, classes, and a picture at the end.

Run it with ``ros2 run seg_perception monitor_node`` or ``python -m seg_perception.ros.monitor``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_perception.errors import InputError
from seg_perception.imaging.convert import to_rgb, view_frame
from seg_perception.ros.display import Display, open_display
from seg_perception.ros.messages import image_to_frame, stamp_to_ns
from seg_perception.ros.moments import Moments
from seg_perception.ros.options import declare, option
from seg_perception.ros.process import run_node
from seg_perception.ros.tally import NodeAccount, Tally, class_shares
from seg_perception.structures import U8

_UNPAIRED = 8
"""Label images and overlays kept while the other of the pair is still on its way."""
_LAST_ACCOUNT_S = 1.5
"""How long the end waits for the node's count of what was heard until then."""

Kept = TypeVar('Kept')


@dataclass(frozen=True)
class MonitorOptions:
    """Parameters of the monitor; all are read when the node starts."""

    image_topic: str = option(
        'camera/image_raw',
        'Topic of the images that are segmented; the outputs are looked for in segmentation/ '
        'beside it.',
    )
    transport: str = option('raw', 'How the images are sent.', choices=('raw', 'compressed'))
    camera: str = option(
        '',
        "The camera's name in the segmentation node; empty for the last part of the image "
        "topic's namespace.",
    )
    duration_s: float = option(
        0.0, 'Seconds to watch from the first label image on; 0 for ever.', minimum=0.0
    )
    max_frames: int = option(0, 'Label images to watch; 0 for any number.', minimum=0)
    wait_s: float = option(
        60.0,
        'Seconds to wait for a label image, at first and between two, before giving up; 0 for '
        'ever.',
        minimum=0.0,
    )
    overlay_path: str = option(
        '',
        'Where to save the overlays with the most of each class (up to four on one sheet); empty '
        'for nowhere.',
    )
    summary_path: str = option('', 'Where to save the summary as JSON; empty for nowhere.')
    refresh_s: float = option(
        1.0, 'Seconds between two lines, or updates of the table.', minimum=0.05
    )


class MonitorNode(Node):
    """Listens and counts; publishes nothing.

    Attributes:
        exit_code: None while watching; then 0, or 1 when there was nothing to see.

    Raises:
        ConfigurationError: a parameter cannot be used.
    """

    def __init__(self) -> None:
        super().__init__('monitor')
        self.exit_code: int | None = None
        self._options = declare(self, MonitorOptions)
        self._tally = Tally()
        self._moments = Moments(self._tally.name_of)
        self._shares: dict[int, dict[int, float]] = {}
        self._overlays: dict[int, U8] = {}
        self._first_s: float | None = None
        self._last_s = self._started_s = time.monotonic()
        self._over_s: float | None = None
        self._is_finished = False
        self._subscribe()
        self._display: Display = open_display()
        self.create_timer(self._options.refresh_s, self._refresh)
        self.create_timer(0.1, self._check_end)

    def destroy_node(self) -> None:
        """Prints the summary if the end did not come by itself, then destroys the node."""
        self._finish()
        super().destroy_node()

    def _subscribe(self) -> None:
        topic = self.resolve_topic_name(self._options.image_topic)
        namespace = topic.rpartition('/')[0]
        self._labels_topic = f'{namespace}/segmentation/labels'
        self._camera = self._options.camera or namespace.rpartition('/')[2] or 'camera'
        output = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        newest = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        # Before the labels: of what has come, an executor takes in this order.
        try:
            from vision_msgs.msg import LabelInfo
        except ImportError:
            self.get_logger().warning(
                'vision_msgs is not installed: classes are shown by their numbers'
            )
        else:
            self.create_subscription(
                LabelInfo, f'{namespace}/segmentation/label_info', self._on_label_info, latched
            )
        is_raw = self._options.transport == 'raw'
        # Counted only: raw=True spares reading a megabyte of pixels per message.
        self.create_subscription(
            Image if is_raw else CompressedImage,
            topic if is_raw else f'{topic}/compressed',
            lambda _: self._tally.add_image(time.monotonic_ns()),
            newest,
            raw=True,
        )
        self.create_subscription(Image, self._labels_topic, self._on_labels, output)
        if self._options.overlay_path:
            self.create_subscription(
                Image, f'{namespace}/segmentation/overlay', self._on_overlay, output
            )
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_labels(self, message: Image) -> None:
        if self._over_s is not None:
            return
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = stamp_to_ns(message.header.stamp)
        try:
            labels = view_frame(image_to_frame(message))
        except InputError as error:
            self.get_logger().error(f'label image: {error}', throttle_duration_sec=5.0)
            return
        shares = class_shares(labels)
        self._last_s = time.monotonic()
        self._first_s = self._last_s if self._first_s is None else self._first_s
        self._tally.add_labels(shares, time.monotonic_ns(), (now_ns - stamp_ns) / 1e6)
        if self._options.overlay_path:
            _keep(self._shares, stamp_ns, shares)
            self._pair(stamp_ns)

    def _on_overlay(self, message: Image) -> None:
        try:
            overlay = to_rgb(image_to_frame(message))
        except InputError as error:
            self.get_logger().error(f'overlay: {error}', throttle_duration_sec=5.0)
            return
        _keep(self._overlays, stamp_to_ns(message.header.stamp), overlay)
        self._pair(stamp_to_ns(message.header.stamp))

    def _pair(self, stamp_ns: int) -> None:
        if stamp_ns in self._shares and stamp_ns in self._overlays:
            self._moments.add(self._overlays.pop(stamp_ns), self._shares.pop(stamp_ns))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            is_error = status.level == DiagnosticStatus.ERROR
            if is_error and status.name.startswith('segmentation: '):
                self._on_error(f'{status.name}: {status.message}')
            if status.name == f'segmentation: {self._camera}':
                values = {pair.key: pair.value for pair in status.values}
                self._tally.account = NodeAccount.from_values(values) or self._tally.account
                account = self._tally.account
                # Labels come before the account that counts them.
                if self._over_s is not None and (
                    account is None or account.published >= self._tally.num_labels
                ):
                    self.exit_code = 0

    def _on_error(self, text: str) -> None:
        """Shows an error of the node; before the first label image there is no use in waiting."""
        self.get_logger().error(text, throttle_duration_sec=5.0)
        if self._first_s is None and self._options.wait_s:
            self.exit_code = 1

    def _on_label_info(self, message: Any) -> None:
        self._tally.class_names = {c.class_id: c.class_name for c in message.class_map}

    def _elapsed_s(self) -> float:
        """Seconds from the first label image to now, or to the end."""
        if self._first_s is None:
            return 0.0
        return (time.monotonic() if self._over_s is None else self._over_s) - self._first_s

    def _refresh(self) -> None:
        if self._tally.num_labels:
            self._display.update(self._tally, self._elapsed_s())

    def _check_end(self) -> None:
        options = self._options
        is_over = bool(options.duration_s) and self._elapsed_s() >= options.duration_s
        is_full = bool(options.max_frames) and self._tally.num_labels >= options.max_frames
        silent_s = time.monotonic() - self._last_s
        if is_over or is_full:
            now_s = time.monotonic()
            self._over_s = now_s if self._over_s is None else self._over_s
            if self._tally.account is None or now_s - self._over_s > _LAST_ACCOUNT_S:
                self.exit_code = 0
        elif options.wait_s and silent_s > options.wait_s:
            self.get_logger().error(
                f'no label image for {silent_s:.0f} s; {self._who_publishes()}'
            )
            self.exit_code = 1

    def _who_publishes(self) -> str:
        if self.count_publishers(self._labels_topic):
            return f'{self._labels_topic} has a publisher, its node gets no images or is inactive'
        images = [
            name
            for name, types in self.get_topic_names_and_types()
            if 'sensor_msgs/msg/Image' in types and self.count_publishers(name)
        ]
        return (
            f'nobody publishes {self._labels_topic}; image topics with a publisher: '
            f'{", ".join(sorted(images)) or "none"}'
        )

    def _finish(self) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self._display.close()
        lines = self._tally.summary_lines()
        summary = {**self._tally.summary(), 'elapsed_s': self._elapsed_s(), 'overlay_path': None}
        saved = self._save_overlay()
        if saved is not None:
            lines.append(f'overlay           {saved}')
            summary['overlay_path'] = str(saved)
        if self._options.summary_path:
            path = Path(self._options.summary_path).expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
        print('\n'.join(lines), flush=True)

    def _save_overlay(self) -> Path | None:
        sheet = self._moments.sheet()
        if sheet is None:
            return None
        path = Path(self._options.overlay_path).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), np.ascontiguousarray(sheet[..., ::-1])):
            self.get_logger().error(f'cannot write {path}')
            return None
        return path


def _keep(waiting: dict[int, Kept], stamp_ns: int, item: Kept) -> None:
    """Adds an item; forgets the oldest of too many, whose counterpart was lost."""
    waiting[stamp_ns] = item
    if len(waiting) > _UNPAIRED:
        del waiting[next(iter(waiting))]


def main() -> NoReturn:
    """Entry point of ``monitor_node``."""
    run_node(MonitorNode)


if __name__ == '__main__':
    main()
