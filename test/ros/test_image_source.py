"""The image source as a process: what arrives on its topics is what was played."""

from __future__ import annotations

import signal

import cv2
import numpy as np
import pytest
import yaml
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from seg_perception.imaging.compressed import decode
from seg_perception.imaging.convert import to_rgb
from seg_perception.structures import CompressedFrame, Frame


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture (so that JPEG and chroma subsampling keep it) unlike its neighbours."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 40.0 * index)], axis=-1)
    return base.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three pictures, stored without loss."""
    path = tmp_path / 'pictures'
    path.mkdir()
    for i in range(3):
        assert cv2.imwrite(str(path / f'{i}.png'), picture(i)[..., ::-1])
    return path


def frame_of(message: Image) -> Frame:
    return Frame(
        data=bytes(message.data),
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=message.step,
        is_bigendian=bool(message.is_bigendian),
    )


def stamp_of(message) -> tuple[int, int]:
    return (message.header.stamp.sec, message.header.stamp.nanosec)


@pytest.mark.parametrize(
    ('encoding', 'tolerance'), [('keep', 0), ('rgb8', 0), ('nv12', 12), ('yuv422', 12)]
)
def test_plays_a_folder_once_and_ends(ros, spawn, folder, encoding, tolerance):
    # In this order: the source waits for the readers of images, and hears of the others before.
    infos = ros.collect('/camera/camera_info', CameraInfo)
    images = ros.collect('/camera/image_raw', Image)
    source = spawn(
        'image_source',
        {
            'source': str(folder),
            'loop': False,
            'rate_hz': 20.0,
            'encoding': encoding,
            'wait_for_subscribers': 1,
            'frame_id': 'left_optical',
        },
    )
    received = images.wait_for(3)
    assert source.wait() == 0
    assert 'end of the source, 3 picture(s) published' in source.log
    assert len(images) == 3
    for i, message in enumerate(received):
        assert message.encoding == ('bgr8' if encoding == 'keep' else encoding)
        assert message.header.frame_id == 'left_optical'
        difference = np.abs(to_rgb(frame_of(message)).astype(int) - picture(i))
        assert difference.max() <= tolerance
    stamps = [stamp_of(message) for message in received]
    assert stamps == sorted(set(stamps))
    assert [stamp_of(info) for info in infos.wait_for(3)] == stamps
    assert {info.header.frame_id for info in infos} == {'left_optical'}


def test_keeps_the_rate_and_loops(ros, spawn, folder):
    images = ros.collect('/camera/image_raw', Image, 50)
    spawn('image_source', {'source': str(folder), 'rate_hz': 20, 'wait_for_subscribers': 1})
    received = images.wait_for(21)
    times = [sec + nanosec * 1e-9 for sec, nanosec in map(stamp_of, received)]
    assert 10.0 < 1.0 / np.median(np.diff(times)) < 22.0  # a busy machine makes pauses
    assert 20 / (times[-1] - times[0]) < 21.0
    # After the last picture comes the first.
    assert bytes(received[3].data) == bytes(received[0].data)
    assert bytes(received[1].data) != bytes(received[0].data)


def test_compressed_and_resized_with_matching_camera_info(ros, spawn, folder):
    compressed = ros.collect('/front/image_raw/compressed', CompressedImage)
    infos = ros.collect('/front/camera_info', CameraInfo)
    images = ros.collect('/front/image_raw', Image)
    spawn(
        'image_source',
        {
            'source': str(folder / '1.png'),
            'topic': '/front/image_raw',
            'transport': 'both',
            'loop': False,
            'on_end': 'idle',
            'size_wh': [32, 24],
            'wait_for_subscribers': 2,
            'horizontal_fov_deg': 90.0,
        },
    )
    raw = images.wait_for(1)[0]
    small = compressed.wait_for(1)[0]
    info = infos.wait_for(1)[0]
    assert stamp_of(small) == stamp_of(raw) == stamp_of(info)
    assert (raw.width, raw.height, info.width, info.height) == (32, 24, 32, 24)
    decoded = to_rgb(decode(CompressedFrame(bytes(small.data), small.format)))
    assert np.abs(decoded.astype(int) - to_rgb(frame_of(raw))).mean() < 3.0
    # A right angle of view: the focal length is half the width.
    assert info.k[0] == pytest.approx(16.0)
    assert (info.k[2], info.k[5]) == (15.5, 11.5)


def test_calibration_file_is_scaled_to_the_size_played(ros, spawn, folder, tmp_path):
    calibration = tmp_path / 'camera.yaml'
    calibration.write_text(
        yaml.safe_dump(
            {
                'image_width': 64,
                'image_height': 48,
                'camera_name': 'left',
                'distortion_model': 'plumb_bob',
                'camera_matrix': {
                    'rows': 3,
                    'cols': 3,
                    'data': [50, 0, 31.5, 0, 50, 23.5, 0, 0, 1],
                },
                'distortion_coefficients': {'rows': 1, 'cols': 5, 'data': [0.1, 0, 0, 0, 0]},
                'rectification_matrix': {
                    'rows': 3,
                    'cols': 3,
                    'data': [1, 0, 0, 0, 1, 0, 0, 0, 1],
                },
                'projection_matrix': {
                    'rows': 3,
                    'cols': 4,
                    'data': [48, 0, 31.5, 0, 0, 48, 23.5, 0, 0, 0, 1, 0],
                },
            }
        )
    )
    infos = ros.collect('/camera/camera_info', CameraInfo)
    spawn(
        'image_source',
        {'source': str(folder), 'camera_info': str(calibration), 'size_wh': [128, 96]},
    )
    info = infos.wait_for(1)[0]
    assert (info.k[0], info.k[2], info.p[0]) == (100.0, 63.5, 96.0)
    assert list(info.d) == [0.1, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGTERM])
def test_ends_on_a_signal(ros, spawn, folder, signal_number):
    images = ros.collect('/camera/image_raw', Image)
    source = spawn('image_source', {'source': str(folder)})
    images.wait_for(1)
    assert source.stop(signal_number) == 0
    assert 'Traceback' not in source.log


def test_idles_at_the_end_when_told_to(ros, spawn, folder):
    source = spawn(
        'image_source',
        {'source': str(folder), 'loop': False, 'rate_hz': 100.0, 'on_end': 'idle'},
    )
    source.wait_for_log('end of the source')
    with pytest.raises(pytest.fail.Exception, match='still runs'):
        source.wait(timeout_s=0.5)
    assert source.stop() == 0


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'source': '/nowhere/at/all'}, "error: no such source: '/nowhere/at/all'"),
        ({'source': 'webcam:front'}, 'error: expected webcam:<number>, e.g. webcam:0, got'),
        ({'rate_hz': 'fast'}, "error: parameter rate_hz: expected a number, got 'fast'"),
        ({'encoding': 'rgb9'}, 'error: parameter encoding: expected one of keep, rgb8'),
        ({'size_wh': [640, 0]}, 'error: expected a size of [width, height], both 0 or both'),
        (
            {'camera_info': '/no/calibration.yaml'},
            'error: calibration /no/calibration.yaml cannot',
        ),
    ],
)
@pytest.mark.distro
def test_bad_parameters_give_one_clear_line(ros, spawn, parameters, message):
    source = spawn('image_source', parameters, expect_exit=1)
    assert source.wait() == 1
    # What processes left that others killed may be cleaned up, and told, before.
    [line] = [line for line in source.log.splitlines() if '[shared_memory]' not in line]
    assert line.startswith(message)


def test_damaged_picture_ends_with_one_clear_line(ros, spawn, tmp_path):
    (tmp_path / 'damaged.jpg').write_bytes(b'\xff\xd8\xff\xe0 not much of a photograph')
    source = spawn('image_source', {'source': str(tmp_path / 'damaged.jpg')}, expect_exit=1)
    assert source.wait() == 1
    assert 'damaged.jpg cannot be decoded' in source.log
    assert 'Traceback' not in source.log


def test_plays_a_recording_with_its_own_stamps(ros, spawn, tmp_path):
    rosbag2 = pytest.importorskip(
        'rosbags.rosbag2', reason="rosbags (extra 'bag') is not installed"
    )
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    kind = 'sensor_msgs/msg/Image'
    # sqlite3 connections may not change threads; MCAP files do not mind.
    plugin = rosbag2.StoragePlugin.SQLITE3
    with rosbag2.Writer(tmp_path / 'bag', version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection('/left/image_raw', kind, typestore=store)
        for i in range(3):
            header = types['std_msgs/msg/Header'](
                stamp=types['builtin_interfaces/msg/Time'](sec=1000 + i, nanosec=7),
                frame_id='left_optical',
            )
            message = types[kind](
                header=header, height=48, width=64, encoding='rgb8', is_bigendian=0, step=192,
                data=picture(i).reshape(-1),
            )  # fmt: skip
            writer.write(connection, 10**12 + i * 10**8, store.serialize_cdr(message, kind))
    images = ros.collect('/camera/image_raw', Image)
    source = spawn(
        'image_source',
        {
            'source': str(tmp_path / 'bag'),
            'stamp': 'recorded',
            'loop': False,
            'wait_for_subscribers': 1,
        },
    )
    received = images.wait_for(3)
    assert source.wait() == 0
    assert [stamp_of(message) for message in received] == [(1000 + i, 7) for i in range(3)]
    assert {message.header.frame_id for message in received} == {'left_optical'}
    for i, message in enumerate(received):
        assert bytes(message.data) == picture(i).tobytes()


@pytest.mark.distro
def test_misspelt_parameter_is_reported(ros, spawn, folder):
    source = spawn('image_source', {'source': str(folder), 'rat_hz': 5.0})
    source.wait_for_log('unknown parameter rat_hz ignored; did you mean rate_hz?')


def test_demo_shows_moving_photographs(ros, spawn):
    pytest.importorskip('skimage', reason="scikit-image (extra 'demo') is not installed")
    images = ros.collect('/camera/image_raw', Image, 50)
    spawn('image_source', {'rate_hz': 30.0, 'wait_for_subscribers': 1})
    received = images.wait_for(10)
    assert {(m.width, m.height, m.encoding) for m in received} == {(640, 480, 'rgb8')}
    contents = {bytes(m.data) for m in received}
    assert len(contents) == 10


@pytest.mark.distro
def test_quality_of_service_can_be_overridden(ros, spawn, folder):
    from rclpy.qos import ReliabilityPolicy

    spawn(
        'image_source',
        {
            'source': str(folder),
            'qos_overrides./camera/image_raw.publisher.reliability': 'best_effort',
        },
    )
    images = ros.collect('/camera/image_raw', Image, _best_effort())
    images.wait_for(1)
    (publisher,) = ros.node.get_publishers_info_by_topic('/camera/image_raw')
    assert publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def _best_effort():
    from rclpy.qos import qos_profile_sensor_data

    return qos_profile_sensor_data
