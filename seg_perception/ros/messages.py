"""Between ROS messages and this package's own values; bytes are viewed, not copied, on the way in.

Source: sensor_msgs/Image. What needs no rclpy is in `seg_perception.messages`.
"""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from seg_perception.errors import EncodingError
from seg_perception.geometry import Intrinsics
from seg_perception.imaging import is_supported
from seg_perception.messages.cdr import NANOSECONDS, read_image
from seg_perception.messages.described import write_camera_info
from seg_perception.structures import Frame


def stamp_to_ns(stamp: Time) -> int:
    """builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header from nanoseconds."""
    sec, nanosec = divmod(stamp_ns, NANOSECONDS)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image_to_frame(message: Image, camera: str = '') -> Frame:
    """Views an Image as a frame; nothing is checked or copied.

    An encoding that this package does not know goes through cv_bridge where that is installed.

    Raises:
        EncodingError: cv_bridge is asked and cannot make a colour image of it either.
    """
    if not is_supported(message.encoding):
        message = _through_cv_bridge(message)
    return Frame(
        data=np.frombuffer(message.data, np.uint8),
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=message.step,
        is_bigendian=bool(message.is_bigendian),
        stamp_ns=stamp_to_ns(message.header.stamp),
        frame_id=message.header.frame_id,
        camera=camera,
    )


def serialized_to_frame(buffer: bytes | memoryview, camera: str = '') -> Frame:
    """As `image_to_frame`, of a serialised Image: the frame views the buffer.

    Raises:
        ImageLayoutError: the buffer is not an Image.
        EncodingError: cv_bridge is asked and cannot make a colour image of it either.
    """
    frame = read_image(buffer, camera)
    if is_supported(frame.encoding):
        return frame
    return image_to_frame(deserialize_message(bytes(buffer), Image), camera)


def _through_cv_bridge(message: Image) -> Image:
    """The image as cv_bridge makes rgb8 of it; itself where cv_bridge is not installed."""
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return message
    try:
        pixels = CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except Exception as error:  # its own, OpenCV's and NumPy's, by encoding and version
        raise EncodingError(
            f'neither this package nor cv_bridge can make a colour image of encoding '
            f"'{message.encoding}': {error}"
        ) from error
    return array_to_image(pixels, 'rgb8', message.header)


def array_to_image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """An Image of an array of shape (height, width[, channels]), rows unpadded.

    The pixels are copied once.
    """
    pixels = np.ascontiguousarray(pixels)
    message = Image(
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(pixels.dtype.newbyteorder('=') != pixels.dtype),
        step=pixels.nbytes // pixels.shape[0],
    )
    message.data = to_byte_array(pixels)
    return message


def to_byte_array(data: np.ndarray | bytes | bytearray | memoryview) -> array.array[int]:
    """The one type that rclpy stores in a uint8[] field without walking its elements."""
    values = array.array('B')
    values.frombytes(
        data.reshape(-1).view(np.uint8).data if isinstance(data, np.ndarray) else data
    )
    return values


def intrinsics_to_camera_info(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """A CameraInfo without binning or ROI."""
    message = write_camera_info(intrinsics, stamp_to_ns(header.stamp), header.frame_id)
    return deserialize_message(message.tobytes(), CameraInfo)
