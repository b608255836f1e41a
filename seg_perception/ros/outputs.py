"""What the node publishes for one camera: one table of outputs, each made only when wanted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from seg_perception.geometry import Intrinsics
from seg_perception.imaging import to_rgb
from seg_perception.postprocess import draw_overlay
from seg_perception.ros import qos
from seg_perception.ros.cdr import write_image
from seg_perception.ros.messages import (
    class_table_to_label_info,
    intrinsics_to_camera_info,
    make_header,
)
from seg_perception.structures import ClassTable, Frame, Segmentation


@dataclass(frozen=True)
class FrameResult:
    """Everything the outputs of one frame are made of.

    Attributes:
        frame: the camera's image.
        segmentation: what the model says about it.
        intrinsics: calibration of the camera's image, None where unknown.
        overlay_opacity: opacity of the overlay's colours.
        threshold: probability below which pixels were left unlabelled.
    """

    frame: Frame
    segmentation: Segmentation
    intrinsics: Intrinsics | None = None
    overlay_opacity: float = 0.5
    threshold: float = 0.0

    @cached_property
    def header(self) -> Header:
        """The input's stamp and frame_id, unchanged."""
        return make_header(self.segmentation.stamp_ns, self.segmentation.frame_id)

    def image(self, pixels: npt.NDArray[np.generic], encoding: str) -> bytes:
        """A serialised Image with the input's stamp and frame_id."""
        return write_image(
            pixels, encoding, self.segmentation.stamp_ns, self.segmentation.frame_id
        )


@dataclass(frozen=True, slots=True)
class Output:
    """One output topic.

    Attributes:
        topic: name below the camera's ``segmentation`` namespace.
        message_type: its message class.
        make: builds the message, serialised or not; None where there is nothing to say about
            this frame.
        needs_confidence: whether confidence has to be computed for it.
    """

    topic: str
    message_type: Any
    make: Callable[[FrameResult], Any | None]
    needs_confidence: bool = field(default=False)


def _labels(result: FrameResult) -> bytes:
    labels = result.segmentation.labels_YX
    return result.image(labels, 'mono8' if labels.itemsize == 1 else '16UC1')


def _confidence(result: FrameResult) -> bytes | None:
    confidence = result.segmentation.confidence_YX
    return None if confidence is None else result.image(confidence, 'mono8')


def _overlay(result: FrameResult) -> bytes:
    picture = draw_overlay(
        to_rgb(result.frame, max_pixels=result.frame.height * result.frame.width),
        result.segmentation.labels_YX,
        result.segmentation.classes,
        opacity=result.overlay_opacity,
    )
    return result.image(picture, 'rgb8')


def _camera_info(result: FrameResult) -> CameraInfo | None:
    if result.intrinsics is None:
        return None
    height, width = result.segmentation.labels_YX.shape
    return intrinsics_to_camera_info(result.intrinsics.resized((width, height)), result.header)


def _label_info_sync(result: FrameResult) -> Any:
    return class_table_to_label_info(result.segmentation.classes, result.threshold, result.header)


def _mask(class_name: str) -> Callable[[FrameResult], bytes]:
    def make(result: FrameResult) -> bytes:
        return result.image(result.segmentation.mask(class_name), 'mono8')

    return make


def output_table(
    classes: ClassTable,
    mask_classes: tuple[str, ...],
    *,
    has_confidence: bool,
    label_info_sync: bool,
) -> list[Output]:
    """The outputs of a camera.

    Args:
        classes: the model's classes.
        mask_classes: names of the classes that get a mask; ``'*'`` for all, ``''`` is ignored.
        has_confidence: whether the model gives scores.
        label_info_sync: whether the class table goes out with every frame.

    Raises:
        ConfigurationError: the model has no class of a given name.
    """
    outputs = [
        Output('labels', Image, _labels),
        Output('overlay', Image, _overlay),
        Output('camera_info', CameraInfo, _camera_info),
    ]
    if has_confidence:
        outputs.append(Output('confidence', Image, _confidence, needs_confidence=True))
    if label_info_sync:
        from vision_msgs.msg import LabelInfo

        outputs.append(Output('label_info_sync', LabelInfo, _label_info_sync))
    names = classes.names if '*' in mask_classes else [name for name in mask_classes if name]
    tokens = Counter(topic_token(name) for name in classes.names)
    for name in dict.fromkeys(names):
        class_id, token = classes.id_of(name), topic_token(name)
        topic = f'masks/{token}' if tokens[token] == 1 else f'masks/{token}_{class_id}'
        outputs.append(Output(topic, Image, _mask(name)))
    return outputs


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
