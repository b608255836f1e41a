"""Starts the segmentation node so that a grasp planner finds what it needs of one object.

    ros2 launch seg_perception grasping.launch.py target:=bottle planner:=contact_graspnet \
        image:=/camera/color/image_raw depth:=/camera/aligned_depth_to_color/image_raw

Planners with topic names of their own get these; MoveIt and GQ-CNN are told ours: see
``docs/grasping.md``. The other arguments are those of ``segmentation.launch.py``.
"""

from __future__ import annotations

import json
import posixpath

from launch import LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import SetParameter, SetRemap
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('seg_perception')
# Outputs of the node, and what a planner calls them.
PLANNERS = {
    '': {},
    'contact_graspnet': {'grasp/mask': '/seg_masks'},
    'gpd': {'grasp/points': '/cloud_stitched'},
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, and the node with its target and remappings."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'image', description='Topic of the colour images, e.g. /camera/color/image_raw.'
            ),
            DeclareLaunchArgument(
                'depth',
                description='Topic of the depth images, registered to the colour images.',
            ),
            DeclareLaunchArgument(
                'rviz_config', default_value='rgbd', description='The file that RViz opens.'
            ),
            DeclareLaunchArgument(
                'target',
                default_value='',
                description='What to grasp: a class, or the id of an object. It can be changed '
                'at any time: ros2 param set /segmentation grasp_target NAME.',
            ),
            DeclareLaunchArgument(
                'planner',
                default_value='',
                choices=list(PLANNERS),
                description='Whose topic names to use; the own ones, below grasp/, if empty.',
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The launch file for one camera, with the target and the outputs' names changed."""
    given = context.launch_configurations
    outputs = posixpath.join(posixpath.dirname(given['image']), 'segmentation')
    actions: list[LaunchDescriptionEntity] = [
        SetRemap(f'{outputs}/{name}', topic) for name, topic in PLANNERS[given['planner']].items()
    ]
    if given['target']:
        # Quoted: the id of an object is text too.
        target = ParameterValue(json.dumps(given['target']), value_type=str)
        actions.append(SetParameter('grasp_target', target))
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
        )
    )
    return [GroupAction([*actions, include])]
