"""Where the cameras are on the robot: stated by parameter, else asked of TF.

Rotations follow REP 103: fixed axes, x forward, y left, z up; roll, then pitch, then yaw. An
optical frame is the camera's body frame turned so that z looks forward and x to the right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.time import Time

F64 = npt.NDArray[np.float64]

_BODY_FROM_OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)


def base_from_optical(mount_xyz_rpy: Sequence[float]) -> F64:
    """The 4x4 transform from a mounted camera's optical frame to the robot's base frame.

    Args:
        mount_xyz_rpy: of the camera's body in the base frame, as static_transform_publisher takes
            them: x, y, z in metres; roll, pitch, yaw in degrees. A positive pitch looks down.
    """
    x, y, z, *angles_deg = mount_xyz_rpy
    roll, pitch, yaw = (math.radians(angle) for angle in angles_deg)
    turn_x = [[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]]
    turn_y = [
        [math.cos(pitch), 0, math.sin(pitch)],
        [0, 1, 0],
        [-math.sin(pitch), 0, math.cos(pitch)],
    ]
    turn_z = [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]
    transform = np.eye(4)
    transform[:3, :3] = np.array(turn_z) @ turn_y @ turn_x @ _BODY_FROM_OPTICAL
    transform[:3, 3] = x, y, z
    return transform


def transform_matrix(translation: Sequence[float], quaternion_xyzw: Sequence[float]) -> F64:
    """A 4x4 transform from a geometry_msgs/Transform's numbers."""
    x, y, z, w = np.asarray(quaternion_xyzw, np.float64) / math.hypot(*quaternion_xyzw)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation
    return matrix


class Transforms:
    """TF, where tf2_ros is installed; it is not among the pip wheels of ROS.

    Args:
        node: whose executor receives the transforms.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None

    def open(self) -> None:
        """Starts to listen to TF; calling it again changes nothing."""
        if self._listener is not None:
            return
        try:
            from tf2_ros import Buffer, TransformListener
        except ImportError:
            return
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, self._node)

    def base_from_optical(self, base_frame: str, optical_frame: str) -> F64 | None:
        """The newest 4x4 transform between two frames; None where TF does not know it."""
        if self._buffer is None:
            return None
        from tf2_ros import TransformException

        try:
            found = self._buffer.lookup_transform(base_frame, optical_frame, Time())
        except TransformException:
            return None
        t, q = found.transform.translation, found.transform.rotation
        return transform_matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))

    def close(self) -> None:
        """Leaves the topics of TF."""
        if self._listener is not None:
            self._listener.unregister()
        self._buffer = self._listener = None
