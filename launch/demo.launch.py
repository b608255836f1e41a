"""Plays pictures on a camera topic, segments them, and shows figures and, if asked to, RViz.

    ros2 launch seg_perception demo.launch.py rviz:=true
    ros2 launch seg_perception demo.launch.py source:=/path/to/video.mp4 seconds:=30

Ends with the first of its processes: when the monitor is done, RViz is closed or a node fails.
The other arguments are those of ``segmentation.launch.py``.
"""

from __future__ import annotations

from launch import LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('seg_perception')
IMAGE = '/camera/image_raw'

# Arguments of this file and the parameters they become.
SOURCE_PARAMETERS = {'source': ('source', str), 'rate': ('rate_hz', float)}
MONITOR_PARAMETERS = {'seconds': ('duration_s', float), 'overlay': ('overlay_path', str)}


def generate_launch_description() -> LaunchDescription:
    """Arguments, the segmentation node (and RViz), the image source and the monitor."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'source',
                default_value='',
                description='What to play: demo, an image, folder, glob, video, webcam:<index>, '
                'rosbag2 or mcap.',
            ),
            DeclareLaunchArgument(
                'rate', default_value='', description='Pictures per second; as recorded if empty.'
            ),
            DeclareLaunchArgument(
                'seconds', default_value='', description='How long to run; for ever if empty.'
            ),
            DeclareLaunchArgument(
                'overlay',
                default_value='',
                description='Where to save a picture of the overlays at the end; nowhere if '
                'empty.',
            ),
            # Before anything is started, which would go on without the rest.
            OpaqueFunction(function=check),
            # The monitor is done, RViz was closed, or something failed: the rest is of no use.
            RegisterEventHandler(OnProcessExit(on_exit=end)),
            # Before the others, as it also sets the DDS profile for the processes after it.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([SHARE, 'launch', 'segmentation.launch.py'])
                ),
                launch_arguments={'image': IMAGE}.items(),
            ),
            OpaqueFunction(function=start),
        ]
    )


def given(context: LaunchContext, table: dict[str, tuple[str, type]]) -> dict[str, object]:
    """Parameters from those arguments of a table that are not empty."""
    values: dict[str, object] = {}
    for name, (parameter, convert) in table.items():
        if text := context.launch_configurations[name]:
            try:
                values[parameter] = convert(text)
            except ValueError:
                raise RuntimeError(f'{name}: expected a number, got {text!r}') from None
    return values


def check(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Refuses arguments that are no numbers."""
    given(context, SOURCE_PARAMETERS | MONITOR_PARAMETERS)
    return []


def end(_event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Ends the demo with the first of its processes."""
    return [] if context.is_shutdown else [Shutdown(reason='a process has ended')]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The image source and the monitor, once the arguments are known."""
    return [
        Node(
            package='seg_perception',
            executable='image_source_node',
            # The node and the monitor: the first picture meets a model that is loaded.
            parameters=[
                {
                    'topic': IMAGE,
                    'wait_for_subscribers': 2,
                    **given(context, SOURCE_PARAMETERS),
                }
            ],
            output='screen',
        ),
        Node(
            package='seg_perception',
            executable='monitor_node',
            parameters=[{'image_topic': IMAGE, **given(context, MONITOR_PARAMETERS)}],
            output='screen',
        ),
    ]
