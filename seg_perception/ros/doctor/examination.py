"""The whole examination, as the command makes it: machine, wiring, images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seg_perception.errors import ConfigurationError
from seg_perception.imaging import DEFAULT_MAX_PIXELS
from seg_perception.ros.doctor.finding import Finding, Gravity
from seg_perception.ros.doctor.machine import check_machine
from seg_perception.ros.doctor.wiring import IMAGE, CameraWiring, check_wiring

if TYPE_CHECKING:
    from seg_perception.ros.doctor.probe import TransformNotes
    from seg_perception.ros.doctor.streams import Seen

DISCOVERY_S = 6.0
"""How long to wait for what is not there; a busy machine needs seconds to discover others."""
_NEEDED = ('ROS 2', 'middleware', 'domain')
"""What has to be right before topics can be looked at."""
_SETTLE_S = 0.5
_ANSWER_S = 5.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        node: full name of a segmentation node whose cameras are looked at, where it runs.
        image_topic: of one camera to look at instead; empty for those of the node.
        is_compressed: that camera's transport.
        depth_topic: its depth; empty for none.
        seconds: how long to listen to each camera.
        base_frame: the robot's frame, for TF; empty for the node's, or base_link.
    """

    node: str = '/segmentation'
    image_topic: str = ''
    is_compressed: bool = False
    depth_topic: str = ''
    seconds: float = 3.0
    base_frame: str = ''


def examine(question: Question) -> tuple[list[Finding], dict[str, Any]]:
    """Looks at everything.

    Returns:
        What was found, and the node's parameters by name (none where it does not run).
    """
    findings = check_machine()
    parameters: dict[str, Any] = {}
    if any(f.check in _NEEDED and f.gravity is Gravity.ERROR for f in findings):
        return findings, parameters
    with _probe() as (node, executor):
        found, parameters = _examine_cameras(node, executor, question)
    return [*findings, *found], parameters


def wiring_of(
    name: str, image_topic: str, *, is_compressed: bool = False, depth_topic: str = '', **more: Any
) -> CameraWiring:
    """What the node wants of a camera with these parameters; topics are full names."""
    beside = image_topic.rsplit('/', 1)[0]
    beside_depth = depth_topic.rsplit('/', 1)[0]
    return CameraWiring(
        name,
        f'{image_topic}/compressed' if is_compressed else image_topic,
        is_compressed,
        more.get('camera_info_topic') or f'{beside}/camera_info',
        depth_topic,
        more.get('depth_info_topic') or (f'{beside_depth}/camera_info' if depth_topic else ''),
        bool(more.get('wants_reliable')),
    )


def _examine_cameras(
    node: Any, executor: Any, question: Question
) -> tuple[list[Finding], dict[str, Any]]:
    from seg_perception.ros.doctor.graph import topics_of
    from seg_perception.ros.doctor.probe import TransformNotes, listen
    from seg_perception.ros.doctor.streams import check_stream

    parameters = {} if question.image_topic else _parameters_of(node, executor, question.node)
    cameras = _cameras(question, parameters)
    _spin(
        executor,
        DISCOVERY_S,
        lambda: cameras and all(node.count_publishers(c.image_topic) for c in cameras),
    )
    # The others of a driver come along with the first.
    _spin(executor, _SETTLE_S)
    if not cameras:
        return [_no_cameras(node, question)], parameters
    wanted = {t for c in cameras for t in (c.image_topic, c.camera_info_topic, c.depth_topic)}
    topics = topics_of(node, {topic for topic in wanted if topic})
    findings = []
    for camera in cameras:
        findings += check_wiring(camera, topics)
    heard = [camera for camera in cameras if topics.get(camera.image_topic)]
    tf = TransformNotes(node)
    seen = listen(node, executor, heard, question.seconds) if heard else {}
    tf.close()
    for camera in heard:
        findings += check_stream(
            camera,
            seen[camera.name],
            max_pixels=int(parameters.get('max_pixels') or DEFAULT_MAX_PIXELS),
            max_offset_s=float(parameters.get('depth_max_offset_s') or 0.0),
        )
    findings += _check_tf(tf, {c: seen[c.name] for c in heard}, question, parameters)
    return findings, parameters


