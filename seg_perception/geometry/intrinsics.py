"""A camera's calibration and how it changes when its image is resized."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from seg_perception.errors import GeometryError


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """The calibration of sensor_msgs/CameraInfo, for an image without binning or ROI.

    Pixel centres lie at integer coordinates, x right, y down, in pixels of an image of
    ``size_wh``.

    Attributes:
        size_wh: the image the numbers belong to.
        k: 3x3 intrinsic matrix of the raw image, row-major.
        p: 3x4 projection matrix of the rectified image, row-major.
        distortion_model: e.g. ``'plumb_bob'``; distortion does not depend on the image's size.
        d: distortion coefficients.
        r: 3x3 rectification rotation, row-major.
    """

    size_wh: tuple[int, int]
    k: tuple[float, ...]
    p: tuple[float, ...]
    distortion_model: str = ''
    d: tuple[float, ...] = ()
    r: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def resized(self, size_wh: tuple[int, int]) -> Intrinsics:
        """The calibration of the same image resized, edges staying on edges.

        A pixel centre at x moves to ``(x + 0.5) * scale - 0.5``, the convention that the
        labels are sampled with.

        Raises:
            GeometryError: one of the sizes is not positive.
        """
        if min(*self.size_wh, *size_wh) < 1:
            raise GeometryError(f'expected positive image sizes, got {self.size_wh} and {size_wh}')
        return self._scaled(size_wh, size_wh[0] / self.size_wh[0], size_wh[1] / self.size_wh[1])

    def binned(self, binning_xy: tuple[int, int]) -> Intrinsics:
        """The calibration of an image whose pixels are blocks of this one's.

        Columns and rows that do not fill a block are lost, as in the sensor.

        Raises:
            GeometryError: a block is larger than the image, or not positive.
        """
        size_wh = self.size_wh[0] // binning_xy[0], self.size_wh[1] // binning_xy[1]
        if min(*binning_xy, *size_wh) < 1:
            raise GeometryError(f'expected binning within {self.size_wh}, got {binning_xy}')
        return self._scaled(size_wh, 1.0 / binning_xy[0], 1.0 / binning_xy[1])

    def pinhole(self, is_rectified: bool) -> npt.NDArray[np.float64]:
        """The 3x3 matrix from directions to pixels: K, or P without its shift if rectified.

        Raises:
            GeometryError: the camera is not calibrated (sensor_msgs/CameraInfo says so with
                zeros), or the numbers are no such matrix.
        """
        name, values, columns = ('P', self.p, 4) if is_rectified else ('K', self.k, 3)
        if len(values) != 3 * columns:
            raise GeometryError(f'expected {name} as 3x{columns} numbers, got {len(values)}')
        matrix = np.array(values, np.float64).reshape(3, columns)[:, :3]
        has_focal_lengths = min(matrix[0, 0], matrix[1, 1]) > 0 and np.isfinite(matrix).all()
        if not has_focal_lengths or matrix[2].tolist() != [0.0, 0.0, 1.0]:
            raise GeometryError(
                f'expected a calibrated camera, got {name} {matrix.tolist()}: publish its '
                'calibration as camera_info'
            )
        return matrix

    def _scaled(self, size_wh: tuple[int, int], scale_x: float, scale_y: float) -> Intrinsics:
        return replace(
            self,
            size_wh=size_wh,
            k=_scale_rows(self.k, scale_x, scale_y, columns=3),
            p=_scale_rows(self.p, scale_x, scale_y, columns=4),
        )


def _scale_rows(
    matrix: tuple[float, ...], scale_x: float, scale_y: float, columns: int
) -> tuple[float, ...]:
    """Multiplies a camera matrix from the left by the affine map of the resize."""
    if len(matrix) != 3 * columns:
        raise GeometryError(f'expected a 3x{columns} matrix, got {len(matrix)} numbers')
    x, y, z = (matrix[row * columns : (row + 1) * columns] for row in range(3))
    shift_x, shift_y = 0.5 * (scale_x - 1.0), 0.5 * (scale_y - 1.0)
    return (
        *(scale_x * a + shift_x * c for a, c in zip(x, z, strict=True)),
        *(scale_y * b + shift_y * c for b, c in zip(y, z, strict=True)),
        *z,
    )
