"""Our conversions against cv_bridge, the reference on every robot; runs where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

cv_bridge = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed')
Image = pytest.importorskip('sensor_msgs.msg', reason='sensor_msgs is not installed').Image

from seg_perception.imaging import ENCODINGS, to_bgr, to_rgb  # noqa: E402
from seg_perception.structures import Frame  # noqa: E402

# Encodings cv_bridge has no colour conversion for: bare OpenCV types, and newer names it lacks.
NOT_COLORS = {'8UC1', '8UC3', '8UC4', '16UC1', '16UC3', '16UC4'}
NOT_IN_CV_BRIDGE = {'uyvy', 'yuyv', 'nv12', 'nv21', 'nv24'}
COMPARED = sorted(set(ENCODINGS) - NOT_COLORS - NOT_IN_CV_BRIDGE)


def message_of(frame):
    message = Image()
    message.height, message.width = frame.height, frame.width
    message.encoding, message.step = frame.encoding, frame.step
    message.is_bigendian = int(frame.is_bigendian)
    message.data = bytes(frame.data)
    return message


@pytest.mark.parametrize('encoding', COMPARED)
@pytest.mark.parametrize('size_hw', [(48, 64), (7, 10), (5, 4)])
@pytest.mark.parametrize('num_padding_pixels', [0, 3])
def test_equal_to_cv_bridge(encoding, size_hw, num_padding_pixels):
    height, width = size_hw
    line = ENCODINGS[encoding]
    # Whole pixels of padding: cv_bridge skews rows padded by anything else.
    step = (width + num_padding_pixels) * line.bytes_per_pixel
    data = np.random.default_rng(3).bytes(line.num_bytes(height, step))
    frame = Frame(data, height, width, encoding, step)
    bridge = cv_bridge.CvBridge()
    for target, convert in (('rgb8', to_rgb), ('bgr8', to_bgr)):
        expected = bridge.imgmsg_to_cv2(message_of(frame), target)
        np.testing.assert_array_equal(convert(frame), expected)
    if line.bits == 16:
        # The other byte order is compared by way of this one: cv_bridge's own swap calls
        # ndarray.newbyteorder, which NumPy 2 no longer has.
        swapped = np.frombuffer(data, np.uint16).byteswap().tobytes()
        np.testing.assert_array_equal(
            to_rgb(Frame(swapped, height, width, encoding, step, is_bigendian=True)),
            bridge.imgmsg_to_cv2(message_of(frame), 'rgb8'),
        )


@pytest.mark.parametrize('encoding', sorted(NOT_COLORS))
def test_bare_types_mean_what_they_mean_in_opencv(encoding):
    """cv_bridge will not guess; told the colour order of OpenCV it agrees with our guess."""
    line = ENCODINGS[encoding]
    named = {1: 'mono', 3: 'bgr', 4: 'bgra'}[line.channels] + str(line.bits)
    step = 10 * line.bytes_per_pixel
    frame = Frame(np.random.default_rng(4).bytes(6 * step), 6, 10, encoding, step)
    message = message_of(frame)
    with pytest.raises(cv_bridge.CvBridgeError):
        cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    message.encoding = named
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    np.testing.assert_array_equal(to_rgb(frame), expected)
