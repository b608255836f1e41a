"""Starts one segmentation node for any number of cameras, which a YAML file names.

    ros2 launch seg_perception multi_camera.launch.py params_file:=cameras.yaml rviz:=true

The file is a parameter file of the node; ``config/multi_camera.yaml`` is an example. All cameras
share one model in memory; RViz shows their overlays side by side. The other arguments are those
of ``segmentation.launch.py``.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('seg_perception')


def generate_launch_description() -> LaunchDescription:
    """The argument that names the file, and the launch file for one camera, given that file."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file',
                default_value=PathJoinSubstitution([SHARE, 'config', 'multi_camera.yaml']),
                description='Parameter file (YAML) that names the cameras and their topics.',
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
                ),
                launch_arguments={'params_file': LaunchConfiguration('params_file')}.items(),
            ),
        ]
    )
