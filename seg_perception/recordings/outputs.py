"""What is said about an image in a recording: the topics and messages of the live node.

The bytes are made by the same functions (`seg_perception.messages`); a test holds both tables
against each other, topic by topic and byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from seg_perception.errors import ConfigurationError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.messages.cdr import blank_image, write_image
from seg_perception.messages.described import write_camera_info, write_detections
from seg_perception.messages.topic_names import topic_tokens
from seg_perception.postprocess import draw_overlay
from seg_perception.postprocess.choosing import chosen_objects
from seg_perception.recordings.cameras import CAMERA_INFO, IMAGE
from seg_perception.structures import U8, ClassTable, Frame, Objects, Segmentation

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

DETECTIONS, LABEL_INFO = 'vision_msgs/msg/Detection2DArray', 'vision_msgs/msg/LabelInfo'
DEFAULT_OUTPUTS = ('labels', 'confidence', 'label_info', 'camera_info', 'objects')
OUTPUT_NAMES = (*DEFAULT_OUTPUTS, 'instances', 'overlay', 'masks/<class>', 'masks/*')

_MASKS = 'masks/'
_FOREVER = (9_223_372_036, 854_775_807)
"""No deadline, as rosbag2 writes it."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The node's parameters of the same names, with the same defaults.

    Attributes:
        object_classes: classes whose regions are objects; ``'*'`` for all but background.
        object_min_area_px: smaller regions are no objects.
        overlay_opacity: of the colours on the overlay.
        overlay_boxes: whether the overlay has a box around each object.
    """

    object_classes: tuple[str, ...] = ('*',)
    object_min_area_px: int = 100
    overlay_opacity: float = 0.5
    overlay_boxes: bool = False


@dataclass(frozen=True)
class ImageResult:
    """All that is said about one image.

    Attributes:
        frame: as it was recorded, decoded.
        segmentation: what the model says about it.
        options: how to say it.
        intrinsics: calibration of the image; None where none was recorded.
    """

    frame: Frame
    segmentation: Segmentation
    options: OutputOptions
    intrinsics: Intrinsics | None = None

    @cached_property
    def objects(self) -> Objects:
        """The objects in the image."""
        return chosen_objects(
            self.segmentation,
            self.options.object_classes,
            min_area_px=self.options.object_min_area_px,
        )

    def image(self, pixels: object, encoding: str) -> U8:
        """A serialised Image with the stamp and frame of the recorded one."""
        stamp_ns, frame_id = self.segmentation.stamp_ns, self.segmentation.frame_id
        return write_image(pixels, encoding, stamp_ns, frame_id)  # type: ignore[arg-type]

    def blank_image(self, num_channels: int, encoding: str) -> tuple[U8, U8]:
        """As `image`, of the labels' size and still to be drawn: the message and its pixels."""
        size_hw = self.segmentation.labels_YX.shape
        shape = size_hw if num_channels == 1 else (*size_hw, num_channels)
        stamp_ns, frame_id = self.segmentation.stamp_ns, self.segmentation.frame_id
        return blank_image(shape, 'u1', encoding, stamp_ns, frame_id)


@dataclass(frozen=True, slots=True)
class OutputTopic:
    """One topic.

    Attributes:
        name: below the camera's namespace.
        message_type: e.g. ``sensor_msgs/msg/Image``.
        make: the serialised message; None where there is nothing to say about this image.
        needs_confidence: whether confidence has to be computed for it.
        needs_objects: whether it is made from single objects.
    """

    name: str
    message_type: str
    make: Callable[[ImageResult], U8 | None]
    needs_confidence: bool = False
    needs_objects: bool = False


def output_topics(
    names: Sequence[str], classes: ClassTable, *, has_confidence: bool
) -> list[OutputTopic]:
    """What to say about each image; ``label_info`` is said once and not among it.

    Args:
        names: of ``OUTPUT_NAMES``.
        classes: the model's.
        has_confidence: whether the model gives scores; without, ``confidence`` is left out.

    Raises:
        ConfigurationError: a name is none, or the model has no class of that name.
    """
    table = {
        'labels': OutputTopic('labels', IMAGE, _labels),
        'camera_info': OutputTopic('camera_info', CAMERA_INFO, _camera_info),
        'confidence': OutputTopic('confidence', IMAGE, _confidence, needs_confidence=True),
    }
    masks = [name.removeprefix(_MASKS) for name in names if name.startswith(_MASKS)]
    for name, token in topic_tokens(classes, masks).items():
        table[f'{_MASKS}{name}'] = OutputTopic(f'{_MASKS}{token}', IMAGE, _mask(name))
    table['overlay'] = OutputTopic('overlay', IMAGE, _overlay, needs_objects=True)
    table['instances'] = OutputTopic('instances', IMAGE, _instances, needs_objects=True)
    table['objects'] = OutputTopic(
        'objects', DETECTIONS, _objects, needs_confidence=True, needs_objects=True
    )
    unknown = [
        name for name in names if name not in table and name not in (f'{_MASKS}*', 'label_info')
    ]
    if unknown or not names:
        raise ConfigurationError(
            f'--outputs: expected some of {", ".join(OUTPUT_NAMES)}, '
            f'got {", ".join(unknown) or "none"}'
        )
    return [
        output
        for name, output in table.items()
        if (name in names or name.startswith(_MASKS)) and (has_confidence or name != 'confidence')
    ]


def output_qos(*, is_latched: bool = False) -> Qos:
    """The profile that the live node offers: reliable, the newest only.

    Args:
        is_latched: whether late joiners get it too, as ``label_info``.
    """
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    forever = QosTime(*_FOREVER)
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if is_latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


def _labels(result: ImageResult) -> U8:
    labels = result.segmentation.labels_YX
    return result.image(labels, 'mono8' if labels.itemsize == 1 else '16UC1')


def _confidence(result: ImageResult) -> U8 | None:
    confidence = result.segmentation.confidence_YX
    return None if confidence is None else result.image(confidence, 'mono8')


def _camera_info(result: ImageResult) -> U8 | None:
    if result.intrinsics is None:
        return None
    height, width = result.segmentation.labels_YX.shape
    return write_camera_info(
        result.intrinsics.resized((width, height)),
        result.segmentation.stamp_ns,
        result.segmentation.frame_id,
    )


def _mask(class_name: str) -> Callable[[ImageResult], U8]:
    def make(result: ImageResult) -> U8:
        message, pixels = result.blank_image(1, 'mono8')
        result.segmentation.mask(class_name, out=pixels)
        return message

    return make


def _overlay(result: ImageResult) -> U8:
    message, pixels = result.blank_image(3, 'rgb8')
    draw_overlay(
        result.frame,
        result.segmentation.labels_YX,
        result.segmentation.classes,
        opacity=result.options.overlay_opacity,
        objects=result.objects if result.options.overlay_boxes else None,
        out=pixels,
    )
    return message


def _instances(result: ImageResult) -> U8:
    return result.image(result.objects.instances_YX, '16UC1')


def _objects(result: ImageResult) -> U8:
    segmentation = result.segmentation
    return write_detections(
        result.objects, segmentation.classes, segmentation.stamp_ns, segmentation.frame_id
    )
