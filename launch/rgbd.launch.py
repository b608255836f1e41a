"""Starts the segmentation node for a colour and a depth camera and, if asked to, RViz.

    ros2 launch seg_perception rgbd.launch.py rviz:=true \
        image:=/camera/color/image_raw depth:=/camera/aligned_depth_to_color/image_raw

Depth must be registered (aligned) to the colour image. The other arguments are those of
``segmentation.launch.py``.
"""

from __future__ import annotations

import posixpath

from launch import LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('seg_perception')
# What config/rgbd.rviz shows, below /camera/segmentation.
OUTPUTS = ('overlay', 'points', 'markers', 'drivable_grid')


def generate_launch_description() -> LaunchDescription:
    """The arguments, the node and RViz."""
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
                'rviz',
                default_value='false',
                choices=['true', 'false'],
                description='Whether to open RViz with config/rgbd.rviz.',
            ),
            DeclareLaunchArgument(
                'fixed_frame',
                default_value='',
                description="Frame RViz shows all in: the robot's, as the file says, if empty; "
                "the images' frame_id where there is no TF.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
                )
            ),
            OpaqueFunction(function=start_rviz),
        ]
    )


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, with the camera's topics in the place of those in its file."""
    given = context.launch_configurations
    if given['rviz'] != 'true':
        return []
    outputs = posixpath.join(posixpath.dirname(given['image']), 'segmentation')
    frame = ['-f', given['fixed_frame']] if given['fixed_frame'] else []
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            arguments=['-d', PathJoinSubstitution([SHARE, 'config', 'rgbd.rviz']), *frame],
            remappings=[
                ('/camera/image_raw', given['image']),
                *((f'/camera/segmentation/{name}', f'{outputs}/{name}') for name in OUTPUTS),
            ],
            parameters=[{'use_sim_time': given.get('use_sim_time') == 'true'}],
            # What it says about the graphics card would bury the node's lines.
            ros_arguments=['--log-level', 'warn'],
        )
    ]
