"""Definitions of message types, for recordings that carry them so that any tool can read them.

The definitions of vision_msgs are those of its release 4.1.1, which the rosbags library does not
bring; the tests compare them with the ones that the node is built with.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from seg_perception.errors import MissingExtraError

if TYPE_CHECKING:
    from rosbags.interfaces import Connection, MessageDefinition
    from rosbags.typesys.store import Typestore

VISION_MSGS = {
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name\n',
    'vision_msgs/msg/LabelInfo': (
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
    ),
    'vision_msgs/msg/Point2D': 'float64 x\nfloat64 y\n',
    'vision_msgs/msg/Pose2D': 'vision_msgs/Point2D position\nfloat64 theta\n',
    'vision_msgs/msg/BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'vision_msgs/msg/ObjectHypothesisWithPose': (
        'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n'
    ),
    'vision_msgs/msg/Detection2D': (
        'std_msgs/Header header\n'
        'vision_msgs/ObjectHypothesisWithPose[] results\n'
        'vision_msgs/BoundingBox2D bbox\n'
        'string id\n'
    ),
    'vision_msgs/msg/Detection2DArray': (
        'std_msgs/Header header\nvision_msgs/Detection2D[] detections\n'
    ),
}


def require_rosbags() -> None:
    """Checks that the library is there.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import rosbags  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('rosbags', 'bag', 'read and write recordings') from error


@cache
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy and of vision_msgs."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION_MSGS.items():
        store.register(get_types_from_msg(text, name))
    return store


@cache
def definition_of(message_type: str) -> tuple[MessageDefinition, str]:
    """Definition and hash (RIHS01) of a type; empty ones where `typestore` does not know it."""
    from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

    if message_type not in typestore().fielddefs:
        return MessageDefinition(MessageDefinitionFormat.NONE, ''), ''
    text, _ = typestore().generate_msgdef(message_type, ros_version=2)
    return (
        MessageDefinition(MessageDefinitionFormat.MSG, text),
        typestore().hash_rihs01(message_type),
    )


def recorded_definition(connection: Connection) -> tuple[MessageDefinition, str]:
    """Definition and hash of a recorded topic's type: its own, else as ROS 2 Jazzy has them.

    Both are empty where neither says anything, as with types of one's own in recordings older
    than Iron.
    """
    from rosbags.interfaces import MessageDefinitionFormat

    definition, digest = connection.msgdef, connection.digest
    if definition.format == MessageDefinitionFormat.NONE:
        definition, known = definition_of(connection.msgtype)
        return definition, digest or known
    return definition, digest or _hash_of(connection.msgtype, definition)


@cache
def _hash_of(message_type: str, definition: MessageDefinition) -> str:
    """The hash of a type that is defined by a text; empty where the text cannot be read."""
    from rosbags.interfaces import MessageDefinitionFormat
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    if definition.format != MessageDefinitionFormat.MSG:
        return ''  # IDL comes in two forms; readers do without the hash
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_msg(definition.data, message_type))
        return store.hash_rihs01(message_type)
    except Exception:  # the library's own, and what odd texts lead it to
        return ''
