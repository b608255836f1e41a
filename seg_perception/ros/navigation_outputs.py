"""Where the robot may drive: a mask, and a bird's-eye grid in the robot's frame."""

from __future__ import annotations

import array

import numpy as np
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import Image

from seg_perception.errors import GeometryError
from seg_perception.geometry.deprojection import pixels_to_rays
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.navigation import (
    CellRule,
    GridLayout,
    GroundView,
    drivable_mask,
    drivable_table,
    points_to_grid,
)
from seg_perception.ros.frame_result import FrameResult, Output
from seg_perception.ros.messages import make_header
from seg_perception.ros.params import Parameters
from seg_perception.structures import U8, ClassTable


def navigation_outputs(
    classes: ClassTable, parameters: Parameters, *, has_depth: bool, is_rectified: bool
) -> list[Output]:
    """None where no class is drivable.

    Args:
        classes: the model's.
        parameters: the node's.
        has_depth: whether the camera has depth; else the ground is taken to be flat.
        is_rectified: whether the camera's images are.

    Raises:
        ConfigurationError: the model has no class of a given name, or the grid cannot be.
    """
    drivable = [name for name in parameters.drivable_classes if name]
    danger = [name for name in parameters.danger_classes if name]
    if not drivable:
        return []
    table = drivable_table(classes, drivable, danger or None)

    def mask(result: FrameResult) -> U8:
        return result.image(drivable_mask(result.segmentation.labels_YX, table), 'mono8')

    x_min_m, x_max_m, y_min_m, y_max_m = parameters.grid_extent_m
    layout = GridLayout(parameters.grid_resolution_m, x_min_m, x_max_m, y_min_m, y_max_m)
    low_m, high_m = parameters.grid_obstacle_height_m
    grid = (
        _DepthGrid(table, layout, CellRule(obstacle_min_m=low_m, obstacle_max_m=high_m))
        if has_depth
        else _FlatGrid(table, layout, is_rectified=is_rectified)
    )
    return [
        Output('drivable', Image, mask),
        Output('drivable_grid', OccupancyGrid, grid, needs_depth=has_depth, needs_pose=True),
    ]


class _DepthGrid:
    """The grid from points."""

    def __init__(self, table: U8, layout: GridLayout, rule: CellRule) -> None:
        self._table, self._layout, self._rule = table, layout, rule

    def __call__(self, result: FrameResult) -> OccupancyGrid | None:
        pose = _pose(result)
        if result.depth is None:
            return None
        seen = result.depth.grid
        points_YX3 = np.stack(
            (seen.ray_x_YX * seen.z_m_YX, seen.ray_y_YX * seen.z_m_YX, seen.z_m_YX), axis=2
        )
        mask_YX = drivable_mask(result.segmentation.labels_YX, self._table)
        cells_JI = points_to_grid(points_YX3, mask_YX, pose, self._layout, self._rule)
        return _message(cells_JI, self._layout, result)


class _FlatGrid:
    """The grid of a camera without depth: what it sees lies on the plane z = 0."""

    def __init__(self, table: U8, layout: GridLayout, *, is_rectified: bool) -> None:
        self._table, self._layout, self._is_rectified = table, layout, is_rectified
        self._seen: Intrinsics | None = None
        self._view: GroundView | None = None

    def __call__(self, result: FrameResult) -> OccupancyGrid:
        pose = _pose(result)
        if result.intrinsics is None:
            raise GeometryError('expected a camera_info that describes the image, got none')
        height, width = result.size_hw
        intrinsics = result.intrinsics.resized((width, height))
        if self._view is None or intrinsics != self._seen:
            self._view = GroundView(_rays(intrinsics, self._is_rectified), self._layout)
            self._seen = intrinsics
        mask_YX = drivable_mask(result.segmentation.labels_YX, self._table)
        return _message(self._view.grid(mask_YX, pose), self._layout, result)


def _pose(result: FrameResult) -> np.ndarray:
    if result.base_from_optical is None:
        raise GeometryError(
            f"expected the pose of '{result.segmentation.frame_id}' in "
            f"'{result.parameters.base_frame}', which neither TF nor the camera's mount_xyz_rpy "
            f'gives: set the latter, or publish the transform (with tf2_ros installed)'
        )
    return result.base_from_optical


def _rays(intrinsics: Intrinsics, is_rectified: bool) -> np.ndarray:
    """The direction of every pixel, (Y, X, 3) with z = 1."""
    width, height = intrinsics.size_wh
    pixels_YX2 = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    rays_N2 = pixels_to_rays(pixels_YX2.reshape(-1, 2).astype(float), intrinsics, is_rectified)
    return np.column_stack((rays_N2, np.ones(len(rays_N2)))).reshape(height, width, 3)


def _message(cells_JI: np.ndarray, layout: GridLayout, result: FrameResult) -> OccupancyGrid:
    """The grid in the robot's frame with the image's stamp."""
    message = OccupancyGrid(
        header=make_header(result.segmentation.stamp_ns, result.parameters.base_frame)
    )
    message.info.map_load_time = message.header.stamp
    message.info.resolution = layout.resolution_m
    message.info.width, message.info.height = layout.size_wh
    message.info.origin.position.x = layout.x_min_m
    message.info.origin.position.y = layout.y_min_m
    message.info.origin.orientation.w = 1.0
    message.data = array.array('b', cells_JI.tobytes())
    return message
