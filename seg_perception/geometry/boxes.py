"""Oriented 3-D boxes around objects, from depth and a mask.

A depth camera sees the near side of things, so a box is around the *visible* surface: of a crate
seen from its front only it has the width and height, and next to no length. Nothing is made up
for what is hidden.

Masks and depth are both least reliable at the edges of objects: masks leak onto what is behind,
and depth cameras put points into the air between. What supports a box is therefore found in three
steps:

1. the mask is eroded, and what is next to a jump in depth is left out;
2. of the connected parts that remain, the largest one and those at its depth are the object, the
   others are what the mask leaked onto;
3. the border grows back where its depth continues the object's, so that good masks give boxes of
   the right size.

A box stands upright: its sides are turned about the vertical alone. Among the rectangles that have
a side in common with the convex hull of the points, seen from above, it has the one with the
smallest *perimeter*. Two visible sides of a box make a triangle from above, whose principal axes
lie along no side of it, and whose rectangle of the smallest area is any of two.

Legend: Y/X label pixels, N points, H corners of the hull, A angles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import GeometryError
from seg_perception.geometry.deprojection import F64, DepthGrid
from seg_perception.geometry.depth import F32

LEVEL_CAMERA_UP = (0.0, -1.0, 0.0)
"""Away from the ground, in the optical frame of a camera that looks straight ahead."""

# Shares of the depth. Neighbours on a surface differ less than the first: a floor 1 m below the
# camera, seen by 480 px of focal length, reaches it 12 m ahead. What differs less than the second
# is the same surface: the noise of depth cameras.
_JUMP = 0.05
_SAME = 0.02
_FAR_M = 1e9
_MAX_HULL_POINTS = 1000


@dataclass(frozen=True, slots=True)
class OrientedBox:
    """A box around the visible surface of an object, in the camera's optical frame.

    Attributes:
        center_xyz_m: its middle.
        quaternion_xyzw: turns the box's axes into the camera's. The box's z points up, x along its
            longer horizontal side (and towards the camera's right), y along the shorter.
        size_xyz_m: extents along the box's axes; zero across what is flat.
        num_points: how many points it is around.
    """

    center_xyz_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]
    size_xyz_m: tuple[float, float, float]
    num_points: int


def object_boxes(
    grid: DepthGrid,
    instances_YX: npt.NDArray[np.uint16],
    *,
    up_xyz: Sequence[float] = LEVEL_CAMERA_UP,
    erosion_px: int = 2,
    min_points: int = 50,
) -> dict[int, OrientedBox | None]:
    """A box around each object, in the order of their ids.

    Args:
        grid: where the pixels are.
        instances_YX: object ids, 0 for none.
        up_xyz: away from the ground, in the camera's optical frame.
        erosion_px: how far masks may reach beyond their objects; 0 to trust every pixel.
        min_points: smallest number of points to support a box.

    Returns:
        An entry for every id in the image; None where too few points support a box.

    Raises:
        GeometryError: the images differ in size, or ``up_xyz`` is no direction.
    """
    if instances_YX.shape != grid.shape:
        raise GeometryError(
            f'expected instances at the size of the depth grid, {grid.shape}, got '
            f'{instances_YX.shape}'
        )
    upright_33 = _upright_axes(up_xyz)
    chosen_N = np.flatnonzero(_supports(grid.z_m_YX, instances_YX, erosion_px))
    ids_N = instances_YX.reshape(-1)[chosen_N]
    points_m_N3 = grid.points_at(chosen_N[np.argsort(ids_N, kind='stable')])
    num_pixels = np.bincount(instances_YX.reshape(-1))
    ends = np.cumsum(np.bincount(ids_N, minlength=len(num_pixels)))
    return {
        int(i): _box_around(points_m_N3[ends[i - 1] : ends[i]], upright_33, min_points)
        for i in np.flatnonzero(num_pixels)
        if i > 0
    }


def oriented_box(
    points_m_N3: F32, *, up_xyz: Sequence[float] = LEVEL_CAMERA_UP, min_points: int = 1
) -> OrientedBox | None:
    """The upright box around finite points; None around fewer than ``min_points``.

    Raises:
        GeometryError: ``up_xyz`` is no direction.
    """
    return _box_around(points_m_N3, _upright_axes(up_xyz), min_points)


def _box_around(points_m_N3: F32, upright_33: F64, min_points: int) -> OrientedBox | None:
    if len(points_m_N3) < max(min_points, 1):
        return None
    along, across, up = upright_33.T
    yaw = _yaw_of_tightest_rectangle(points_m_N3 @ upright_33[:, :2])
    cos, sin = math.cos(yaw), math.sin(yaw)
    sides_33 = np.stack((cos * along + sin * across, cos * across - sin * along, up))
    local_m_3N = sides_33 @ points_m_N3.T
    low_m_3, high_m_3 = local_m_3N.min(axis=1), local_m_3N.max(axis=1)
    center_m_3, size_m_3 = (low_m_3 + high_m_3) / 2 @ sides_33, high_m_3 - low_m_3
    if size_m_3[1] > size_m_3[0]:
        # A quarter turn, so that the axes stay right-handed.
        sides_33 = np.stack((sides_33[1], -sides_33[0], up))
        size_m_3 = size_m_3[[1, 0, 2]]
    if sides_33[0, 0] < 0:
        sides_33[:2] *= -1
    turn_3 = cv2.Rodrigues(sides_33.T)[0][:, 0]
    angle = float(np.linalg.norm(turn_3))
    # sin(angle / 2) * turn / angle, without the division by zero
    qx, qy, qz = (turn_3 * (np.sinc(angle / (2 * math.pi)) / 2)).tolist()
    return OrientedBox(
        center_xyz_m=tuple(center_m_3.tolist()),
        quaternion_xyzw=(qx, qy, qz, math.cos(angle / 2)),
        size_xyz_m=tuple(size_m_3.tolist()),
        num_points=len(points_m_N3),
    )


def _supports(
    z_m_YX: F32, instances_YX: npt.NDArray[np.uint16], erosion_px: int
) -> npt.NDArray[np.bool_]:
    """Pixels that show the objects they are labelled with; all objects at once."""
    is_object_YX = (instances_YX > 0) & (z_m_YX > 0)
    if erosion_px == 0:
        return is_object_YX
    window = np.ones((2 * erosion_px + 1, 2 * erosion_px + 1), np.uint8)
    is_inside_YX = cv2.erode(instances_YX, window) == cv2.dilate(instances_YX, window)
    near_m_YX, far_m_YX = _range_around(z_m_YX, z_m_YX > 0, np.ones((3, 3), np.uint8))
    core_YX = is_object_YX & is_inside_YX & (far_m_YX - near_m_YX < _JUMP * z_m_YX)

    # Cores of different objects never touch, being eroded, so that one call parts them all.
    num_parts, parts_YX = cv2.connectedComponents(core_YX.view(np.uint8), ltype=cv2.CV_32S)
    chosen_N = np.flatnonzero(core_YX)
    is_of_object = _is_of_object(
        parts_YX.reshape(-1)[chosen_N],
        num_parts,
        z_m_YX.reshape(-1)[chosen_N],
        instances_YX.reshape(-1)[chosen_N],
    )
    core_YX = is_of_object[parts_YX]

    near_m_YX, far_m_YX = _range_around(z_m_YX, core_YX, window)
    tolerance_m_YX = _SAME * z_m_YX
    return (
        is_object_YX
        & (z_m_YX >= near_m_YX - tolerance_m_YX)
        & (z_m_YX <= far_m_YX + tolerance_m_YX)
    )


def _range_around(
    z_m_YX: F32, counts_YX: npt.NDArray[np.bool_], window: npt.NDArray[np.uint8]
) -> tuple[F32, F32]:
    """Least and greatest depth among the pixels of a window that count; far apart where none."""
    return (
        np.asarray(cv2.erode(np.where(counts_YX, z_m_YX, np.float32(_FAR_M)), window)),
        np.asarray(cv2.dilate(np.where(counts_YX, z_m_YX, np.float32(-_FAR_M)), window)),
    )


def _is_of_object(
    parts_N: npt.NDArray[np.int32], num_parts: int, z_m_N: F32, ids_N: npt.NDArray[np.uint16]
) -> npt.NDArray[np.bool_]:
    """For each part, whether its depth is that of the largest part of its object."""
    count = np.maximum(np.bincount(parts_N, minlength=num_parts), 1)
    mean_m = np.bincount(parts_N, z_m_N, num_parts) / count
    mean_m2 = np.bincount(parts_N, z_m_N.astype(np.float64) ** 2, num_parts) / count
    spread_m = np.sqrt(np.maximum(mean_m2 - mean_m**2, 0.0))
    object_of_part = np.zeros(num_parts, np.intp)
    object_of_part[parts_N] = ids_N
    largest = np.zeros(int(object_of_part.max()) + 1, np.intp)
    by_size = np.argsort(count, kind='stable')
    largest[object_of_part[by_size]] = by_size  # the last one stays
    largest_of_part = largest[object_of_part]
    # An evenly spread surface reaches 1.7 standard deviations from its middle.
    reach_m = 2 * spread_m[largest_of_part] + _SAME * mean_m
    is_of_object = np.abs(mean_m - mean_m[largest_of_part]) <= reach_m
    is_of_object[0] = False  # the part that is not core
    return is_of_object


def _yaw_of_tightest_rectangle(points_m_N2: F64) -> float:
    """The angle of the side of the convex hull whose rectangle has the smallest perimeter."""
    # Sorting for the hull takes longer than all else here; a sample gives the same angle.
    sample_N2 = points_m_N2[:: math.ceil(len(points_m_N2) / _MAX_HULL_POINTS)]
    hull_H2 = cv2.convexHull(np.ascontiguousarray(sample_N2, np.float32))[:, 0].astype(np.float64)
    sides_A2 = np.roll(hull_H2, -1, axis=0) - hull_H2
    angles_A = np.arctan2(sides_A2[:, 1], sides_A2[:, 0])
    cos_A1, sin_A1 = np.cos(angles_A)[:, None], np.sin(angles_A)[:, None]
    along_AH = cos_A1 * hull_H2[:, 0] + sin_A1 * hull_H2[:, 1]
    across_AH = cos_A1 * hull_H2[:, 1] - sin_A1 * hull_H2[:, 0]
    perimeters_A = np.ptp(along_AH, axis=1) + np.ptp(across_AH, axis=1)
    return float(angles_A[np.argmin(perimeters_A)])


def _upright_axes(up_xyz: Sequence[float]) -> F64:
    """Two horizontal axes and up, as columns."""
    up = np.asarray(up_xyz, np.float64)
    length = float(np.linalg.norm(up)) if up.shape == (3,) else math.nan
    if not 0 < length < math.inf:
        raise GeometryError(f'expected up as a vector of three numbers, got {up_xyz}')
    up = up / length
    along = np.eye(3)[np.argmin(np.abs(up))]
    along = along - (along @ up) * up
    along /= np.linalg.norm(along)
    return np.column_stack((along, np.cross(up, along), up))
