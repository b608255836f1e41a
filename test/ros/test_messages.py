"""Between ROS messages and the package's own values."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from seg_perception.errors import EncodingError
from seg_perception.imaging import check_frame, view_frame
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.ros.messages import (
    array_to_image,
    image_to_frame,
    intrinsics_to_camera_info,
    make_header,
    serialized_to_frame,
    stamp_to_ns,
    to_byte_array,
)

pytestmark = pytest.mark.distro

HEADER = make_header(1_700_000_000_123_456_789, 'camera_optical_frame')


@pytest.mark.parametrize('stamp_ns', [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789])
def test_stamps_survive(stamp_ns):
    assert stamp_to_ns(make_header(stamp_ns, '').stamp) == stamp_ns


@pytest.mark.parametrize(
    ('pixels', 'encoding'),
    [
        (np.arange(24, dtype=np.uint8).reshape(2, 4, 3), 'rgb8'),
        (np.arange(8, dtype=np.uint8).reshape(2, 4), 'mono8'),
        (np.arange(8, dtype='>u2').reshape(2, 4), 'mono16'),
        (np.arange(48, dtype=np.uint8).reshape(2, 8, 3)[:, ::2], 'bgr8'),
    ],
)
def test_images_survive(pixels, encoding):
    frame = image_to_frame(array_to_image(pixels, encoding, HEADER), 'front')
    check_frame(frame)
    np.testing.assert_array_equal(view_frame(frame), pixels)
    assert (frame.stamp_ns, frame.frame_id) == (stamp_to_ns(HEADER.stamp), HEADER.frame_id)
    assert frame.camera == 'front'


def test_frames_view_the_message():
    message = array_to_image(np.zeros((2, 3), np.uint8), 'mono8', HEADER)
    frame = image_to_frame(message)
    message.data[4] = 9
    assert frame.data[4] == 9


def test_encodings_that_cv_bridge_knows_go_through_it(monkeypatch):
    """A stand-in for cv_bridge, which comes with ROS only: it gets the message as it was."""

    class CvBridge:
        def imgmsg_to_cv2(self, message, encoding):
            assert (message.encoding, encoding) == ('yuv999', 'rgb8')
            return np.array([[list(message.data)]], np.uint8)

    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=CvBridge))
    message = Image(header=HEADER, height=1, width=1, encoding='yuv999', step=3)
    message.data = to_byte_array(b'\x01\x02\x03')
    frame = serialized_to_frame(serialize_message(message), 'front')
    assert (frame.encoding, frame.camera, bytes(frame.data)) == ('rgb8', 'front', b'\x01\x02\x03')
    assert frame.stamp_ns == stamp_to_ns(HEADER.stamp)


def test_byte_arrays():
    assert bytes(to_byte_array(b'\x01\xff')) == b'\x01\xff'
    assert bytes(to_byte_array(np.array([1], '<u2'))) == b'\x01\x00'


def test_unknown_encodings_without_cv_bridge():
    if importlib.util.find_spec('cv_bridge'):
        pytest.skip('cv_bridge is installed and takes the encoding')
    message = Image(header=Header(), height=1, width=1, encoding='32FC3', step=12)
    message.data = to_byte_array(np.zeros(3, np.float32))
    for frame in (image_to_frame(message), serialized_to_frame(serialize_message(message))):
        with pytest.raises(EncodingError, match="encoding '32FC3' is not one of"):
            check_frame(frame)


def test_unknown_encodings_go_through_cv_bridge():
    pytest.importorskip('cv_bridge', reason='cv_bridge is not installed (it comes with ROS)')
    message = Image(header=HEADER, height=1, width=1, encoding='32FC1', step=4)
    message.data = to_byte_array(np.zeros(1, np.float32))
    with pytest.raises(EncodingError, match='nor cv_bridge'):
        image_to_frame(message)
    with pytest.raises(EncodingError, match='nor cv_bridge'):
        serialized_to_frame(serialize_message(message))


def test_calibration_survives():
    message = CameraInfo(
        header=HEADER,
        width=640,
        height=480,
        distortion_model='plumb_bob',
        d=[0.1, 0.2, 0.0, 0.0, 0.3],
        k=[500.0, 0.0, 319.5, 0.0, 510.0, 239.5, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[500.0, 0.0, 319.5, -20.0, 0.0, 510.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
    assert intrinsics_to_camera_info(camera_info_to_intrinsics(message), HEADER) == message


def test_calibration_of_a_binned_region():
    """Sensor 640x480, its right lower quarter read out at half resolution."""
    message = CameraInfo(
        width=640,
        height=480,
        binning_x=2,
        binning_y=2,
        roi=RegionOfInterest(x_offset=320, y_offset=240, width=320, height=240),
        k=[500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0],
        p=[500.0, 0.0, 319.5, 0.0, 0.0, 500.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
    intrinsics = camera_info_to_intrinsics(message)
    assert intrinsics.size_wh == (160, 120)
    # The sensor's middle is the region's corner: the left edge of pixel 0 is at -0.5.
    assert intrinsics.k[:6] == (250.0, 0.0, -0.5, 0.0, 250.0, -0.5)
    assert intrinsics.p[:7] == (250.0, 0.0, -0.5, 0.0, 0.0, 250.0, -0.5)
