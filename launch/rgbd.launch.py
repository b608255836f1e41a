"""Starts the segmentation node for a colour and a depth camera and, if asked to, RViz.

    ros2 launch seg_perception rgbd.launch.py rviz:=true \
        image:=/camera/color/image_raw depth:=/camera/aligned_depth_to_color/image_raw

Depth must be registered (aligned) to the colour image. The other arguments are those of
``segmentation.launch.py``.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('seg_perception')


def generate_launch_description() -> LaunchDescription:
    """The arguments, and the launch file for one camera with another file for RViz."""
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
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
                )
            ),
        ]
    )
