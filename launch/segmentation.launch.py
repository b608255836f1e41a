"""Starts the segmentation node for one camera and, if asked to, RViz.

    ros2 launch seg_perception segmentation.launch.py image:=/camera/image_raw rviz:=true

An argument that is not given is not passed on: the node's own defaults hold (see
``config/segmentation.yaml`` for all of them), or those of ``params_file``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.launch_context import LaunchContext
from launch_ros.actions import Node

from seg_perception.ros.environment import DDS_PROFILE, find_share_file, profile_variables
from seg_perception.ros.rviz_cameras import cameras_config, image_topics, remappings

BOOLEANS = ['', 'true', 'false']

# Name and how a given text becomes the node's parameter. Parameters of the camera start with a
# dot.
PARAMETERS = {
    'model': str,
    'fallback_model': str,
    'weights_path': str,
    'device': str,
    'precision': str,
    'engine': str,
    'mask_classes': lambda text: [name.strip() for name in text.split(',')],
    'confidence_threshold': float,
    'autostart': lambda text: text == 'true',
    'exit_on_fault': lambda text: text == 'true',
    'use_sim_time': lambda text: text == 'true',
    '.image_topic': str,
    '.transport': str,
    '.camera_info_topic': str,
    '.depth_topic': str,
    '.max_rate_hz': float,
}
ARGUMENT_OF = {
    '.image_topic': 'image',
    '.camera_info_topic': 'camera_info',
    '.depth_topic': 'depth',
}


def generate_launch_description() -> LaunchDescription:
    """Arguments, the DDS profile and the node."""

    def argument(name: str, description: str, **kwargs) -> DeclareLaunchArgument:
        kwargs.setdefault('default_value', '')
        return DeclareLaunchArgument(name, description=description, **kwargs)

    return LaunchDescription(
        [
            argument('image', 'Topic of the images, e.g. /camera/image_raw.'),
            argument(
                'transport',
                'How the images come: raw, or compressed (JPEG or PNG on <image>/compressed).',
                choices=['', 'raw', 'compressed'],
            ),
            argument(
                'camera_info', 'Topic of the calibration; camera_info beside the images if empty.'
            ),
            argument('depth', 'Topic of the depth images, registered to the colour images.'),
            argument('camera_name', "The camera's name in parameters and diagnostics."),
            argument('max_rate_hz', 'Frames per second at most; 0 for as many as possible.'),
            argument(
                'model',
                'Catalog name, model card (.yaml) or file (.onnx .tflite .pt2 .safetensors), '
                'triton:HOST:PORT/NAME.',
            ),
            argument(
                'fallback_model',
                "Model that runs here while the server of a triton: model doesn't answer.",
            ),
            argument('weights_path', "File to take the model's weights from."),
            argument('device', 'auto, cpu, cuda or cuda:<index>.'),
            argument(
                'precision',
                'Arithmetic of the model.',
                choices=['', 'auto', 'fp32', 'fp16', 'bf16', 'int8'],
            ),
            argument(
                'engine',
                'What runs the model.',
                choices=[
                    '',
                    'auto',
                    'native',
                    'eager',
                    'cuda_graph',
                    'compile',
                    'aot',
                    'onnxruntime',
                    'tensorrt',
                    'openvino',
                    'litert',
                    'triton',
                ],
            ),
            argument('mask_classes', 'Classes that get a mask topic each, e.g. person,cat.'),
            argument('confidence_threshold', 'Pixels less sure than this are unlabelled, 0 to 1.'),
            argument(
                'autostart',
                'Whether the node configures and activates itself; a lifecycle manager has to if '
                'not.',
                choices=BOOLEANS,
            ),
            argument(
                'respawn',
                'Whether the node is started again whenever its process ends; with exit_on_fault '
                'also where only a new process helps.',
                choices=BOOLEANS,
            ),
            argument(
                'exit_on_fault',
                'Whether the process ends where only a new one helps; for respawn.',
                choices=BOOLEANS,
            ),
            argument('use_sim_time', 'Whether time comes from /clock.', choices=BOOLEANS),
            argument(
                'params_file', 'Parameter file (YAML); arguments given here have precedence.'
            ),
            argument('namespace', 'Namespace of the node.'),
            argument('node_name', 'Name of the node.'),
            argument(
                'log_level',
                'Least severity that is logged.',
                default_value='info',
                choices=['debug', 'info', 'warn', 'error', 'fatal'],
            ),
            argument(
                'rviz',
                "Whether to open RViz, with the cameras' topics in the place of those in its "
                'file.',
                default_value='false',
                choices=['true', 'false'],
            ),
            argument(
                'rviz_config',
                'Which of the files of config/ RViz opens; for one camera or for several, as '
                'there are, if empty.',
                choices=['', 'segmentation', 'multi_camera', 'rgbd', 'navigation'],
            ),
            argument(
                'fixed_frame',
                "Frame RViz shows all in: the file's if empty; the images' frame_id where there "
                'is no TF.',
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The DDS profile and the node, once the arguments are known."""
    given = {name: text for name, text in context.launch_configurations.items() if text}
    # The node's first camera has this name unless it is told otherwise.
    camera = given.get('camera_name', 'camera')
    overrides: dict[str, object] = {'cameras': [camera]} if 'camera_name' in given else {}
    for parameter, convert in PARAMETERS.items():
        argument = ARGUMENT_OF.get(parameter, parameter.removeprefix('.'))
        text = given.get(argument)
        if text is not None:
            name = f'{camera}{parameter}' if parameter.startswith('.') else parameter
            try:
                overrides[name] = convert(text)
            except ValueError:
                raise RuntimeError(f'{argument}: expected a number, got {text!r}') from None
    parameters: list[object] = []
    if 'params_file' in given:
        if not os.path.isfile(given['params_file']):
            raise RuntimeError(f'params_file: no such file: {given["params_file"]}')
        parameters.append(given['params_file'])
    if overrides:
        parameters.append(overrides)
    node = Node(
        package='seg_perception',
        executable='segmentation_node',
        name=given.get('node_name'),
        namespace=given.get('namespace'),
        parameters=parameters,
        ros_arguments=['--log-level', given['log_level']],
        respawn=given.get('respawn') == 'true',
        respawn_delay=2.0,
        output='screen',
        # Colours for people only: in a file they are noise.
        emulate_tty=sys.stdout.isatty(),
    )
    rviz = [start_rviz(given, overrides)] if given['rviz'] == 'true' else []
    return [*dds_profile(context), node, *rviz]


