"""What the node publishes for one camera: one table of outputs, each made only when wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions

from seg_perception.messages.described import write_label_info
from seg_perception.messages.topic_names import topic_tokens
from seg_perception.postprocess.choosing import object_class_ids
from seg_perception.ros import qos
from seg_perception.ros.frame_result import FrameResult, Output
from seg_perception.ros.grasp_outputs import grasp_outputs
from seg_perception.ros.label_outputs import label_outputs
from seg_perception.ros.navigation_outputs import navigation_outputs
from seg_perception.ros.object_outputs import depth_outputs, object_outputs
from seg_perception.ros.params import CameraParameters, Parameters
from seg_perception.ros.serialized import publish_serialized
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


Offered = Mapping[str, tuple[Output, Publisher]]
"""Outputs by topic, and what publishes them."""


class CameraOutputs:
    """The publishers of one camera.

    Args:
        node: the node that publishes.
        namespace: where the topics live, e.g. ``/front/segmentation``.
        classes: the model's classes, published once on the latched ``label_info``.
        outputs: what to publish of each frame, from `output_table`.
        labels_from: the model that makes the labels, until a frame says another one.
        threshold: tells the confidence threshold that holds now.
    """

    def __init__(
        self,
        node: Node,
        namespace: str,
        classes: ClassTable,
        outputs: Sequence[Output],
        labels_from: str = '',
        threshold: Callable[[], float] = lambda: 0.0,
    ) -> None:
        from vision_msgs.msg import LabelInfo

        self._node = node
        self._namespace = namespace
        self._classes = classes
        self._label_info = node.create_publisher(
            LabelInfo, f'{namespace}/label_info', qos.latched()
        )
        self._label_info_lock = threading.Lock()
        self._label_info_stamp_ns = 0
        self._labels_from = labels_from
        self._threshold = threshold
        self._last_stamp_ns = 0
        self._publishers: dict[tuple[str, Any], Publisher] = {}
        self._offered: Offered = {}
        self._offered = self.prepare(outputs)

    def prepare(self, outputs: Sequence[Output]) -> Offered:
        """Publishers for another table, for `exchange`; topics that stay keep theirs.

        Raises:
            Exception: rclpy's own, where a publisher cannot be made; then none is.
        """
        made = []
        try:
            for output in outputs:
                key = (output.topic, output.message_type)
                if key not in self._publishers:
                    self._publishers[key] = self._node.create_publisher(
                        output.message_type,
                        f'{self._namespace}/{output.topic}',
                        qos.output(),
                        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                    )
                    made.append(key)
        except Exception:
            for key in made:
                self._node.destroy_publisher(self._publishers.pop(key))
            raise
        return {o.topic: (o, self._publishers[o.topic, o.message_type]) for o in outputs}

    def exchange(self, classes: ClassTable, offered: Offered, now_ns: int) -> None:
        """Goes on with another table, where the frame before is published and none begun.

        Where the classes are new ones, they are published first.

        Args:
            classes: the model's from now on.
            offered: from `prepare`.
            now_ns: the node's time.
        """
        if classes != self._classes:
            with self._label_info_lock:
                self._classes = classes
            self.publish_label_info(max(now_ns, self._last_stamp_ns + 1))
        self._offered = offered

    def tidy(self) -> None:
        """Removes publishers of topics that are not offered any more."""
        kept = {id(publisher) for _, publisher in self._offered.values()}
        for key, publisher in list(self._publishers.items()):
            if id(publisher) not in kept:
                del self._publishers[key]
                self._node.destroy_publisher(publisher)

    @property
    def labels_from(self) -> str:
        """The model that made the last labels, or is to make the first."""
        return self._labels_from

    def wanted(self) -> frozenset[str]:
        """The topics somebody listens to now."""
        return frozenset(
            topic for topic, (_, publisher) in self._offered.items() if _has_listener(publisher)
        )

    def is_wanted(self) -> bool:
        """Whether somebody listens to any topic now."""
        return any(_has_listener(publisher) for _, publisher in self._offered.values())

    def needs_confidence(self, topics: frozenset[str]) -> bool:
        """Whether any of these topics is made from confidence."""
        return any(
            output.needs_confidence
            for topic, (output, _) in self._offered.items()
            if topic in topics
        )

    def needs_objects(self, topics: frozenset[str]) -> bool:
        """Whether any of these topics is made from single objects."""
        return any(
            output.needs_objects for topic, (output, _) in self._offered.items() if topic in topics
        )

    def needs_depth(self, topics: frozenset[str]) -> bool:
        """Whether any of these topics is made from depth."""
        return any(
            output.needs_depth for topic, (output, _) in self._offered.items() if topic in topics
        )

    def publish(
        self, result: FrameResult, topics: frozenset[str]
    ) -> tuple[int, dict[str, Exception]]:
        """Makes and publishes the messages of one frame; a failing one does not stop the others.

        Returns:
            How many messages went out, and what went wrong by topic.
        """
        stamp_ns = self._last_stamp_ns = result.segmentation.stamp_ns
        is_new = (
            result.segmentation.classes != self._classes  # the names of other prompts than before
            or result.segmentation.model != self._labels_from
        )
        if is_new:
            with self._label_info_lock:
                self._classes = result.segmentation.classes
                self._labels_from = result.segmentation.model
        if is_new or stamp_ns < self._label_info_stamp_ns:
            # The class table holds for what is stamped as it or later; so shall it be.
            self.publish_label_info(stamp_ns)
        num_published = 0
        errors: dict[str, Exception] = {}
        for topic, (output, publisher) in self._offered.items():
            if topic not in topics:
                continue
            try:
                message = output.make(result)
                if message is not None:
                    _send(publisher, message)
                    num_published += 1
            except Exception as error:
                errors[topic] = error
        return num_published, errors

    def publish_label_info(self, stamp_ns: int) -> None:
        """Publishes the class table for those who are there and those who come later.

        It holds for labels of this stamp or later ones, up to that of the next table. Its
        ``frame_id`` is the name of the model that makes them.
        """
        with self._label_info_lock:
            self._label_info_stamp_ns = stamp_ns
            message = write_label_info(
                self._classes, self._threshold(), stamp_ns, self._labels_from
            )
            publish_serialized(self._label_info, message)

    def destroy(self) -> None:
        """Removes the publishers."""
        self._node.destroy_publisher(self._label_info)
        self._offered = {}
        self.tidy()


def _send(publisher: Publisher, message: Any) -> None:
    if isinstance(message, np.ndarray):
        publish_serialized(publisher, message)
    else:
        publisher.publish(message)


def _has_listener(publisher: Publisher) -> bool:
    try:
        return bool(publisher.get_subscription_count() > 0)
    except InvalidHandle:  # removed by another thread just now
        return False
