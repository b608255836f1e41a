"""What grasp planners ask for: one target's mask and points, and the depth image without it.

The target is the parameter ``grasp_target``: a class, or the id of an object. With ``~/segment``
one bundle is made on request; all of a bundle have one stamp.
"""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from seg_perception.geometry import depth_samples
from seg_perception.messages.described import write_camera_info
from seg_perception.ros.frame_result import FrameResult, Output
from seg_perception.ros.object_outputs import masked_points
from seg_perception.structures import U8


def grasp_outputs(*, has_depth: bool, has_confidence: bool) -> list[Output]:
    """The bundle; without depth it is the mask alone."""
    outputs = [Output('grasp/mask', Image, _mask, needs_objects=True)]
    if has_depth:

        def points(result: FrameResult) -> PointCloud2 | None:
            mask_YX = _target_mask(result)
            if mask_YX is None:
                return None
            return masked_points(result, mask_YX, has_confidence=has_confidence)

        outputs += [
            Output(
                'grasp/points',
                PointCloud2,
                points,
                needs_confidence=True,
                needs_objects=True,
                needs_depth=True,
            ),
            Output(
                'grasp/depth',
                Image,
                _depth_without_target,
                needs_objects=True,
                needs_depth=True,
            ),
            Output('grasp/camera_info', CameraInfo, _depth_camera_info, needs_depth=True),
        ]
    return outputs


def is_class_name(target: str) -> bool:
    """Whether a target is a class, rather than the id of an object or none."""
    return bool(target) and not target.isdecimal()


def _target_mask(result: FrameResult) -> U8 | None:
    """255 where the target is; None where none is chosen or it is not in the image."""
    target = result.parameters.grasp_target
    if not target:
        return None
    if is_class_name(target):
        mask_YX = result.mask(target)
        return mask_YX if mask_YX.any() else None
    if int(target) not in (item.id for item in result.objects.items):
        return None
    return result.objects.mask(int(target))


def _mask(result: FrameResult) -> U8 | None:
    mask_YX = _target_mask(result)
    return None if mask_YX is None else result.image(mask_YX, 'mono8')


def _depth_without_target(result: FrameResult) -> U8 | None:
    """The depth image as it came, but invalid (REP 118) on the target and a little around it."""
    mask_YX = _target_mask(result)
    if mask_YX is None or result.depth is None:
        return None
    frame = result.depth.frame
    samples_VU = depth_samples(frame).copy()
    removed_VU = cv2.resize(
        mask_YX, (frame.width, frame.height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    if padding_px := result.parameters.grasp_padding_px:
        size = 2 * padding_px + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        removed_VU = cv2.dilate(removed_VU, kernel)
    samples_VU[removed_VU > 0] = 0 if samples_VU.dtype.kind == 'u' else np.nan
    # MoveIt does not know the other name of millimetres.
    return result.image(samples_VU, '32FC1' if frame.encoding == '32FC1' else '16UC1')


def _depth_camera_info(result: FrameResult) -> U8 | None:
    """Describes ``grasp/depth``, beside which consumers look for it."""
    if result.depth is None or result.intrinsics is None or _target_mask(result) is None:
        return None
    size_wh = (result.depth.frame.width, result.depth.frame.height)
    segmentation = result.segmentation
    return write_camera_info(
        result.intrinsics.resized(size_wh), segmentation.stamp_ns, segmentation.frame_id
    )
