"""Whether the node and the cameras' drivers can hear each other: topics, types, QoS.

Sees only who publishes what and how; whether images come and are any good is `streams`' matter.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seg_perception.ros.doctor.finding import Finding, Gravity

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'


@dataclass(frozen=True, slots=True)
class Publisher:
    """Somebody who publishes on a topic.

    Attributes:
        node: its full name.
        message_type: as ``sensor_msgs/msg/Image``.
        is_reliable: what it offers; False is best effort.
    """

    node: str
    message_type: str
    is_reliable: bool


@dataclass(frozen=True, slots=True)
class CameraWiring:
    """What the node wants of a camera; topics are resolved names, empty where there is none.

    Attributes:
        name: among the node's parameters.
        image_topic: with ``/compressed`` where that is its transport.
        is_compressed: its transport.
        camera_info_topic: of the images.
        depth_topic: registered depth.
        depth_info_topic: its calibration.
        wants_reliable: the reliability the node asks for.
    """

    name: str
    image_topic: str
    is_compressed: bool
    camera_info_topic: str
    depth_topic: str = ''
    depth_info_topic: str = ''
    wants_reliable: bool = False


Topics = Mapping[str, Sequence[Publisher]]
"""Who publishes on each topic."""


def check_wiring(camera: CameraWiring, topics: Topics) -> list[Finding]:
    """What is to be said of a camera's topics, at least one finding."""
    return list(_findings(camera, topics))


def _findings(camera: CameraWiring, topics: Topics) -> Iterator[Finding]:
    name, topic = camera.name, camera.image_topic
    wanted = COMPRESSED if camera.is_compressed else IMAGE
    check = f'{name}: image topic'
    publishers = topics.get(topic, ())
    right = [p for p in publishers if p.message_type == wanted]
    if not publishers:
        yield _nobody_publishes(camera, topics)
    elif not right:
        yield _another_type(camera, publishers[0])
    else:
        yield from _check_qos(check, topic, right, camera.wants_reliable)
        if len(right) > 1:
            nodes = ', '.join(sorted(p.node for p in right))
            yield Finding(
                check,
                Gravity.WARNING,
                f'{len(right)} publishers on {topic}: {nodes}',
                'stop all but one, or give each camera a topic of its own',
            )
        if not camera.wants_reliable or all(p.is_reliable for p in right):
            yield Finding(check, Gravity.OK, f'{topic} from {right[0].node}')
    yield from _check_info(camera, topics, has_images=bool(right))
    if camera.depth_topic:
        yield from _check_depth(camera, topics)


def _nobody_publishes(camera: CameraWiring, topics: Topics) -> Finding:
    topic = camera.image_topic
    check, parameter = f'{camera.name}: image topic', f'{camera.name}.image_topic'
    found = f'nobody publishes {topic}'
    other = topic.removesuffix('/compressed') if camera.is_compressed else f'{topic}/compressed'
    if topics.get(other):
        transport = 'raw' if camera.is_compressed else 'compressed'
        fix = f'-p {camera.name}.transport:={transport} ({other} has a publisher)'
        return Finding(check, Gravity.ERROR, found, fix)
    wanted = COMPRESSED if camera.is_compressed else IMAGE
    there = sorted(t for t, ps in topics.items() if any(p.message_type == wanted for p in ps))
    # Not what this package publishes itself.
    there = [t for t in there if '/segmentation/' not in t]
    if not there:
        fix = 'start the camera driver; no image topic has a publisher on this ROS_DOMAIN_ID'
        return Finding(check, Gravity.ERROR, found, fix)
    close = difflib.get_close_matches(topic, there, 1, cutoff=0.0)[0]
    close = close.removesuffix('/compressed') if camera.is_compressed else close
    fix = f'-p {parameter}:={close}, or start the driver; published are: {", ".join(there)}'
    return Finding(check, Gravity.ERROR, found, fix)


def _another_type(camera: CameraWiring, publisher: Publisher) -> Finding:
    fix = 'give the topic of a camera'
    if publisher.message_type in (IMAGE, COMPRESSED):
        transport = 'compressed' if publisher.message_type == COMPRESSED else 'raw'
        topic = camera.image_topic.removesuffix('/compressed')
        fix = f'-p {camera.name}.transport:={transport} -p {camera.name}.image_topic:={topic}'
    return Finding(
        f'{camera.name}: image topic',
        Gravity.ERROR,
        f'{camera.image_topic} is a {publisher.message_type}, of {publisher.node}',
        fix,
    )


def _check_qos(
    check: str, topic: str, publishers: Sequence[Publisher], wants_reliable: bool
) -> Iterator[Finding]:
    deaf = [p.node for p in publishers if wants_reliable and not p.is_reliable]
    if deaf:
        yield Finding(
            check,
            Gravity.ERROR,
            f'{topic} is offered best effort by {", ".join(deaf)} and asked for reliable: nothing '
            'will arrive',
            '-p image_reliability:=auto (or best_effort, the default), and remove qos_overrides',
        )


def _check_info(camera: CameraWiring, topics: Topics, *, has_images: bool) -> Iterator[Finding]:
    topic, check = camera.camera_info_topic, f'{camera.name}: camera_info'
    publishers = topics.get(topic, ())
    if any(p.message_type == CAMERA_INFO for p in publishers):
        yield Finding(check, Gravity.OK, topic)
    elif publishers:
        yield Finding(
            check,
            Gravity.WARNING,
            f'{topic} is a {publishers[0].message_type}',
            f'-p {camera.name}.camera_info_topic:=… of type {CAMERA_INFO}',
        )
    elif has_images:
        others = sorted(t for t, ps in topics.items() if any(_is_info(p) for p in ps))
        others = [t for t in others if '/segmentation/' not in t]
        listed = f' (published are: {", ".join(others)})' if others else ''
        yield Finding(
            check,
            Gravity.ERROR if camera.depth_topic else Gravity.WARNING,
            f'nobody publishes {topic}: no calibration for outputs, depth and grids',
            f'let the driver publish it, or -p {camera.name}.camera_info_topic:=…{listed}',
        )


def _check_depth(camera: CameraWiring, topics: Topics) -> Iterator[Finding]:
    topic, check = camera.depth_topic, f'{camera.name}: depth topic'
    publishers = topics.get(topic, ())
    right = [p for p in publishers if p.message_type == IMAGE]
    if right:
        yield from _check_qos(check, topic, right, camera.wants_reliable)
        yield Finding(check, Gravity.OK, f'{topic} from {right[0].node}')
    elif publishers:
        yield Finding(
            check,
            Gravity.ERROR,
            f'{topic} is a {publishers[0].message_type}, of {publishers[0].node}',
            f'-p {camera.name}.depth_topic:=… of type {IMAGE}: depth is received raw',
        )
    else:
        depths = [t for t, ps in topics.items() if 'depth' in t and any(_is_image(p) for p in ps)]
        depths = [t for t in depths if '/segmentation/' not in t]
        listed = f'; published are: {", ".join(sorted(depths))}' if depths else ''
        yield Finding(
            check,
            Gravity.ERROR,
            f'nobody publishes {topic}',
            f"turn on the driver's aligned (registered) depth, or -p {camera.name}.depth_topic:=…"
            + listed,
        )


def _is_info(publisher: Publisher) -> bool:
    return publisher.message_type == CAMERA_INFO


def _is_image(publisher: Publisher) -> bool:
    return publisher.message_type == IMAGE
