"""Starts the segmentation node so that nvblox finds the mask of one class under its own names.

    ros2 launch seg_perception nvblox.launch.py image:=/camera/color/image_raw mask_class:=person

nvblox then wants ``use_segmentation: true`` (its people segmentation mode). The other arguments
are those of ``segmentation.launch.py``.
"""

from __future__ import annotations

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
from launch_ros.actions import SetRemap
from launch_ros.substitutions import FindPackageShare

from seg_perception.messages.topic_names import topic_token

SHARE = FindPackageShare('seg_perception')


def generate_launch_description() -> LaunchDescription:
    """The arguments, and the node with its remappings."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'image', description='Topic of the images that nvblox takes as colour.'
            ),
            DeclareLaunchArgument(
                'mask_class', description='The class nvblox keeps apart, e.g. person.'
            ),
            DeclareLaunchArgument(
                'nvblox_mask',
                default_value='/camera_0/mask',
                description="Namespace of nvblox's mask topics; /mask up to Isaac ROS 3.0.",
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The launch file for one camera, with the outputs' names changed."""
    given = context.launch_configurations
    outputs = posixpath.join(posixpath.dirname(given['image']), 'segmentation')
    nvblox_mask = given['nvblox_mask'].rstrip('/')
    remappings = {
        f'{outputs}/masks/{topic_token(given["mask_class"])}': f'{nvblox_mask}/image',
        f'{outputs}/camera_info': f'{nvblox_mask}/camera_info',
    }
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
        ),
        launch_arguments={'mask_classes': given['mask_class']}.items(),
    )
    return [GroupAction([*(SetRemap(*names) for names in remappings.items()), include])]
