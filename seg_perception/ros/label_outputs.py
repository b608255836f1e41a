"""Outputs that say what every pixel is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sensor_msgs.msg import CameraInfo, Image

from seg_perception.messages.described import write_camera_info, write_label_info
from seg_perception.postprocess import draw_overlay
from seg_perception.ros.frame_result import FrameResult, Output
from seg_perception.structures import U8, Frame


def label_outputs(
    mask_tokens: Mapping[str, str], *, has_confidence: bool, label_info_sync: bool
) -> list[Output]:
    """Labels, what describes them, and pictures made of them.

    Args:
        mask_tokens: classes with a mask of their own, and their part of the topic's name.
        has_confidence: whether the model gives scores.
        label_info_sync: whether the class table goes out with every frame.
    """
    outputs = [
        Output('labels', Image, _labels),
        Output('camera_info', CameraInfo, _camera_info),
    ]
    if has_confidence:
        outputs.append(Output('confidence', Image, _confidence, needs_confidence=True))
    if label_info_sync:
        from vision_msgs.msg import LabelInfo

        outputs.append(Output('label_info_sync', LabelInfo, _label_info_sync))
    for name, token in mask_tokens.items():
        outputs.append(Output(f'masks/{token}', Image, _mask(name)))
    # Last: people have more time than robots.
    return [*outputs, Output('overlay', Image, _overlay, needs_objects=True)]


def _labels(result: FrameResult) -> U8:
    labels = result.segmentation.labels_YX
    return result.image(labels, 'mono8' if labels.itemsize == 1 else '16UC1')


def _confidence(result: FrameResult) -> U8 | None:
    confidence = result.segmentation.confidence_YX
    return None if confidence is None else result.image(confidence, 'mono8')


def _overlay(result: FrameResult) -> U8:
    message, pixels = result.blank_image(3, 'rgb8')
    draw_overlay(
        Frame.from_array(result.image_rgb),  # converted once for all outputs
        result.segmentation.labels_YX,
        result.segmentation.classes,
        opacity=result.parameters.overlay_opacity,
        objects=result.objects if result.parameters.overlay_boxes else None,
        out=pixels,
    )
    return message


def _camera_info(result: FrameResult) -> U8 | None:
    if result.intrinsics is None:
        return None
    height, width = result.size_hw
    segmentation = result.segmentation
    return write_camera_info(
        result.intrinsics.resized((width, height)), segmentation.stamp_ns, segmentation.frame_id
    )


def _label_info_sync(result: FrameResult) -> U8:
    segmentation = result.segmentation
    return write_label_info(
        segmentation.classes,
        result.parameters.confidence_threshold,
        segmentation.stamp_ns,
        segmentation.frame_id,
    )


def _mask(class_name: str) -> Callable[[FrameResult], U8]:
    def make(result: FrameResult) -> U8:
        message, pixels = result.blank_image(1, 'mono8')
        result.mask(class_name, out=pixels)
        return message

    return make
