"""Which cameras are segmented: found from the topics there are and what the nodes say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rclpy.node import Node

OUTPUTS = {
    'labels': 'sensor_msgs/msg/Image',
    'confidence': 'sensor_msgs/msg/Image',
    'label_info': 'vision_msgs/msg/LabelInfo',
    'objects': 'vision_msgs/msg/Detection2DArray',
    'camera_info': 'sensor_msgs/msg/CameraInfo',
    'points': 'sensor_msgs/msg/PointCloud2',
    'objects_3d': 'vision_msgs/msg/Detection3DArray',
}
"""What is shown of a camera's outputs, and their types."""
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'

_FOLDER = '/segmentation'
_COMPRESSED_SUFFIX = '/compressed'
_USUAL_NAMES = ('image_raw', 'image', 'image_color', 'image_rect_color', 'image_rect')

Topics = Mapping[str, frozenset[str]]
"""Types of the topics somebody publishes, by name."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera whose images are segmented.

    Attributes:
        name: as its node calls it, else the last part of its namespace.
        namespace: of its outputs, e.g. ``/front/segmentation``.
        image_topic: of its images, ``…/compressed`` where they are; empty where nobody knows.
        outputs: those of `OUTPUTS` somebody publishes.
        has_images: whether somebody publishes on its image topic.
    """

    name: str
    namespace: str
    image_topic: str
    outputs: frozenset[str]
    has_images: bool

    @property
    def is_compressed(self) -> bool:
        """Whether its images are."""
        return self.image_topic.endswith(_COMPRESSED_SUFFIX)


def topics_of(node: Node) -> Topics:
    """What somebody publishes, with a type for which there is a publisher."""
    return {
        name: frozenset(types)
        for name, types in node.get_topic_names_and_types()
        if _is_of_interest(name, types) and node.count_publishers(name)
    }


def find_cameras(
    topics: Topics, reported: Mapping[str, str], chosen: Iterable[str] = ()
) -> list[Camera]:
    """The cameras there are, in the order of their namespaces.

    Args:
        topics: from `topics_of`.
        reported: names of cameras by image topic, as the nodes' diagnostics say.
        chosen: names or namespaces of the cameras wanted; none for all.
    """
    by_namespace = {
        namespace_of(image_topic): (name, image_topic) for image_topic, name in reported.items()
    }
    for topic, types in topics.items():
        namespace, _, output = topic.rpartition('/')
        if output == 'labels' and namespace.endswith(_FOLDER) and OUTPUTS['labels'] in types:
            parent = namespace.removesuffix(_FOLDER)
            by_namespace.setdefault(
                namespace, (parent.rpartition('/')[2] or 'camera', _image_topic_in(parent, topics))
            )
    names = [name for name, _ in by_namespace.values()]
    cameras = []
    for namespace, (name, image_topic) in sorted(by_namespace.items()):
        unique = name if names.count(name) == 1 else namespace.removesuffix(_FOLDER)[1:]
        published = {
            o for o, kind in OUTPUTS.items() if kind in topics.get(f'{namespace}/{o}', ())
        }
        camera = Camera(
            unique, namespace, image_topic, frozenset(published), bool(topics.get(image_topic))
        )
        if not chosen or {name, unique, namespace, namespace.removesuffix(_FOLDER)} & set(chosen):
            cameras.append(camera)
    return cameras


def namespace_of(image_topic: str) -> str:
    """Where a camera's outputs are."""
    return image_topic.removesuffix(_COMPRESSED_SUFFIX).rpartition('/')[0] + _FOLDER


def _image_topic_in(parent: str, topics: Topics) -> str:
    """The camera's image topic where nobody says which it is: one beside the outputs."""
    beside = {
        name.removeprefix(f'{parent}/').removesuffix(_COMPRESSED_SUFFIX): name
        # Raw images last, so that they are preferred.
        for name, types in sorted(topics.items(), key=lambda item: IMAGE in item[1])
        if name.startswith(f'{parent}/') and types & {IMAGE, COMPRESSED}
    }
    names = [name for name in sorted(beside) if '/' not in name and 'depth' not in name]
    usual = [name for name in _USUAL_NAMES if name in names]
    return beside[(usual or names)[0]] if names else ''


def _is_of_interest(name: str, types: Iterable[str]) -> bool:
    return f'{_FOLDER}/' in name or bool({IMAGE, COMPRESSED} & set(types))
