"""Outputs about single things: objects in the image, and in space where depth is there."""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from seg_perception.geometry import POINT_DTYPE, organised_points, selected_points
from seg_perception.messages.described import write_detections
from seg_perception.ros.frame_result import FrameResult, Output
from seg_perception.ros.messages import to_byte_array
from seg_perception.ros.object_messages import (
    boxes_to_detections,
    boxes_to_markers,
    points_to_cloud,
)
from seg_perception.structures import U8


def object_outputs() -> list[Output]:
    """Objects in the image; they need no depth."""
    from vision_msgs.msg import Detection2DArray

    return [
        Output('instances', Image, _instances, needs_objects=True),
        Output('objects', Detection2DArray, _objects, needs_confidence=True, needs_objects=True),
    ]


def depth_outputs(tokens: Mapping[str, str], *, has_confidence: bool) -> list[Output]:
    """Points, and objects in space.

    Args:
        tokens: classes with a cloud of their own, and their part of the topic's name.
        has_confidence: whether the model gives scores.
    """
    from vision_msgs.msg import Detection3DArray

    outputs = [
        Output(
            'points',
            PointCloud2,
            _Points(has_confidence=has_confidence),
            needs_confidence=True,
            needs_objects=True,
            needs_depth=True,
        ),
        Output(
            'objects_3d',
            Detection3DArray,
            _objects_3d,
            needs_confidence=True,
            needs_objects=True,
            needs_depth=True,
        ),
        Output('markers', MarkerArray, _markers, needs_objects=True, needs_depth=True),
    ]
    for name, token in tokens.items():
        outputs.append(
            Output(
                f'points/{token}',
                PointCloud2,
                _class_points(name, has_confidence=has_confidence),
                needs_confidence=True,
                needs_objects=True,
                needs_depth=True,
            )
        )
    return outputs


def _instances(result: FrameResult) -> U8:
    return result.image(result.objects.instances_YX, '16UC1')


def _objects(result: FrameResult) -> U8:
    segmentation = result.segmentation
    return write_detections(
        result.objects, segmentation.classes, segmentation.stamp_ns, segmentation.frame_id
    )


def _objects_3d(result: FrameResult) -> Any | None:
    if result.depth is None:
        return None
    return boxes_to_detections(
        result.objects, result.boxes, result.segmentation.classes, result.header
    )


def _markers(result: FrameResult) -> MarkerArray | None:
    if result.depth is None:
        return None
    return boxes_to_markers(
        result.objects, result.boxes, result.segmentation.classes, result.header
    )


class _Points:
    """The organised cloud, in memory that is used again for the next one of its size."""

    def __init__(self, *, has_confidence: bool) -> None:
        self._has_confidence = has_confidence
        self._data = array.array('B')

    def __call__(self, result: FrameResult) -> PointCloud2 | None:
        if result.depth is None:
            return None
        height, width = result.size_hw
        if len(self._data) != height * width * POINT_DTYPE.itemsize:
            self._data = array.array('B', bytes(height * width * POINT_DTYPE.itemsize))
        points_YX = np.frombuffer(self._data, POINT_DTYPE).reshape(height, width)
        organised_points(
            result.depth.grid,
            result.segmentation.labels_YX,
            result.image_rgb,
            instances_YX=result.objects.instances_YX,
            confidence_YX=result.segmentation.confidence_YX,
            out=points_YX,
        )
        return points_to_cloud(
            self._data, (height, width), result.header, has_confidence=self._has_confidence
        )


def _class_points(
    class_name: str, *, has_confidence: bool
) -> Callable[[FrameResult], PointCloud2 | None]:
    def make(result: FrameResult) -> PointCloud2 | None:
        mask_YX = result.mask(class_name)
        return masked_points(result, mask_YX, has_confidence=has_confidence)

    return make


def masked_points(result: FrameResult, mask_YX: U8, *, has_confidence: bool) -> PointCloud2 | None:
    """An unorganised cloud of the pixels where a mask is not 0; None without depth."""
    if result.depth is None:
        return None
    points_N = selected_points(
        result.depth.grid,
        mask_YX,
        result.segmentation.labels_YX,
        result.image_rgb,
        instances_YX=result.objects.instances_YX,
        confidence_YX=result.segmentation.confidence_YX,
    )
    return points_to_cloud(
        to_byte_array(points_N.view(np.uint8)),
        points_N.shape,
        result.header,
        has_confidence=has_confidence,
    )
