"""Recordings are played byte for byte; they are written here by the rosbags library."""

from __future__ import annotations

import numpy as np
import pytest

rosbags = pytest.importorskip('rosbags', reason="rosbags (extra 'bag') is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

from seg_perception.errors import ConfigurationError, InputError  # noqa: E402
from seg_perception.sources import open_source  # noqa: E402
from seg_perception.structures import CompressedFrame  # noqa: E402

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 50_000_000


def header(stamp_ns: int):
    sec, nanosec = divmod(stamp_ns, 10**9)
    time = TYPES['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return TYPES['std_msgs/msg/Header'](stamp=time, frame_id='left')


def image(index: int):
    # Rows of 3 pixels in bgr8, padded from 9 to 12 bytes.
    data = (np.arange(24, dtype=np.uint8) + index).reshape(-1)
    return TYPES['sensor_msgs/msg/Image'](
        header=header(START_NS + index * PERIOD_NS - 1000),
        height=2,
        width=3,
        encoding='bgr8',
        is_bigendian=0,
        step=12,
        data=data,
    )


def camera_info():
    roi = TYPES['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header=header(START_NS),
        height=2,
        width=3,
        distortion_model='plumb_bob',
        d=np.array([0.1, 0.0, 0.0, 0.0, 0.0]),
        k=np.array([5.0, 0, 1, 0, 6.0, 0.5, 0, 0, 1]),
        r=np.eye(3).reshape(-1),
        p=np.array([5.0, 0, 1, 0, 0, 6.0, 0.5, 0, 0, 0, 1, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def write_bag(path, storage, topics):
    """Writes ``{topic: [messages]}``, one message of each per period."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=STORE)
            for i, message in enumerate(messages):
                data = STORE.serialize_cdr(message, kind)
                writer.write(connection, START_NS + i * PERIOD_NS, data)
    return path


@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_plays_the_only_image_topic_with_its_calibration(tmp_path, storage):
    topics = {
        '/left/image_raw': [image(i) for i in range(3)],
        '/left/camera_info': [camera_info()],
    }
    bag = write_bag(tmp_path / 'bag', storage, topics)
    source = open_source(str(bag))
    for _ in range(2):
        items = list(source.frames())
        assert [item.offset_s for item in items] == pytest.approx([0.0, 0.05, 0.10])
        for i, item in enumerate(items):
            frame = item.frame
            assert (frame.height, frame.width, frame.step) == (2, 3, 12)
            assert (frame.encoding, frame.frame_id) == ('bgr8', 'left')
            assert frame.stamp_ns == START_NS + i * PERIOD_NS - 1000
            assert bytes(frame.data) == bytes(range(i, i + 24))
    assert source.intrinsics is not None
    assert source.intrinsics.size_wh == (3, 2)
    assert source.intrinsics.k[0] == 5.0
    assert source.intrinsics.p[5] == 6.0
    assert source.intrinsics.d[0] == 0.1
    source.close()
    source.close()


def test_a_single_mcap_file_is_a_recording_too(tmp_path):
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/image': [image(0)]})
    (mcap,) = bag.glob('*.mcap')
    mcap = mcap.rename(tmp_path / 'alone.mcap')
    source = open_source(str(mcap))
    assert [bytes(item.frame.data) for item in source.frames()] == [bytes(range(24))]
    source.close()


def test_compressed_images_stay_compressed(tmp_path):
    message = TYPES['sensor_msgs/msg/CompressedImage'](
        header=header(START_NS), format='jpeg', data=np.frombuffer(b'not decoded', np.uint8)
    )
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/image_raw/compressed': [message]})
    source = open_source(str(bag))
    (item,) = source.frames()
    assert isinstance(item.frame, CompressedFrame)
    assert (item.frame.format, bytes(item.frame.data)) == ('jpeg', b'not decoded')
    assert source.intrinsics is None
    source.close()


def test_several_image_topics_need_a_choice(tmp_path):
    bag = write_bag(
        tmp_path / 'bag', StoragePlugin.MCAP, {'/left': [image(0)], '/right': [image(1)]}
    )
    with pytest.raises(ConfigurationError, match=r'several image topics.*: /left, /right'):
        open_source(str(bag))
    with pytest.raises(ConfigurationError, match="got '/middle'; it has: /left, /right"):
        open_source(str(bag), bag_topic='/middle')
    source = open_source(str(bag), bag_topic='/right')
    assert [bytes(item.frame.data) for item in source.frames()] == [bytes(range(1, 25))]
    source.close()


def test_recording_without_images(tmp_path):
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/camera_info': [camera_info()]})
    with pytest.raises(ConfigurationError, match='has no topic of type sensor_msgs/msg/Image'):
        open_source(str(bag))


@pytest.mark.parametrize('name', ['broken.mcap', 'broken.db3', 'broken.bag'])
def test_damaged_recording(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b'this is no recording' * 10)
    with pytest.raises(InputError, match=f'{name} cannot be read'):
        open_source(str(path))


def test_recording_whose_first_record_is_longer_than_itself(tmp_path):
    bag = write_bag(tmp_path / 'bag', StoragePlugin.MCAP, {'/image': [image(0)]})
    (mcap,) = bag.glob('*.mcap')
    content = mcap.read_bytes()
    # Eight bytes of magic, the kind of the first record, its length, its texts with theirs.
    mcap.write_bytes(content[:17] + b'\xff\xff\xff\x7f' + content[21:])
    with pytest.raises(InputError, match='cannot be read'):
        open_source(str(mcap))


def test_truncated_recording(tmp_path):
    bag = write_bag(
        tmp_path / 'bag', StoragePlugin.MCAP, {'/image': [image(i) for i in range(50)]}
    )
    (mcap,) = bag.glob('*.mcap')
    content = mcap.read_bytes()
    mcap.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match='cannot be read'):
        list(open_source(str(bag)).frames())