def start_rviz(given: dict[str, str], overrides: dict[str, object]) -> Node:
    """RViz, showing the cameras that the node is told of."""
    try:
        # Seen by launch only after the node is started, which then would go on by itself.
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        raise RuntimeError(
            'rviz: rviz2 is not installed; it comes from ros-$ROS_DISTRO-rviz2'
        ) from None
    tree = {}
    if 'params_file' in given:
        tree = yaml.safe_load(Path(given['params_file']).read_text(encoding='utf-8')) or {}
    topics = image_topics(tree, overrides, given.get('namespace', ''))
    name = given.get('rviz_config', 'segmentation' if len(topics) == 1 else 'multi_camera')
    config = find_share_file(Path('config', f'{name}.rviz'))
    if config is None:
        raise RuntimeError(f'config/{name}.rviz is not installed')
    renamed = [] if name == 'multi_camera' else remappings(config, next(iter(topics.values())))
    if name == 'multi_camera':
        with tempfile.NamedTemporaryFile(
            'w', prefix='multi_camera_', suffix='.rviz', delete=False
        ) as file:
            file.write(cameras_config(config, topics))
        config = Path(file.name)
    frame = ['-f', given['fixed_frame']] if 'fixed_frame' in given else []
    return Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(config), *frame],
        remappings=renamed,
        parameters=[{'use_sim_time': given.get('use_sim_time') == 'true'}],
        # What it says about the graphics card would bury the node's lines.
        ros_arguments=['--log-level', 'warn'],
    )


def dds_profile(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Lets Fast DDS carry whole images, unless the user chose a profile."""
    profile = find_share_file(DDS_PROFILE)
    if profile is None:
        return []
    return [
        SetEnvironmentVariable(variable, str(profile))
        for variable in profile_variables(context.environment)
        if variable not in context.environment
    ]
