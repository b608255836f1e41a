"""Depth images to points in the camera frame.

Coordinates are metres in the camera's optical frame (REP 103): x right, y down, z forward. The
image is either the raw one, described by K and the distortion, or the rectified one, described by
P alone; points of the latter are in the rectified camera's frame, as with depth_image_proc.

Legend: V/U depth pixels, Y/X label pixels, N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import GeometryError
from seg_perception.geometry.depth import F32
from seg_perception.geometry.intrinsics import Intrinsics

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_] | npt.NDArray[np.uint8]

# Names of sensor_msgs/distortion_models and how many coefficients OpenCV takes for each.
_NUM_COEFFICIENTS = {
    'plumb_bob': (4, 5, 8, 12, 14),
    'rational_polynomial': (4, 5, 8, 12, 14),
    'equidistant': (4,),
}
_MAX_RESIDUAL_PX = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class DepthGrid:
    """Depth and direction of every pixel of the label grid.

    Attributes:
        z_m_YX: float32 depth along the optical axis; NaN where there is none.
        ray_x_YX: float32, x / z of what the pixel sees.
        ray_y_YX: float32, y / z of what the pixel sees.
    """

    z_m_YX: F32
    ray_x_YX: F32
    ray_y_YX: F32

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the label grid."""
        return self.z_m_YX.shape[0], self.z_m_YX.shape[1]

    def points_m(self, keep_YX: Mask) -> F32:
        """The points of the pixels where ``keep_YX`` is not zero and depth is known.

        Returns:
            Shape (N, 3), in the order of the pixels, row by row.
        """
        return self.points_at(np.flatnonzero(np.logical_and(keep_YX, self.z_m_YX > 0)))

    def points_at(self, pixels_N: npt.NDArray[np.intp]) -> F32:
        """The points of pixels given by their positions in the flat image; shape (N, 3)."""
        points_m_3N = np.empty((3, len(pixels_N)), np.float32)
        x_m_N, y_m_N, z_m_N = points_m_3N
        np.take(self.z_m_YX, pixels_N, out=z_m_N)
        np.multiply(self.ray_x_YX.reshape(-1)[pixels_N], z_m_N, out=x_m_N)
        np.multiply(self.ray_y_YX.reshape(-1)[pixels_N], z_m_N, out=y_m_N)
        return points_m_3N.T


class Deprojector:
    """Finds where the pixels of one camera's depth images are.

    Directions are computed once and kept until the calibration or a size changes. Not
    thread-safe.

    Args:
        is_rectified: whether the camera's images are rectified (``image_rect`` topics).
    """

    def __init__(self, *, is_rectified: bool = False) -> None:
        self._is_rectified = is_rectified
        self._key: object = None
        self._pixels_YX: npt.NDArray[np.intp] | None = None
        self._ray_x_YX = self._ray_y_YX = np.empty((0, 0), np.float32)
        self._has_blind_pixels = False

    def locate(
        self, depth_m_VU: F32, intrinsics: Intrinsics, grid_hw: tuple[int, int]
    ) -> DepthGrid:
        """Depth and directions on the label grid.

        Where the sizes differ, a label pixel takes the depth and the direction of the depth pixel
        that its centre falls into: a point that was measured, at most half a depth pixel aside,
        never one between an object and what is behind it.

        Args:
            depth_m_VU: depth registered to the colour image, from `depth_to_m`.
            intrinsics: calibration of the colour image; scaled to the size of the depth.
            grid_hw: size of the label image.

        Returns:
            ``z_m_YX`` is ``depth_m_VU`` itself where the sizes agree and the camera's model has a
            direction for every pixel.

        Raises:
            GeometryError: the camera is not calibrated or its distortion model is not supported.
        """
        height, width = depth_m_VU.shape
        key = intrinsics, (height, width), grid_hw
        if key != self._key:
            self._prepare(intrinsics.resized((width, height)), grid_hw)
            self._key = key
        z_m_YX = depth_m_VU
        if self._pixels_YX is not None:
            z_m_YX = np.take(depth_m_VU, self._pixels_YX)
        if self._has_blind_pixels:
            z_m_YX = np.where(np.isfinite(self._ray_x_YX), z_m_YX, np.float32(np.nan))
        return DepthGrid(z_m_YX, self._ray_x_YX, self._ray_y_YX)

    def _prepare(self, intrinsics: Intrinsics, grid_hw: tuple[int, int]) -> None:
        width, height = intrinsics.size_wh
        rows_Y = ((np.arange(grid_hw[0]) + 0.5) * (height / grid_hw[0])).astype(np.intp)
        columns_X = ((np.arange(grid_hw[1]) + 0.5) * (width / grid_hw[1])).astype(np.intp)
        pixels_xy = np.stack(np.meshgrid(columns_X, rows_Y), axis=-1).reshape(-1, 2)
        rays_xy = pixels_to_rays(pixels_xy.astype(np.float64), intrinsics, self._is_rectified)
        self._ray_x_YX, self._ray_y_YX = (
            np.ascontiguousarray(rays_xy[:, axis].reshape(grid_hw), np.float32) for axis in (0, 1)
        )
        self._has_blind_pixels = not bool(np.isfinite(rays_xy).all())
        is_same = (height, width) == grid_hw
        self._pixels_YX = None if is_same else rows_Y[:, None] * width + columns_X


