"""The ROS graph as the doctor wants to see it."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from seg_perception.ros.doctor.wiring import CAMERA_INFO, COMPRESSED, IMAGE, Publisher

_OF_INTEREST = frozenset({IMAGE, COMPRESSED, CAMERA_INFO})


def publishers_of(node: Node, topic: str) -> tuple[Publisher, ...]:
    """Who publishes on a topic."""
    return tuple(
        Publisher(
            f'{info.node_namespace.rstrip("/")}/{info.node_name}',
            info.topic_type,
            info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
        )
        for info in node.get_publishers_info_by_topic(topic)
    )


def topics_of(node: Node, wanted: set[str]) -> dict[str, tuple[Publisher, ...]]:
    """Who publishes on the topics wanted, and on all others of images and calibrations."""
    others = {
        name for name, types in node.get_topic_names_and_types() if _OF_INTEREST & set(types)
    }
    return {topic: publishers_of(node, topic) for topic in sorted(wanted | others)}
