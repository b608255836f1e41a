"""What the node publishes for one camera: one table of outputs, each made only when wanted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions

from seg_perception.ros import qos
from seg_perception.ros.frame_result import FrameResult, Output, object_class_ids
from seg_perception.ros.grasp_outputs import grasp_outputs
from seg_perception.ros.label_outputs import label_outputs
from seg_perception.ros.messages import class_table_to_label_info, make_header
from seg_perception.ros.navigation_outputs import navigation_outputs
from seg_perception.ros.object_outputs import depth_outputs, object_outputs
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.structures import ClassTable


def output_table(
    classes: ClassTable,
    parameters: Parameters,
    camera: CameraParameters,
    *,
    has_confidence: bool,
) -> list[Output]:
    """The outputs of a camera, in the order in which they are made.

    Those that wait for depth come last. Some keep memory between frames: every camera needs a
    table of its own.

    Args:
        classes: the model's classes.
        parameters: the node's.
        camera: the camera's.
        has_confidence: whether the model gives scores.

    Raises:
        ConfigurationError: the model has no class of a given name, or a grid that cannot be.
    """
    object_class_ids(classes, parameters.object_classes)
    has_depth = bool(camera.depth_topic)
    outputs = [
        *label_outputs(
            topic_tokens(classes, parameters.mask_classes),
            has_confidence=has_confidence,
            label_info_sync=parameters.label_info_sync,
        ),
        *object_outputs(),
        *navigation_outputs(
            classes, parameters, has_depth=has_depth, is_rectified=camera.is_rectified
        ),
        *grasp_outputs(has_depth=has_depth, has_confidence=has_confidence),
    ]
    if has_depth:
        tokens = topic_tokens(classes, parameters.point_classes)
        outputs += depth_outputs(tokens, has_confidence=has_confidence)
    return sorted(outputs, key=lambda output: output.needs_depth)


def topic_tokens(classes: ClassTable, names: Sequence[str]) -> dict[str, str]:
    """What stands for classes in topic names.

    Args:
        classes: the model's.
        names: classes; ``'*'`` for all, ``''`` is ignored.

    Raises:
        ConfigurationError: the model has no class of a given name.
    """
    chosen = classes.names if '*' in names else [name for name in names if name]
    times = Counter(topic_token(name) for name in classes.names)
    tokens = {}
    for name in chosen:
        class_id, token = classes.id_of(name), topic_token(name)
        tokens[name] = token if times[token] == 1 else f'{token}_{class_id}'
    return tokens


def topic_token(class_name: str) -> str:
    """A class name as part of a topic name: ``'dining table'`` becomes ``'dining_table'``.

    Where several classes of a model give the same token, their ids are added to the topics.
    """
    token = re.sub(r'[^A-Za-z0-9]+', '_', class_name).strip('_') or 'class'
    return f'class_{token}' if token[0].isdigit() else token


class CameraOutputs:
    """The publishers of one camera.

    Args:
        node: the node that publishes.
        namespace: where the topics live, e.g. ``/front/segmentation``.
        classes: the model's classes, published once on the latched ``label_info``.
        outputs: what to publish of each frame, from `output_table`.
    """

    def __init__(
        self, node: Node, namespace: str, classes: ClassTable, outputs: list[Output]
    ) -> None:
        from vision_msgs.msg import LabelInfo

        self._node = node
        self._classes = classes
        self._label_info = node.create_publisher(
            LabelInfo, f'{namespace}/label_info', qos.latched()
        )
        self._outputs: Mapping[str, Output] = {output.topic: output for output in outputs}
        self._publishers: dict[str, Publisher] = {
            topic: node.create_publisher(
                output.message_type,
                f'{namespace}/{topic}',
                qos.output(),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for topic, output in self._outputs.items()
        }

    def wanted(self) -> frozenset[str]:
        """The topics somebody listens to now."""
        return frozenset(
            topic
            for topic, publisher in self._publishers.items()
            if publisher.get_subscription_count() > 0
        )

    def needs_confidence(self, topics: frozenset[str]) -> bool:
        """Whether any of these topics is made from confidence."""
        return any(self._outputs[topic].needs_confidence for topic in topics)

    def needs_objects(self, topics: frozenset[str]) -> bool:
        """Whether any of these topics is made from single objects."""
        return any(self._outputs[topic].needs_objects for topic in topics)

    def needs_depth(self, topics: frozenset[str]) -> bool:
        """Whether any of these topics is made from depth."""
        return any(self._outputs[topic].needs_depth for topic in topics)

    def publish(
        self, result: FrameResult, topics: frozenset[str]
    ) -> tuple[int, dict[str, Exception]]:
        """Makes and publishes the messages of one frame; a failing one does not stop the others.

        Returns:
            How many messages went out, and what went wrong by topic.
        """
        num_published = 0
        errors: dict[str, Exception] = {}
        for topic in self._outputs:
            if topic not in topics:
                continue
            try:
                message = self._outputs[topic].make(result)
                if message is not None:
                    self._publishers[topic].publish(message)
                    num_published += 1
            except Exception as error:
                errors[topic] = error
        return num_published, errors

    def publish_label_info(self, threshold: float, stamp_ns: int) -> None:
        """Publishes the class table for those who are there and those who come later."""
        header = make_header(stamp_ns, '')
        self._label_info.publish(class_table_to_label_info(self._classes, threshold, header))

    def destroy(self) -> None:
        """Removes the publishers."""
        self._node.destroy_publisher(self._label_info)
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}
