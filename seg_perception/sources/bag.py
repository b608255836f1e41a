"""Recorded image topics: rosbag2 (sqlite3 and MCAP) and ROS 1 bags, without any ROS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.errors import (
    ConfigurationError,
    GeometryError,
    InputError,
    MissingExtraError,
)
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.sources.source import SourceFrame
from seg_perception.structures import CompressedFrame, Frame

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
BAG_SUFFIXES = frozenset({'.bag', '.db3', '.mcap'})


def is_bag(path: Path) -> bool:
    """Whether the path looks like a recording, be it there or not."""
    return path.suffix.lower() in BAG_SUFFIXES or (path / 'metadata.yaml').is_file()


class BagSource:
    """Plays one image topic of a recording, bytes untouched.

    Args:
        path: a rosbag2 folder, an ``.mcap`` or ``.db3`` file, or a ROS 1 ``.bag``.
        topic: the image topic; may be empty where the recording has exactly one.

    Raises:
        ConfigurationError: nothing there, no image topic, or not the one asked for.
        InputError: the recording cannot be read.
        MissingExtraError: the rosbags library is not installed.
    """

    is_live = False

    def __init__(self, path: Path, topic: str = '') -> None:
        if not path.exists():
            raise ConfigurationError(f'expected a recording, {path} does not exist')
        self._reader = _open_reader(path)
        self._is_open = True
        try:
            images = sorted(
                {c.topic for c in self._reader.connections if c.msgtype in IMAGE_TYPES}
            )
            self.topic = _choose_topic(path, images, topic)
            self._connections = [c for c in self._reader.connections if c.topic == self.topic]
            self.intrinsics = self._read_intrinsics()
        except BaseException:
            self.close()
            raise
        count = sum(c.msgcount for c in self._connections)
        self.description = f'{count} message(s) of {self.topic} in {path}'

    def frames(self) -> Iterator[SourceFrame]:
        """The messages in the order they were recorded, timed by when they were."""
        first_ns: int | None = None
        for message_type, time_ns, message in self._messages(self._connections):
            first_ns = time_ns if first_ns is None else first_ns
            try:
                frame = _to_frame(message, is_raw=message_type == IMAGE_TYPES[0])
            except AttributeError as error:
                raise InputError(
                    f'expected {message_type} as ROS defines it, the recording has another '
                    f'definition: {error}'
                ) from error
            yield SourceFrame(
                frame,
                (time_ns - first_ns) / 1e9,
                f'{self.topic} at {time_ns / 1e9:.3f}',
            )

    def close(self) -> None:
        """Closes the recording."""
        if self._is_open:
            self._is_open = False
            self._reader.close()

    def _messages(self, connections: list[Any]) -> Iterator[tuple[str, int, Any]]:
        """Type, time of recording and content of each message."""
        messages = self._reader.messages(connections=connections)
        while True:
            try:
                connection, time_ns, data = next(messages)
                message = self._reader.deserialize(data, connection.msgtype)
            except StopIteration:
                return
            except Exception as error:  # the library's own, and what damaged files lead it to
                raise InputError(f'the recording cannot be read further: {error}') from error
            yield connection.msgtype, time_ns, message

    def _read_intrinsics(self) -> Intrinsics | None:
        """The first camera_info recorded beside the image topic, if there is a usable one."""
        parent = self.topic.rpartition('/')[0]
        # /camera/image_raw and /camera/image_raw/compressed both belong to /camera/camera_info.
        siblings = {f'{parent}/camera_info', f'{parent.rpartition("/")[0]}/camera_info'}
        connections = [
            c
            for c in self._reader.connections
            if c.topic in siblings and c.msgtype == CAMERA_INFO_TYPE
        ]
        if not connections:
            return None
        for _, _, info in self._messages(connections):
            with suppress(GeometryError):
                intrinsics = camera_info_to_intrinsics(info)
                return intrinsics if intrinsics.k[0] > 0.0 else None
        return None


def _open_reader(path: Path) -> AnyReader:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingExtraError('rosbags', 'bag', 'play recorded image topics') from error
    reader = None
    try:
        # Old sqlite3 recordings carry no message definitions; those of the images never changed.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
    except Exception as error:  # the library's own, and what damaged files lead it to
        if reader is not None:
            with suppress(Exception):
                reader.close()
        raise InputError(f'expected a recording, {path} cannot be read: {error}') from error
    return reader


def _choose_topic(path: Path, images: list[str], topic: str) -> str:
    listed = ', '.join(images) or 'none'
    if topic and topic not in images:
        raise ConfigurationError(
            f"expected an image topic of {path}, got '{topic}'; it has: {listed}"
        )
    if not images:
        raise ConfigurationError(f'{path} has no topic of type {" or ".join(IMAGE_TYPES)}')
    if not topic and len(images) > 1:
        raise ConfigurationError(
            f'{path} has several image topics, say which to play (bag_topic): {listed}'
        )
    return topic or images[0]


def _to_frame(message: Any, *, is_raw: bool) -> Frame | CompressedFrame:
    """Views the bytes of a deserialised message; nothing is checked or copied."""
    stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
    if not is_raw:
        return CompressedFrame(message.data, message.format, stamp_ns, message.header.frame_id)
    return Frame(
        data=message.data,
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=message.step,
        is_bigendian=bool(message.is_bigendian),
        stamp_ns=stamp_ns,
        frame_id=message.header.frame_id,
    )
