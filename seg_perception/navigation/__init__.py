"""What may be driven on: as a mask, as a bird's-eye grid, and as Nav2's configuration."""

from seg_perception.navigation.drivable import (
    DRIVABLE,
    NOT_DRIVABLE,
    UNKNOWN,
    drivable_mask,
    drivable_table,
)
from seg_perception.navigation.grid import GridLayout
from seg_perception.navigation.ground_view import GroundView
from seg_perception.navigation.nav2_costmap import CostmapOptions, costmap_yaml
from seg_perception.navigation.point_grid import CellRule, points_to_grid

__all__ = [
    'DRIVABLE',
    'NOT_DRIVABLE',
    'UNKNOWN',
    'CellRule',
    'CostmapOptions',
    'GridLayout',
    'GroundView',
    'costmap_yaml',
    'drivable_mask',
    'drivable_table',
    'points_to_grid',
]
