"""A bird's-eye grid from the camera's points: what stands where, and what may be driven on.

Shape suffixes: Y/X image pixels, J/I cells (see ``grid``), P points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, GeometryError
from seg_perception.navigation.drivable import DRIVABLE, NOT_DRIVABLE
from seg_perception.navigation.grid import (
    FREE,
    I8,
    OCCUPIED,
    UNKNOWN_CELL,
    GridLayout,
    check_transform,
)
from seg_perception.structures import U8


@dataclass(frozen=True, slots=True)
class CellRule:
    """What the points that fall into a cell make of it.

    1. Occupied, where at least ``min_points`` points that are not drivable lie between
       ``obstacle_min_m`` and ``obstacle_max_m`` above the ground.
    2. Else free, where at least ``min_points`` drivable points lie within ``ground_tolerance_m``
       of the ground.
    3. Else unknown.

    Points of unknown drivability count for neither, and what hangs higher than
    ``obstacle_max_m`` is driven under. With ``obstacle_min_m`` below the ground (the default),
    flat ground that is not drivable, grass or water, is occupied; above it, only what rises
    higher is.

    Attributes:
        obstacle_min_m: height in the base frame from which a point can be in the way.
        obstacle_max_m: height up to which it can.
        ground_tolerance_m: how far from the plane z = 0 ground may lie: noise, slopes, tilt.
        min_points: points it takes, so that a stray one decides nothing.

    Raises:
        ConfigurationError: heights in the wrong order, or numbers that cannot be.
    """

    obstacle_min_m: float = -0.3
    obstacle_max_m: float = 2.0
    ground_tolerance_m: float = 0.15
    min_points: int = 3

    def __post_init__(self) -> None:
        heights = (self.obstacle_min_m, self.obstacle_max_m, self.ground_tolerance_m)
        if not (
            all(map(math.isfinite, heights))
            and self.obstacle_min_m < self.obstacle_max_m
            and self.ground_tolerance_m > 0
            and self.min_points >= 1
        ):
            raise ConfigurationError(
                f'grid: expected obstacle_min < obstacle_max, a ground tolerance above 0 and at '
                f'least 1 point, got {self}'
            )


def points_to_grid(
    points_YX3: npt.NDArray[np.floating],
    mask_YX: U8,
    base_from_camera: npt.ArrayLike,
    layout: GridLayout,
    rule: CellRule,
) -> I8:
    """The grid of one frame, shape (J, I).

    Args:
        points_YX3: points in the camera's optical frame, metres, organised or only some of them,
            shape (..., 3); those that are not finite are left out.
        mask_YX: the drivable mask of the same pixels, shape (...).
        base_from_camera: 4x4, from the optical frame to the base frame, whose plane z = 0 is
            the ground.
        layout: where the cells lie.
        rule: what makes a cell free or occupied.

    Raises:
        GeometryError: points and mask are of different sizes, or the transform is none.
    """
    transform = check_transform(base_from_camera)
    if points_YX3.shape != (*mask_YX.shape, 3):
        raise GeometryError(
            f'expected one point per pixel of the {mask_YX.shape} mask, got {points_YX3.shape}'
        )
    width, height = layout.size_wh
    # Metres become cells from the grid's corner on; heights stay metres.
    per_m = np.array((1 / layout.resolution_m, 1 / layout.resolution_m, 1.0))
    corner = (layout.x_min_m, layout.y_min_m, 0.0)
    scaled = (transform[:3, :3] * per_m[:, None]).astype(np.float32)
    offset = ((transform[:3, 3] - corner) * per_m).astype(np.float32)
    mask_P = mask_YX.reshape(-1)
    with np.errstate(invalid='ignore', over='ignore'):
        columns, rows, heights = (
            scaled @ points_YX3.reshape(-1, 3).T.astype(np.float32, copy=False) + offset[:, None]
        )
    is_obstacle = mask_P == NOT_DRIVABLE
    is_obstacle &= (heights >= rule.obstacle_min_m) & (heights <= rule.obstacle_max_m)
    is_ground = (mask_P == DRIVABLE) & (np.abs(heights) <= rule.ground_tolerance_m)
    is_vote = is_obstacle | is_ground
    is_vote &= (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    votes = np.flatnonzero(is_vote)
    cells = rows[votes].astype(np.int32) * width + columns[votes].astype(np.int32)
    cells += is_obstacle[votes] * np.int32(width * height)  # counted apart, in one go
    counts = np.bincount(cells, minlength=2 * width * height).reshape(2, height, width)
    grid = np.full((height, width), UNKNOWN_CELL, np.int8)
    grid[counts[0] >= rule.min_points] = FREE
    grid[counts[1] >= rule.min_points] = OCCUPIED
    return grid
