"""Camera geometry: intrinsics, depth in metres, point clouds and boxes around objects.

Everything is in the camera's optical frame (REP 103): x right, y down, z forward, in metres.
"""

from seg_perception.geometry.boxes import OrientedBox, object_boxes, oriented_box
from seg_perception.geometry.deprojection import Deprojector, DepthGrid
from seg_perception.geometry.depth import check_registered, depth_samples, depth_to_m
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.geometry.points import POINT_DTYPE, organised_points, selected_points

__all__ = [
    'POINT_DTYPE',
    'Deprojector',
    'DepthGrid',
    'Intrinsics',
    'OrientedBox',
    'check_registered',
    'depth_samples',
    'depth_to_m',
    'object_boxes',
    'organised_points',
    'oriented_box',
    'selected_points',
]
