"""Messages about labels, serialised: what node and recordings say beside images.

Sources: sensor_msgs/CameraInfo; vision_msgs/LabelInfo and Detection2DArray; the encoding is that
of `cdr`.
"""

from __future__ import annotations

import struct

import numpy as np

from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.messages.cdr import LITTLE_ENDIAN, NANOSECONDS
from seg_perception.structures import U8, ClassTable, Objects

# geometry_msgs/PoseWithCovariance: no place, no turn, nothing known of either.
_NO_POSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, *[0.0] * 36)


def write_camera_info(intrinsics: Intrinsics, stamp_ns: int, frame_id: str) -> U8:
    """A serialised sensor_msgs/CameraInfo without binning or ROI."""
    width, height = intrinsics.size_wh
    writer = _Writer()
    writer.header(stamp_ns, frame_id)
    writer.numbers('I', height, width)
    writer.string(intrinsics.distortion_model)
    writer.numbers('I', len(intrinsics.d))
    for matrix in (intrinsics.d, intrinsics.k, intrinsics.r, intrinsics.p):
        writer.numbers('d', *matrix)
    writer.numbers('I', 0, 0)  # binning
    writer.numbers('I', 0, 0, 0, 0)  # roi
    writer.numbers('?', False)
    return writer.message()


def write_label_info(classes: ClassTable, threshold: float, stamp_ns: int, frame_id: str) -> U8:
    """A serialised vision_msgs/LabelInfo.

    Args:
        classes: what label values mean.
        threshold: the probability below which pixels are unlabelled.
        stamp_ns: the table holds for labels of this stamp and later.
        frame_id: of the images; may be empty.
    """
    writer = _Writer()
    writer.header(stamp_ns, frame_id)
    writer.numbers('I', len(classes))
    for class_id, name in enumerate(classes.names):
        writer.numbers('H', class_id)
        writer.string(name)
    writer.numbers('f', threshold)
    return writer.message()


def write_detections(objects: Objects, classes: ClassTable, stamp_ns: int, frame_id: str) -> U8:
    """A serialised vision_msgs/Detection2DArray; boxes are in pixels of the label image.

    ``id`` is the object's value in the ``instances`` image, ``class_id`` the class's name.
    """
    writer = _Writer()
    writer.header(stamp_ns, frame_id)
    writer.numbers('I', len(objects.items))
    for item in objects.items:
        left, top, right, bottom = item.box_xyxy_px
        writer.header(stamp_ns, frame_id)
        writer.numbers('I', 1)
        writer.string(classes.names[item.class_id])
        writer.numbers('d', item.score, *_NO_POSE)
        # The box's edges lie between pixels, whose centres are at whole numbers.
        writer.numbers('d', (left + right - 1) / 2, (top + bottom - 1) / 2, 0.0)
        writer.numbers('d', right - left, bottom - top)
        writer.string(str(item.id))
    return writer.message()


class _Writer:
    """Appends one field after the other."""

    def __init__(self) -> None:
        self._body = bytearray()

    def header(self, stamp_ns: int, frame_id: str) -> None:
        """A std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, NANOSECONDS)
        self.numbers('i', sec)
        self.numbers('I', nanosec)
        self.string(frame_id)

    def numbers(self, kind: str, *values: float) -> None:
        """Numbers of one kind, a character of the module struct."""
        self._body += b'\x00' * (-len(self._body) % struct.calcsize(kind) if values else 0)
        self._body += struct.pack(f'<{len(values)}{kind}', *values)

    def string(self, text: str) -> None:
        """A string."""
        octets = text.encode() + b'\x00'
        self.numbers('I', len(octets))
        self._body += octets

    def message(self) -> U8:
        """All that was appended, as a message."""
        return np.frombuffer(LITTLE_ENDIAN + bytes(self._body), np.uint8)