def _check_tf(
    tf: TransformNotes,
    seen: Mapping[CameraWiring, Seen],
    question: Question,
    parameters: Mapping[str, Any],
) -> list[Finding]:
    """The tree, and each camera's place in it."""
    from seg_perception.ros.doctor.frames import check_frame, check_tree

    grids = any(parameters.get('drivable_classes') or ())
    needed = {
        camera.name: bool(camera.depth_topic or grids)
        and not any(parameters.get(f'{camera.name}.mount_xyz_rpy') or ())
        for camera in seen
    }
    if tf.is_deaf:
        what = 'not looked at: tf2_msgs is not installed'
        fix = 'apt install ros-$ROS_DISTRO-tf2-ros, or state mount_xyz_rpy of the cameras'
        return [Finding('TF', Gravity.WARNING, what, fix)] if any(needed.values()) else []
    transforms = tf.transforms()
    base_frame = question.base_frame or parameters.get('base_frame') or 'base_link'
    findings = check_tree(transforms)
    for camera, notes in seen.items():
        findings += check_frame(
            camera.name,
            notes.frame.frame_id if notes.frame is not None else '',
            base_frame,
            transforms,
            is_needed=needed[camera.name],
        )
    return findings


def _no_cameras(node: Any, question: Question) -> Finding:
    images = sorted(
        name
        for name, types in node.get_topic_names_and_types()
        if IMAGE in types and '/segmentation/' not in name
    )
    return Finding(
        'cameras',
        Gravity.WARNING,
        f'no node {question.node} runs, and no image topic was given; published here: '
        f'{", ".join(images) or "no images"}',
        f'seg-perception doctor --image {images[0] if images else "/camera/image_raw"}',
    )


def _cameras(question: Question, parameters: dict[str, Any]) -> list[CameraWiring]:
    if question.image_topic:
        return [
            wiring_of(
                'camera',
                question.image_topic,
                is_compressed=question.is_compressed,
                depth_topic=question.depth_topic,
            )
        ]
    namespace = question.node.rsplit('/', 1)[0]
    cameras = []
    for name in parameters.get('cameras') or ():
        group = {k.partition('.')[2]: v for k, v in parameters.items() if k.startswith(f'{name}.')}
        cameras.append(
            wiring_of(
                name,
                _full(group['image_topic'], namespace),
                is_compressed=group['transport'] == 'compressed',
                depth_topic=_full(group['depth_topic'], namespace),
                camera_info_topic=_full(group['camera_info_topic'], namespace),
                depth_info_topic=_full(group['depth_camera_info_topic'], namespace),
                wants_reliable=parameters.get('image_reliability') == 'reliable',
            )
        )
    return cameras


def _full(topic: str, namespace: str) -> str:
    """As the node resolves it, but for remappings, which nobody else can know."""
    return topic if not topic or topic.startswith('/') else f'{namespace}/{topic}'


def _parameters_of(node: Any, executor: Any, name: str) -> dict[str, Any]:
    """All parameters of a node; none where it does not run."""
    from rcl_interfaces.srv import GetParameters, ListParameters
    from rclpy.parameter import parameter_value_to_python

    listing = node.create_client(ListParameters, f'{name}/list_parameters')
    getting = node.create_client(GetParameters, f'{name}/get_parameters')
    _spin(
        executor,
        DISCOVERY_S,
        lambda: listing.service_is_ready() and getting.service_is_ready(),
    )
    if not (listing.service_is_ready() and getting.service_is_ready()):
        return {}
    names = _answer(executor, listing.call_async(ListParameters.Request())).result.names
    answer = _answer(executor, getting.call_async(GetParameters.Request(names=names)))
    if len(answer.values) != len(names):
        raise ConfigurationError(
            f'expected one node {name}, got answers that do not fit together: several nodes have '
            'this name; end all but one (ros2 node list), or give them namespaces'
        )
    values = map(parameter_value_to_python, answer.values)
    return dict(zip(names, values, strict=True))


def _answer(executor: Any, future: Any) -> Any:
    executor.spin_until_future_complete(future, _ANSWER_S)
    if not future.done():
        raise ConfigurationError(
            f'the node does not answer within {_ANSWER_S:g} s: it hangs, or is being started'
        )
    return future.result()


def _spin(executor: Any, seconds: float, is_enough: Callable[[], Any] = lambda: False) -> None:
    deadline_s = time.monotonic() + seconds
    while (left_s := deadline_s - time.monotonic()) > 0.0 and not is_enough():
        executor.spin_once(min(left_s, _POLL_S))


@contextmanager
def _probe() -> Iterator[tuple[Any, Any]]:
    """A node of the doctor's own, in a context of its own."""
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from seg_perception.ros.process import prepare_environment

    prepare_environment()
    context = Context()
    rclpy.init(args=[], context=context)
    node = Node(f'seg_perception_doctor_{os.getpid()}', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where something does not work."""
    return int(any(finding.gravity is Gravity.ERROR for finding in findings))
