"""What CameraInfo says, of rclpy's messages and of those in recordings alike."""

from __future__ import annotations

from typing import Any

from seg_perception.geometry.intrinsics import Intrinsics


def camera_info_to_intrinsics(message: Any) -> Intrinsics:
    """The calibration of the image as published: binning and ROI of the sensor applied.

    CameraInfo's matrices describe the full sensor; an image with binning or a region of interest
    shows a part of it at lower resolution (see the comments of sensor_msgs/CameraInfo).
    """
    roi = message.roi
    # ROS 1 spells the matrices in capitals.
    d, k, r, p = (
        [float(v) for v in getattr(message, name, getattr(message, name.upper(), ()))]
        for name in 'dkrp'
    )
    width, height = int(message.width), int(message.height)
    left, top = int(roi.x_offset), int(roi.y_offset)
    cropped_wh = (int(roi.width) or width, int(roi.height) or height)
    binning = (max(int(message.binning_x), 1), max(int(message.binning_y), 1))
    k[2], k[5] = k[2] - left * k[8], k[5] - top * k[8]
    p[2], p[6] = p[2] - left * p[10], p[6] - top * p[10]
    cropped = Intrinsics(
        size_wh=cropped_wh,
        k=tuple(k),
        p=tuple(p),
        distortion_model=message.distortion_model,
        d=tuple(d),
        r=tuple(r),
    )
    return cropped.binned(binning)
