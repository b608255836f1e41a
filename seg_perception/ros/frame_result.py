"""All that the outputs of one frame are made of, each part computed once and only when wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from std_msgs.msg import Header

from seg_perception.geometry import Intrinsics, OrientedBox, object_boxes
from seg_perception.geometry.boxes import LEVEL_CAMERA_UP
from seg_perception.imaging import to_rgb
from seg_perception.messages.cdr import blank_image, write_image
from seg_perception.postprocess.choosing import chosen_objects
from seg_perception.ros.depth import ViewedDepth
from seg_perception.ros.messages import make_header
from seg_perception.ros.mount import F64
from seg_perception.ros.params import Parameters
from seg_perception.structures import (
    U8,
    Frame,
    Objects,
    Segmentation,
)


@dataclass(frozen=True)
class FrameResult:
    """Everything the outputs of one frame are made of.

    Attributes:
        frame: the camera's image.
        segmentation: what the model says about it.
        parameters: the node's, as they are now.
        intrinsics: calibration of the camera's image, None where unknown.
        find_depth: gives the depth of the label image's pixels; None where there is none.
        track: gives objects the ids they had in earlier frames.
        find_pose: gives the 4x4 transform from the camera's optical to the robot's frame; None
            where it is not known.
        count_unsupported: told how many objects depth supports no 3-D box of.
    """

    frame: Frame
    segmentation: Segmentation
    parameters: Parameters = field(default_factory=Parameters)
    intrinsics: Intrinsics | None = None
    find_depth: Callable[[tuple[int, int]], ViewedDepth | None] = lambda _: None
    track: Callable[[Objects], Objects] = lambda objects: objects
    find_pose: Callable[[], F64 | None] = lambda: None
    count_unsupported: Callable[[int], None] = lambda _: None

    @cached_property
    def header(self) -> Header:
        """The input's stamp and frame_id, unchanged."""
        return make_header(self.segmentation.stamp_ns, self.segmentation.frame_id)

    def image(self, pixels: npt.NDArray[np.generic], encoding: str) -> U8:
        """A serialised Image with the input's stamp and frame_id."""
        return write_image(
            pixels, encoding, self.segmentation.stamp_ns, self.segmentation.frame_id
        )

    def mask(self, class_name: str, out: U8 | None = None) -> U8:
        """Where a class is: 255 there, 0 elsewhere; all 0 where nothing has that name now.

        Args:
            class_name: of the class.
            out: written to; new memory where None.
        """
        if class_name in self.segmentation.classes.names:
            return self.segmentation.mask(class_name, out=out)
        mask_YX = np.empty(self.size_hw, np.uint8) if out is None else out
        mask_YX[:] = 0
        return mask_YX

    def blank_image(self, num_channels: int, encoding: str) -> tuple[U8, U8]:
        """As `image`, of the labels' size and still to be drawn: the message and its pixels."""
        shape = self.size_hw if num_channels == 1 else (*self.size_hw, num_channels)
        return blank_image(
            shape, np.uint8, encoding, self.segmentation.stamp_ns, self.segmentation.frame_id
        )

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns of the label image, and of all other images made of it."""
        height, width = self.segmentation.labels_YX.shape
        return height, width

    @cached_property
    def image_rgb(self) -> U8:
        """The camera's image at the size of the labels, (Y, X, 3)."""
        image_rgb = to_rgb(self.frame, max_pixels=self.frame.height * self.frame.width)
        height, width = self.size_hw
        if image_rgb.shape[:2] == (height, width):
            return image_rgb
        resized = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(resized, np.uint8)

    @cached_property
    def objects(self) -> Objects:
        """The model's own objects where it tells them apart, else connected regions.

        Their ids are stable where ``object_tracking`` is on.
        """
        found = chosen_objects(
            self.segmentation,
            self.parameters.object_classes,
            min_area_px=self.parameters.object_min_area_px,
        )
        return self.track(found)

    @cached_property
    def depth(self) -> ViewedDepth | None:
        """The depth image that belongs to this frame; waits for it a little."""
        return self.find_depth(self.size_hw)

    @cached_property
    def base_from_optical(self) -> F64 | None:
        """The camera's pose on the robot."""
        return self.find_pose()

    @cached_property
    def boxes(self) -> Mapping[int, OrientedBox | None]:
        """The 3-D box of each object by its id; None where depth supports none."""
        if self.depth is None:
            return {}
        up_xyz = LEVEL_CAMERA_UP
        if self.base_from_optical is not None:
            x, y, z = self.base_from_optical[2, :3]
            up_xyz = (float(x), float(y), float(z))
        boxes = object_boxes(
            self.depth.grid,
            self.objects.instances_YX,
            up_xyz=up_xyz,
            erosion_px=self.parameters.box_erosion_px,
            min_points=self.parameters.box_min_points,
        )
        self.count_unsupported(sum(box is None for box in boxes.values()))
        return boxes


@dataclass(frozen=True, slots=True)
class Output:
    """One output topic.

    Attributes:
        topic: name below the camera's ``segmentation`` namespace.
        message_type: its message class.
        make: builds the message, serialised or not; None where there is nothing to say about
            this frame.
        needs_confidence: whether confidence has to be computed for it.
        needs_objects: whether it is made from single objects.
        needs_depth: whether it is made from the depth image.
        needs_pose: whether it cannot be made without the camera's pose on the robot.
    """

    topic: str
    message_type: Any
    make: Callable[[FrameResult], Any | None]
    needs_confidence: bool = field(default=False)
    needs_objects: bool = field(default=False)
    needs_depth: bool = field(default=False)
    needs_pose: bool = field(default=False)
