"""A bird's-eye grid without depth, on the assumption that the ground is flat.

Each cell takes the pixel that sees its centre, so the cost is per cell and not per pixel. Only
what touches the ground is where it seems to be: whatever rises above it covers the cells behind,
which thereby count as what covers them.

Shape suffixes: Y/X image pixels, J/I cells (see ``grid``), C the cells ahead of the camera.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import GeometryError
from seg_perception.navigation.drivable import DRIVABLE, NOT_DRIVABLE
from seg_perception.navigation.grid import (
    F64,
    FREE,
    I8,
    OCCUPIED,
    UNKNOWN_CELL,
    GridLayout,
    check_transform,
)
from seg_perception.structures import U8

_KD_TREE = 4  # FLANN_INDEX_KDTREE_SINGLE: exact in few dimensions

_CELL_OF_MASK = np.full(256, UNKNOWN_CELL, np.int8)
_CELL_OF_MASK[DRIVABLE] = FREE
_CELL_OF_MASK[NOT_DRIVABLE] = OCCUPIED


class GroundView:
    """Which pixel sees which cell of the ground, for one calibration.

    Args:
        rays_YX3: the direction each pixel looks in, optical frame, z = 1; NaN where the lens
            model has none.
        layout: where the cells lie.

    Raises:
        GeometryError: not an image of rays, one of a single row or column, or no ray is finite.
    """

    def __init__(self, rays_YX3: npt.NDArray[np.floating], layout: GridLayout) -> None:
        if rays_YX3.ndim != 3 or rays_YX3.shape[2] != 3 or min(rays_YX3.shape[:2]) < 2:
            raise GeometryError(
                f'expected rays of shape (2 or more, 2 or more, 3), got {rays_YX3.shape}'
            )
        self.layout = layout
        self._rays_YX2 = rays_YX3[..., :2].astype(np.float64)
        self._pixel_of_ray = np.flatnonzero(np.isfinite(self._rays_YX2).all(axis=2))
        if not len(self._pixel_of_ray):
            raise GeometryError('expected finite rays, got none')
        # FLANN keeps no copy of its own.
        self._finite_rays = self._rays_YX2.reshape(-1, 2)[self._pixel_of_ray].astype(np.float32)
        self._index = cv2.flann.Index(self._finite_rays, {'algorithm': _KD_TREE})
        self._transform: F64 | None = None
        self._pixels_JI = np.zeros((0, 0), np.int64)

    def pixels_JI(self, base_from_camera: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The pixel, ``y * width + x``, that sees each cell's centre; -1 where none does.

        Found anew only when the transform is another one than the last time.

        Args:
            base_from_camera: 4x4, from the optical frame to the base frame, whose plane z = 0
                is the ground.

        Raises:
            GeometryError: it is no rigid transform, or puts the camera into the ground.
        """
        transform = check_transform(base_from_camera)
        if self._transform is None or not np.array_equal(transform, self._transform):
            self._pixels_JI = self._find_pixels(transform)
            self._transform = transform.copy()
        return self._pixels_JI

    def grid(self, mask_YX: U8, base_from_camera: npt.ArrayLike) -> I8:
        """The grid of one frame, shape (J, I).

        Free where the pixel that sees the cell is drivable, occupied where it is not, unknown
        where it is neither or no pixel does.

        Raises:
            GeometryError: the mask has another size than the rays, or see `pixels_JI`.
        """
        if mask_YX.shape != self._rays_YX2.shape[:2]:
            raise GeometryError(
                f'expected a mask of {self._rays_YX2.shape[:2]}, as the rays are, '
                f'got {mask_YX.shape}'
            )
        pixels_JI = self.pixels_JI(base_from_camera)
        grid = _CELL_OF_MASK[mask_YX.reshape(-1)[pixels_JI]]
        grid[pixels_JI < 0] = UNKNOWN_CELL
        return grid

    def _find_pixels(self, transform: F64) -> npt.NDArray[np.int64]:
        if transform[2, 3] <= 0:
            raise GeometryError(
                f'expected a camera above the ground (z > 0 in the base frame), got '
                f'{transform[2, 3]:g} m; is the base frame on the ground?'
            )
        # A row vector times R is R transposed times the vector: from base to camera.
        cells_JI3 = (self.layout.centers_JI3() - transform[:3, 3]) @ transform[:3, :3]
        pixels_JI = np.full(cells_JI3.shape[:2], -1, np.int64)
        is_ahead_JI = cells_JI3[..., 2] > 0
        ahead_C3 = cells_JI3[is_ahead_JI]
        if len(ahead_C3):
            height, width = self._rays_YX2.shape[:2]
            x, y = self._directions_to_pixels(ahead_C3[:, :2] / ahead_C3[:, 2:])
            is_seen = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
            rows = np.clip(np.rint(y[is_seen]), 0, height - 1)
            columns = np.clip(np.rint(x[is_seen]), 0, width - 1)
            pixels_C = np.full(len(ahead_C3), -1, np.int64)
            pixels_C[is_seen] = rows * width + columns
            pixels_JI[is_ahead_JI] = pixels_C
        return pixels_JI

    def _directions_to_pixels(self, wanted_C2: F64) -> tuple[F64, F64]:
        """Where in the image the directions are seen: column and row, not whole numbers.

        Found from the pixel with the nearest ray, by the rays around it. Outside of the image
        that only tells that it is outside.
        """
        nearest_C1, _ = self._index.knnSearch(wanted_C2.astype(np.float32), 1, params={})
        pixels_C = self._pixel_of_ray[nearest_C1[:, 0]]
        rows, columns = np.divmod(pixels_C, self._rays_YX2.shape[1])
        along_y, along_x = (
            np.gradient(self._rays_YX2, axis=axis)[rows, columns] for axis in (0, 1)
        )
        miss = wanted_C2 - self._rays_YX2[rows, columns]
        # Cramer's rule for miss = dx * along_x + dy * along_y.
        area = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
        x = columns + (miss[:, 0] * along_y[:, 1] - miss[:, 1] * along_y[:, 0]) / area
        y = rows + (along_x[:, 0] * miss[:, 1] - along_x[:, 1] * miss[:, 0]) / area
        return x, y
