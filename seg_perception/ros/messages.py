"""Between ROS messages and this package's own values; bytes are viewed, not copied, on the way in.

Sources: sensor_msgs/Image and CameraInfo; vision_msgs/LabelInfo.
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
from seg_perception.ros.cdr import NANOSECONDS, read_image
from seg_perception.structures import ClassTable, Frame


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


def camera_info_to_intrinsics(message: CameraInfo) -> Intrinsics:
    """The calibration of the image as published: binning and ROI of the sensor applied.

    CameraInfo's matrices describe the full sensor; an image with binning or a region of interest
    shows a part of it at lower resolution (see the comments of sensor_msgs/CameraInfo).
    """
    roi = message.roi
    width, height = int(message.width), int(message.height)
    left, top = int(roi.x_offset), int(roi.y_offset)
    cropped_wh = (int(roi.width) or width, int(roi.height) or height)
    binning = (max(int(message.binning_x), 1), max(int(message.binning_y), 1))
    k = [float(v) for v in message.k]
    p = [float(v) for v in message.p]
    k[2], k[5] = k[2] - left * k[8], k[5] - top * k[8]
    p[2], p[6] = p[2] - left * p[10], p[6] - top * p[10]
    cropped = Intrinsics(
        size_wh=cropped_wh,
        k=tuple(k),
        p=tuple(p),
        distortion_model=message.distortion_model,
        d=tuple(float(v) for v in message.d),
        r=tuple(float(v) for v in message.r),
    )
    return cropped.binned(binning)


def intrinsics_to_camera_info(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """A CameraInfo without binning or ROI."""
    width, height = intrinsics.size_wh
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model=intrinsics.distortion_model,
        d=list(intrinsics.d),
        k=list(intrinsics.k),
        r=list(intrinsics.r),
        p=list(intrinsics.p),
    )


def class_table_to_label_info(classes: ClassTable, threshold: float, header: Header) -> object:
    """A vision_msgs/LabelInfo; ``threshold`` is the probability below which pixels are unlabelled.

    Raises:
        ImportError: vision_msgs is not installed.
    """
    from vision_msgs.msg import LabelInfo, VisionClass

    class_map = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(classes.names)]
    return LabelInfo(header=header, class_map=class_map, threshold=threshold)
