"""Starts the segmentation node and a Nav2 costmap that shows what it says about the ground.

    seg-perception nav2-config --model NAME --drivable floor --danger person --output nav2.yaml
    ros2 launch seg_perception nav2_semantic.launch.py costmap:=nav2.yaml model:=NAME depth:=TOPIC

The costmap runs on its own, to look at and to tune; a robot's own costmaps take the layer from
the same file. ``rviz:=true`` shows both. The other arguments are those of
``segmentation.launch.py``.
"""

from __future__ import annotations

import os

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node, SetRemap
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('seg_perception')
NEEDED_PACKAGES = {
    'nav2_costmap_2d': 'ros-$ROS_DISTRO-nav2-costmap-2d',
    'nav2_lifecycle_manager': 'ros-$ROS_DISTRO-nav2-lifecycle-manager',
    'semantic_segmentation_layer': 'https://github.com/kiwicampus/semantic_segmentation_layer',
}


def generate_launch_description() -> LaunchDescription:
    """The argument that names the costmap's file, the costmap, and the segmentation node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'costmap', description='Parameter file written by seg-perception nav2-config.'
            ),
            DeclareLaunchArgument(
                'rviz_config', default_value='navigation', description='The file that RViz opens.'
            ),
            # First, so that nothing is started where something is missing.
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The launch file for one camera, Nav2's costmap node, and the manager that activates it."""
    given = context.launch_configurations
    for package, source in NEEDED_PACKAGES.items():
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            raise RuntimeError(f'{package} is not installed; it comes from {source}') from None
    if not os.path.isfile(given['costmap']):
        raise RuntimeError(f'costmap: no such file: {given["costmap"]}')
    if not (given.get('depth') or given.get('params_file')):
        raise RuntimeError(
            'depth: expected the topic of the depth images, for there are no points without them'
        )
    with open(given['costmap'], encoding='utf-8') as file:
        tree = yaml.safe_load(file)
    try:
        name = next(iter(tree))  # of the node and of its namespace
        frame = tree[name][name]['ros__parameters']['global_frame']
    except (LookupError, StopIteration, TypeError):
        raise RuntimeError(
            f'costmap: expected a file that seg-perception nav2-config wrote: {given["costmap"]}'
        ) from None
    clock = {'use_sim_time': given.get('use_sim_time') == 'true'}
    return [
        # For RViz, whose file has the costmap's usual name.
        *(SetRemap(f'/costmap/{t}', f'/{name}/{t}') for t in ('costmap', 'costmap_updates')),
        # Before the costmap, which would go on if an argument of it were refused.
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
            ),
            launch_arguments={'fixed_frame': given.get('fixed_frame') or frame}.items(),
        ),
        Node(
            package='nav2_costmap_2d',
            executable='nav2_costmap_2d',
            name=name,
            namespace=name,
            parameters=[given['costmap'], clock],
            output='screen',
        ),
        Node(
            package='nav2_lifecycle_manager',
            executable='lifecycle_manager',
            name=f'lifecycle_manager_{name}',
            # A costmap on its own keeps no bond.
            parameters=[
                {'node_names': [f'{name}/{name}'], 'autostart': True, 'bond_timeout': 0.0},
                clock,
            ],
            output='screen',
        ),
    ]