def pixels_to_rays(pixels_N2: F64, intrinsics: Intrinsics, is_rectified: bool = False) -> F64:
    """The directions that pixels look in, as x / z and y / z.

    Distortion is inverted by OpenCV's iterations, and the result projected again: where it does
    not come back to its pixel the model has no direction for it (a fisheye beyond 90 degrees, a
    polynomial outside of what it was fitted to), and it is NaN.

    Args:
        pixels_N2: x right, y down, pixel centres at integers.
        intrinsics: of the image the pixels are in.
        is_rectified: whether P describes the image, else K and the distortion.

    Returns:
        Shape (N, 2).

    Raises:
        GeometryError: the camera is not calibrated, or its distortion model is not supported.
    """
    matrix = intrinsics.pinhole(is_rectified)
    if is_rectified or not _is_distorted(intrinsics):
        rays_N3 = cv2.convertPointsToHomogeneous(pixels_N2)[:, 0] @ np.linalg.inv(matrix).T
        return np.asarray(rays_N3[:, :2], np.float64)
    coefficients = np.array(intrinsics.d, np.float64)
    origin = np.zeros(3)
    pixels_N12 = pixels_N2.reshape(-1, 1, 2)
    if intrinsics.distortion_model == 'equidistant':
        rays_N12 = cv2.fisheye.undistortPoints(pixels_N12, matrix, coefficients)
        rays_N13 = cv2.convertPointsToHomogeneous(rays_N12)
        again_N12, _ = cv2.fisheye.projectPoints(rays_N13, origin, origin, matrix, coefficients)
    else:
        until = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, _MAX_RESIDUAL_PX / 100)
        rays_N12 = cv2.undistortPointsIter(
            pixels_N12, matrix, coefficients, np.eye(3), np.eye(3), until
        )
        rays_N13 = cv2.convertPointsToHomogeneous(rays_N12)
        again_N12, _ = cv2.projectPoints(rays_N13, origin, origin, matrix, coefficients)
    residual_px_N = np.abs(again_N12 - pixels_N12).max(axis=(1, 2))
    rays_N12[~(residual_px_N <= _MAX_RESIDUAL_PX)] = np.nan
    return np.asarray(rays_N12[:, 0], np.float64)


def _is_distorted(intrinsics: Intrinsics) -> bool:
    """Whether there is a distortion to undo.

    Raises:
        GeometryError: its model is not supported or has another number of coefficients.
    """
    model, coefficients = intrinsics.distortion_model, intrinsics.d
    # An equidistant lens is no pinhole even where its coefficients are zero.
    if model in ('', 'plumb_bob', 'rational_polynomial') and not any(coefficients):
        return False
    if len(coefficients) not in _NUM_COEFFICIENTS.get(model, ()):
        supported = ', '.join(
            f'{name} ({" or ".join(map(str, counts))} coefficients)'
            for name, counts in _NUM_COEFFICIENTS.items()
        )
        raise GeometryError(
            f'expected a distortion model among {supported}, got {model!r} with '
            f'{len(coefficients)}: use a rectified image (image_rect) and say is_rectified'
        )
    return True
