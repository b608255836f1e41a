"""Publishes photographs, videos, webcams and recordings as a camera driver would.

Run it with ``ros2 run seg_perception image_source_node`` or
``python -m seg_perception.ros.image_source``.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from seg_perception.errors import ConfigurationError, InputError, SegPerceptionError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.imaging.compressed import check_compressed, encode
from seg_perception.ros.messages import (
    intrinsics_to_camera_info,
    make_header,
    to_byte_array,
)
from seg_perception.ros.options import declare, option
from seg_perception.ros.process import run_node
from seg_perception.sources import SourceFrame, open_source
from seg_perception.sources.calibration import intrinsics_from_fov, read_calibration
from seg_perception.sources.opening import KINDS
from seg_perception.sources.pixels import ENCODERS
from seg_perception.sources.shaping import KEEP, check_shape, shape_frame
from seg_perception.structures import CompressedFrame, Frame

STILL_RATE_HZ = 10.0
"""How fast pictures that have no time of their own are played when no rate is given."""

FRAME_ID = 'camera_optical_frame'

_ACKNOWLEDGE = Duration(seconds=1)


@dataclass(frozen=True)
class SourceOptions:
    """Parameters of the image source; all are read when the node starts."""

    source: str = option('demo', f'What to play: {"; ".join(KINDS)}.')
    topic: str = option(
        'camera/image_raw',
        'Topic of the images; compressed images go to <topic>/compressed and the calibration to '
        'camera_info beside it.',
    )
    transport: str = option(
        'raw', 'Which image topics to publish.', choices=('raw', 'compressed', 'both')
    )
    encoding: str = option(
        'keep',
        "Encoding of the raw images; keep for the source's own (bgr8 for videos and colour "
        'photographs).',
        choices=('keep', *ENCODERS),
    )
    compressed_format: Literal['jpeg', 'png'] = option(
        'jpeg', 'Format of the compressed images.', choices=('jpeg', 'png')
    )
    jpeg_quality: int = option(90, 'Quality of JPEG images.', minimum=1, maximum=100)
    size_wh: tuple[int, int] = option(
        (0, 0),
        "Width and height in pixels; [0, 0] for the source's own.",
        minimum=0,
        maximum=32768,
    )
    rate_hz: float = option(
        0.0,
        f'Pictures per second; 0 for as recorded ({STILL_RATE_HZ:g} for what has no time of its '
        'own).',
        minimum=0.0,
        maximum=1000.0,
    )
    loop: bool = option(True, 'Start again at the end.')
    on_end: str = option(
        'exit', 'What to do after the last picture when not looping.', choices=('exit', 'idle')
    )
    wait_for_subscribers: int = option(
        0, 'Hold the first picture back until this many nodes listen.', minimum=0, maximum=1000
    )
    stamp: str = option(
        'now',
        'Stamps: now for the time of publishing, recorded for those of the recording.',
        choices=('now', 'recorded'),
    )
    frame_id: str = option(
        '',
        'Frame of the images (z forward, x right, y down: REP 103); empty for the recorded one, '
        f'or {FRAME_ID}.',
    )
    camera_info: str = option(
        '',
        'Calibration file (YAML, as camera_calibration writes it); empty for the one recorded in '
        'the bag, or else an ideal camera of horizontal_fov_deg.',
    )
    horizontal_fov_deg: float = option(
        60.0, 'Field of view of the ideal camera, degrees.', minimum=1.0, maximum=179.0
    )
    bag_topic: str = option('', 'Image topic of a bag; empty for its only one.')
    qos: str = option(
        'reliable',
        'Quality of service of the images: reliable suits every subscriber, sensor_data is what '
        'most drivers use; overridable by the standard qos_overrides parameters.',
        choices=('reliable', 'sensor_data'),
    )


class ImageSourceNode(Node):
    """Plays a source on an image topic, from a thread of its own.

    Attributes:
        exit_code: None while there is something to play; then what the process ends with.
        num_published: pictures published so far.

    Raises:
        SegPerceptionError: the parameters or the source cannot be used.
    """

    def __init__(self) -> None:
        super().__init__('image_source')
        self.exit_code: int | None = None
        self.num_published = 0
        self._stopping = threading.Event()
        self._player: threading.Thread | None = None
        self._options = declare(self, SourceOptions)
        check_shape(self._options.size_wh, self._options.encoding)
        self._calibration = (
            read_calibration(Path(self._options.camera_info).expanduser())
            if self._options.camera_info
            else None
        )
        self._source = open_source(
            self._options.source,
            bag_topic=self._options.bag_topic,
            demo_rate_hz=self._options.rate_hz,
        )
        self._create_publishers()
        self.get_logger().info(
            f'playing {self._source.description} on {self.resolve_topic_name(self._options.topic)}'
        )
        self._player = threading.Thread(target=self._play, name='player', daemon=True)
        self._player.start()

    def destroy_node(self) -> None:
        """Stops playing, then destroys the node."""
        self._stopping.set()
        if self._player is not None:
            self._player.join(1.0)
        super().destroy_node()

    def _create_publishers(self) -> None:
        reliability = {
            'reliable': ReliabilityPolicy.RELIABLE,
            'sensor_data': ReliabilityPolicy.BEST_EFFORT,
        }[self._options.qos]
        # Deep enough that a reliable subscriber misses nothing while the machine is busy.
        qos = QoSProfile(depth=5, reliability=reliability)
        overrides = QoSOverridingOptions.with_default_policies()
        topic, transport = self._options.topic, self._options.transport
        parent, slash, _ = topic.rpartition('/')
        self._raw: Publisher | None = None
        self._compressed: Publisher | None = None
        if transport in ('raw', 'both'):
            self._raw = self.create_publisher(Image, topic, qos, qos_overriding_options=overrides)
        if transport in ('compressed', 'both'):
            self._compressed = self.create_publisher(
                CompressedImage, f'{topic}/compressed', qos, qos_overriding_options=overrides
            )
        self._info = self.create_publisher(
            CameraInfo, f'{parent}{slash}camera_info', qos, qos_overriding_options=overrides
        )

    def _play(self) -> None:
        """The player's thread: ends by itself at the end of the source or on an error."""
        try:
            self._wait_for_subscribers()
            while not self._stopping.is_set():
                self._play_once()
                if self._source.is_live or not self._options.loop:
                    break
            if not self._stopping.is_set():
                self._end()
        except SegPerceptionError as error:
            print(f'error: {error}', file=sys.stderr, flush=True)
            self.exit_code = 1
        finally:
            self._source.close()

    def _end(self) -> None:
        self.get_logger().info(f'end of the source, {self.num_published} picture(s) published')
        if self._options.on_end == 'idle':
            return
        for publisher in filter(None, (self._raw, self._compressed, self._info)):
            publisher.wait_for_all_acked(_ACKNOWLEDGE)
        self.exit_code = 0

    def _wait_for_subscribers(self) -> None:
        wanted = self._options.wait_for_subscribers
        publishers = [p for p in (self._raw, self._compressed) if p is not None]
        while sum(p.get_subscription_count() for p in publishers) < wanted:
            if self._stopping.wait(0.05):
                return

    def _play_once(self) -> None:
        """From the first picture to the last, each at its time.

        A picture that is late is published at once and the others keep their distance from it:
        a source slower than asked for runs slower instead of in bursts.
        """
        options, is_live = self._options, self._source.is_live
        start_s = time.monotonic()
        due_s, period_s = 0.0, 1.0 / (options.rate_hz or STILL_RATE_HZ)
        num_before = self.num_published
        for index, item in enumerate(self._source.frames()):
            last_due_s = due_s
            is_paced = item.offset_s is None or options.rate_hz > 0.0
            due_s = index * period_s if is_paced else item.offset_s or 0.0
            late_s = 0.0 if is_live else time.monotonic() - (start_s + due_s)
            if late_s > 0.0:
                start_s += late_s
            if self._stopping.wait(max(-late_s, 0.0)):
                return
            self._publish(item)
        if self.num_published == num_before:
            raise InputError(f'expected pictures, found none: {self._source.description}')
        # The last picture lasts as long as the one before it did, also before a round starts anew.
        lasts_s = due_s - last_due_s if due_s > last_due_s else period_s
        self._stopping.wait(0.0 if is_live else lasts_s)

    def _publish(self, item: SourceFrame) -> None:
        frame_id = self._options.frame_id or item.frame.frame_id or FRAME_ID
        header = make_header(self._stamp_ns(item.frame), frame_id)
        frame = item.frame
        if not (isinstance(frame, CompressedFrame) and self._keeps_bytes and self._raw is None):
            frame = shape_frame(frame, self._options.size_wh, self._options.encoding)
        if self._raw is not None and isinstance(frame, Frame):
            self._raw.publish(_image_message(frame, header))
        if self._compressed is not None:
            small = item.frame if self._keeps_bytes else frame
            if isinstance(small, Frame):
                small = self._compress(small)
            self._compressed.publish(_compressed_message(small, header))
        if isinstance(frame, Frame):
            size_wh = (frame.width, frame.height)
        else:
            height, width = check_compressed(frame)
            size_wh = (width, height)
        self._info.publish(intrinsics_to_camera_info(self._intrinsics(size_wh), header))
        self.num_published += 1

    @property
    def _keeps_bytes(self) -> bool:
        """Whether recorded compressed images can go out as they are."""
        return self._options.encoding == KEEP and self._options.size_wh == (0, 0)

    def _compress(self, frame: Frame) -> CompressedFrame:
        codec: Literal['jpeg', 'png'] = self._options.compressed_format
        return CompressedFrame(encode(frame, codec, self._options.jpeg_quality), codec)

    def _stamp_ns(self, frame: Frame | CompressedFrame) -> int:
        if self._options.stamp == 'now':
            return int(self.get_clock().now().nanoseconds)
        if not frame.stamp_ns:
            raise ConfigurationError(f'{self._source.description} has no stamps: set stamp to now')
        return frame.stamp_ns

    def _intrinsics(self, size_wh: tuple[int, int]) -> Intrinsics:
        """The calibration for an image of this size.

        Raises:
            ConfigurationError: the calibration belongs to an image of other proportions.
        """
        given = self._calibration or self._source.intrinsics
        if given is None:
            return intrinsics_from_fov(size_wh, self._options.horizontal_fov_deg)
        if given.size_wh == size_wh:
            return given
        is_stretched = self._options.size_wh != (0, 0)
        if not is_stretched and given.size_wh[0] * size_wh[1] != given.size_wh[1] * size_wh[0]:
            raise ConfigurationError(
                f'the calibration is for images of {given.size_wh[0]}x{given.size_wh[1]}, those '
                f'of the source are {size_wh[0]}x{size_wh[1]}: of other proportions'
            )
        return given.resized(size_wh)


def _image_message(frame: Frame, header: Header) -> Image:
    return Image(
        header=header,
        height=frame.height,
        width=frame.width,
        encoding=frame.encoding,
        is_bigendian=int(frame.is_bigendian),
        step=frame.step,
        data=to_byte_array(frame.data),
    )


def _compressed_message(frame: CompressedFrame, header: Header) -> CompressedImage:
    return CompressedImage(header=header, format=frame.format, data=to_byte_array(frame.data))


def main() -> NoReturn:
    """Entry point of ``image_source_node``."""
    run_node(ImageSourceNode)


if __name__ == '__main__':
    main()
