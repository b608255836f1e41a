"""Slow, obvious twins of ``seg_perception.navigation``: plain loops, written from the definitions.

Values are written out here on purpose: 255 drivable, 0 not, 127 unknown; 0 free, 100 occupied, -1
unknown.
"""

from __future__ import annotations

import math

import numpy as np


def transform(matrix, point):
    """A 4x4 matrix times a point."""
    return [sum(matrix[i][j] * point[j] for j in range(3)) + matrix[i][3] for i in range(3)]


def inverse(matrix):
    """The inverse of a rigid 4x4 transform."""
    rotation = [[matrix[j][i] for j in range(3)] for i in range(3)]
    offset = [matrix[i][3] for i in range(3)]
    moved = [-sum(rotation[i][j] * offset[j] for j in range(3)) for i in range(3)]
    return [[*rotation[i], moved[i]] for i in range(3)] + [[0, 0, 0, 1]]


def camera_pose(height_m, pitch_down_deg, yaw_deg=0.0, x_m=0.0, y_m=0.0):
    """Base from optical frame (z forward, x right, y down) of a camera that looks ahead."""
    pitch, yaw = math.radians(pitch_down_deg), math.radians(yaw_deg)
    forward = (
        math.cos(pitch) * math.cos(yaw),
        math.cos(pitch) * math.sin(yaw),
        -math.sin(pitch),
    )
    right = (math.sin(yaw), -math.cos(yaw), 0.0)
    down = np.cross(forward, right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, down, forward], axis=1)
    matrix[:3, 3] = x_m, y_m, height_m
    return matrix


def pinhole_rays(width, height, focal_px, center_xy):
    """Directions of all pixels, z = 1, shape (height, width, 3)."""
    rays = np.ones((height, width, 3))
    for y in range(height):
        for x in range(width):
            rays[y, x] = (x - center_xy[0]) / focal_px, (y - center_xy[1]) / focal_px, 1
    return rays


def ground_grid(mask, focal_px, center_xy, base_from_camera, layout):
    """Each cell's centre projected into a pinhole camera; the nearest pixel decides."""
    height, width = mask.shape
    camera_from_base = inverse(base_from_camera)
    cells_x, cells_y = layout.size_wh
    grid = np.full((cells_y, cells_x), -1)
    for j in range(cells_y):
        for i in range(cells_x):
            x = layout.x_min_m + (i + 0.5) * layout.resolution_m
            y = layout.y_min_m + (j + 0.5) * layout.resolution_m
            right, down, ahead = transform(camera_from_base, (x, y, 0))
            if ahead <= 0:
                continue
            column = round(focal_px * right / ahead + center_xy[0])
            row = round(focal_px * down / ahead + center_xy[1])
            if 0 <= column < width and 0 <= row < height:
                grid[j, i] = {255: 0, 0: 100, 127: -1}[int(mask[row, column])]
    return grid


def points_grid(points, mask, base_from_camera, layout, rule):
    """Every point put into its cell; then the cells are judged one by one."""
    cells_x, cells_y = layout.size_wh
    obstacle = np.zeros((cells_y, cells_x), int)
    ground = np.zeros((cells_y, cells_x), int)
    for point, value in zip(points.reshape(-1, 3), mask.reshape(-1), strict=True):
        if not all(map(math.isfinite, point)):
            continue
        x, y, z = transform(base_from_camera, [float(c) for c in point])
        i = math.floor((x - layout.x_min_m) / layout.resolution_m)
        j = math.floor((y - layout.y_min_m) / layout.resolution_m)
        if not (0 <= i < cells_x and 0 <= j < cells_y):
            continue
        if value == 0 and rule.obstacle_min_m <= z <= rule.obstacle_max_m:
            obstacle[j, i] += 1
        if value == 255 and abs(z) <= rule.ground_tolerance_m:
            ground[j, i] += 1
    grid = np.full((cells_y, cells_x), -1)
    for j in range(cells_y):
        for i in range(cells_x):
            if obstacle[j, i] >= rule.min_points:
                grid[j, i] = 100
            elif ground[j, i] >= rule.min_points:
                grid[j, i] = 0
    return grid
