"""A grid on the ground around the robot, as nav_msgs/OccupancyGrid has it.

Shape suffixes: J cells along y (left), I cells along x (forward), of the base frame (REP 103).
Values: 0 free, 100 occupied, -1 unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, GeometryError

FREE = 0
OCCUPIED = 100
UNKNOWN_CELL = -1

I8 = npt.NDArray[np.int8]
F64 = npt.NDArray[np.float64]

MAX_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class GridLayout:
    """Where the cells lie, in the base frame: x forward, y left, on the plane z = 0.

    In terms of nav_msgs/MapMetaData: ``resolution`` is ``resolution_m``, the origin's position
    is (``x_min_m``, ``y_min_m``, 0), its orientation none, and ``width`` and ``height`` are
    ``size_wh``. A grid of shape (J, I), flattened, is the message's ``data``.

    Attributes:
        resolution_m: edge of a cell.
        x_min_m: where the grid begins behind or ahead of the robot.
        x_max_m: where it ends ahead, rounded up to whole cells.
        y_min_m: where it begins to the right.
        y_max_m: where it ends to the left, rounded up to whole cells.

    Raises:
        ConfigurationError: no or too many cells, or a number that is not finite.
    """

    resolution_m: float = 0.05
    x_min_m: float = 0.0
    x_max_m: float = 5.0
    y_min_m: float = -2.5
    y_max_m: float = 2.5

    def __post_init__(self) -> None:
        edges = (self.x_min_m, self.x_max_m, self.y_min_m, self.y_max_m)
        is_sound = (
            all(map(math.isfinite, (self.resolution_m, *edges)))
            and self.resolution_m > 0
            and self.x_min_m < self.x_max_m
            and self.y_min_m < self.y_max_m
        )
        if not is_sound or math.prod(self.size_wh) > MAX_CELLS:
            raise ConfigurationError(
                f'grid: expected x_min < x_max, y_min < y_max, a resolution above 0 and at most '
                f'{MAX_CELLS} cells, got x {self.x_min_m:g} to {self.x_max_m:g} m, '
                f'y {self.y_min_m:g} to {self.y_max_m:g} m, resolution {self.resolution_m:g} m'
            )

    @property
    def size_wh(self) -> tuple[int, int]:
        """Cells along x and along y."""
        # 5 m in cells of 0.05 m are 100 cells, whatever the division leaves behind the point.
        width = math.ceil((self.x_max_m - self.x_min_m) / self.resolution_m - 1e-6)
        return width, math.ceil((self.y_max_m - self.y_min_m) / self.resolution_m - 1e-6)

    def centers_JI3(self) -> F64:
        """The centre of every cell in the base frame, metres, shape (J, I, 3); z is 0."""
        width, height = self.size_wh
        centers = np.zeros((height, width, 3))
        centers[..., 0] = self.x_min_m + (np.arange(width) + 0.5) * self.resolution_m
        centers[..., 1] = (self.y_min_m + (np.arange(height) + 0.5) * self.resolution_m)[:, None]
        return centers


def check_transform(base_from_camera: npt.ArrayLike) -> F64:
    """A 4x4 rigid transform, as float64.

    Raises:
        GeometryError: it has another shape, or is not a rotation and a translation.
    """
    matrix = np.asarray(base_from_camera, np.float64)
    is_rigid = (
        matrix.shape == (4, 4)
        and np.isfinite(matrix).all()
        and np.array_equal(matrix[3], (0, 0, 0, 1))
        and np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-3)
        and np.linalg.det(matrix[:3, :3]) > 0
    )
    if not is_rigid:
        raise GeometryError(
            f'expected a 4x4 transform (rotation and translation) from the camera to the base '
            f'frame, got {matrix.tolist()}'
        )
    return matrix
