"""Draws what is known of one camera: its image, labels, confidence, objects, points and boxes.

Legend: Y/X label pixels, N points or objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.geometry import Intrinsics
from seg_perception.ros.view.recording import Recording
from seg_perception.ros.view.rerun_sdk import load_rerun
from seg_perception.structures import BACKGROUND_NAMES, U8, ClassTable, Labels

MIN_SHARE = 0.002
"""Classes that cover less of the image are not plotted until they cover more."""
_TINT = 0.5
"""How much of a point's colour is its class's."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object as its message says it.

    Attributes:
        name: its class.
        track: its id.
        score: 0 to 1.
        box_xyxy_px: left, top, right, bottom edge, pixels of the label image; None in space.
        center_xyz_m: middle of its box in the camera's frame; None in the image.
        size_xyz_m: extent of its box along its own axes.
        quaternion_xyzw: of its box's axes.
    """

    name: str
    track: str
    score: float
    box_xyxy_px: tuple[float, float, float, float] | None = None
    center_xyz_m: tuple[float, float, float] | None = None
    size_xyz_m: tuple[float, float, float] | None = None
    quaternion_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Look:
    """How much is drawn.

    Attributes:
        max_side_px: larger images are drawn smaller.
        max_points: larger clouds are thinned out.
        jpeg_quality: of camera images, 1 to 100; 0 for images that are not compressed, which any
            browser shows at once.
    """

    max_side_px: int = 1280
    max_points: int = 60_000
    jpeg_quality: int = 0


class CameraScene:
    """Draws one camera's frames.

    Args:
        recording: where.
        name: the camera's, part of all paths.
        look: how much.
    """

    def __init__(self, recording: Recording, name: str, look: Look) -> None:
        self._rr, _ = load_rerun()
        self._recording, self._name, self._look = recording, name, look
        self._classes = ClassTable(('background',))
        self._is_shown = np.zeros(1, bool)
        self._is_named = False
        self._plotted: set[int] = set()
        self._labels_hw: tuple[int, int] | None = None
        self._intrinsics: Intrinsics | None = None
        recording.draw_always([name], self._rr.ViewCoordinates.RDF)

    @property
    def classes(self) -> ClassTable:
        """What is known of the classes."""
        return self._classes

    def name_classes(self, classes: ClassTable) -> None:
        """Takes another class table from now on."""
        if classes == self._classes and self._is_named:
            return
        self._classes, self._is_named = classes, True
        self._is_shown = np.array([name not in BACKGROUND_NAMES for name in classes.names])
        described = [
            self._rr.AnnotationInfo(i, label=name, color=(*color, 255 if is_shown else 0))
            for i, (name, color, is_shown) in enumerate(
                zip(classes.names, classes.colors_rgb, self._is_shown.tolist(), strict=True)
            )
        ]
        described.append(
            self._rr.AnnotationInfo(classes.unlabeled_id, label='unlabelled', color=(0, 0, 0, 0))
        )
        self._recording.draw_always([self._name], self._rr.AnnotationContext(described))
        self._plotted.clear()

    def draw_image(self, stamp_ns: int, image_rgb: U8) -> None:
        """The camera's image, (rows, columns, 3), at the size of the labels where those came."""
        size_hw = self._drawn_hw(self._labels_hw or image_rgb.shape[:2])
        image_rgb = _resized(image_rgb, size_hw, cv2.INTER_AREA)
        self._recording.draw(
            [self._name, 'camera', 'image'],
            stamp_ns,
            self._as_jpeg(image_rgb) if self._look.jpeg_quality else self._as_planes(image_rgb),
        )

    def draw_labels(self, stamp_ns: int, labels_YX: Labels) -> None:
        """The label image, and the shares of the classes."""
        self._labels_hw = labels_YX.shape
        size_hw = self._drawn_hw(labels_YX.shape)
        drawn_YX = np.ascontiguousarray(_resized(labels_YX, size_hw, cv2.INTER_NEAREST))
        image = self._rr.SegmentationImage(drawn_YX, opacity=0.55)
        self._recording.draw([self._name, 'camera', 'labels'], stamp_ns, image)
        self._draw_shares(stamp_ns, drawn_YX)

    def draw_confidence(self, stamp_ns: int, confidence_YX: U8) -> None:
        """The confidence of each pixel, from blue to yellow."""
        size_hw = self._drawn_hw(confidence_YX.shape)
        drawn_YX = np.ascontiguousarray(_resized(confidence_YX, size_hw, cv2.INTER_AREA))
        image = self._rr.DepthImage(
            drawn_YX, meter=255.0, colormap='viridis', depth_range=(0, 255)
        )
        self._recording.draw([self._name, 'camera', 'confidence'], stamp_ns, image)

    def draw_objects(self, stamp_ns: int, things: Sequence[Thing]) -> None:
        """Boxes in the image with class, id and score."""
        boxed = [thing for thing in things if thing.box_xyxy_px is not None]
        scale_yx = np.ones(2)
        if self._labels_hw is not None:
            scale_yx = np.divide(self._drawn_hw(self._labels_hw), self._labels_hw)
        boxes_N4 = np.array([t.box_xyxy_px for t in boxed], np.float32).reshape(-1, 4)
        boxes = self._rr.Boxes2D(
            array=boxes_N4 * np.tile(scale_yx[::-1], 2),
            array_format=self._rr.Box2DFormat.XYXY,
            **self._described(boxed),
        )
        self._recording.draw([self._name, 'camera', 'objects'], stamp_ns, boxes)

    def draw_boxes(self, stamp_ns: int, things: Sequence[Thing]) -> None:
        """Boxes in space with class, id, score and size."""
        boxed = [thing for thing in things if thing.center_xyz_m is not None]
        boxes = self._rr.Boxes3D(
            centers=np.array([t.center_xyz_m for t in boxed], np.float32).reshape(-1, 3),
            sizes=np.array([t.size_xyz_m for t in boxed], np.float32).reshape(-1, 3),
            quaternions=np.array([t.quaternion_xyzw for t in boxed], np.float32).reshape(-1, 4),
            **self._described(boxed),
        )
        self._recording.draw([self._name, 'boxes'], stamp_ns, boxes)

    def draw_points(
        self,
        stamp_ns: int,
        xyz_m_N3: npt.NDArray[np.float32],
        colors_rgb_N3: U8,
        labels_N: npt.NDArray[np.integer[Any]],
    ) -> None:
        """Points in the camera's frame, in their own colours tinted with those of their class.

        Those without a place (NaN) are left out, and others evenly where there are too many.
        """
        known_N = np.flatnonzero(np.isfinite(xyz_m_N3[:, 2]))
        known_N = known_N[:: max(1, -(-len(known_N) // self._look.max_points))]
        colors_N3, labels_N = colors_rgb_N3[known_N].astype(np.float32), labels_N[known_N]
        is_class_N = np.zeros(len(known_N), bool)
        is_class_N[labels_N < len(self._is_shown)] = True
        is_class_N[is_class_N] = self._is_shown[labels_N[is_class_N]]
        palette_rgb = np.array(self._classes.colors_rgb, np.float32)
        colors_N3[is_class_N] *= 1.0 - _TINT
        colors_N3[is_class_N] += _TINT * palette_rgb[labels_N[is_class_N]]
        points = self._rr.Points3D(
            xyz_m_N3[known_N], colors=colors_N3.astype(np.uint8), radii=-1.5
        )
        self._recording.draw([self._name, 'points'], stamp_ns, points)

    def draw_intrinsics(self, intrinsics: Intrinsics) -> None:
        """Where the camera is in its own space, and how it sees; drawn again when it changes."""
        if intrinsics == self._intrinsics or not intrinsics.k[0] > 0.0:
            return
        self._intrinsics = intrinsics
        height, width = self._drawn_hw(intrinsics.size_wh[::-1])
        drawn = intrinsics.resized((width, height))
        pinhole = self._rr.Pinhole(
            image_from_camera=np.reshape(drawn.k, (3, 3)),
            resolution=drawn.size_wh,
            camera_xyz=self._rr.ViewCoordinates.RDF,
            image_plane_distance=0.3,
        )
        self._recording.draw_always([self._name, 'camera'], pinhole)

    def draw_numbers(self, stamp_ns: int, plot: str, values: Mapping[str, float]) -> None:
        """Points of curves; those that are not numbers are left out."""
        for name, value in values.items():
            if np.isfinite(value):
                scalars = self._rr.Scalars(value)
                self._recording.draw(['plots', plot, self._name, name], stamp_ns, scalars)

    def name_curve(self, plot: str, name: str, label: str, color_rgb: Sequence[int]) -> None:
        """How a curve is called and coloured."""
        lines = self._rr.SeriesLines(names=label, colors=tuple(color_rgb), widths=2.0)
        self._recording.draw_always(['plots', plot, self._name, name], lines)

    def _draw_shares(self, stamp_ns: int, labels_YX: Labels) -> None:
        """Percent of the image by class; once a class was seen, its curve goes on at 0."""
        counts = np.bincount(labels_YX.reshape(-1), minlength=len(self._classes))
        shares = counts[: len(self._classes)] / labels_YX.size
        for class_id in np.flatnonzero(shares >= MIN_SHARE).tolist():
            if class_id not in self._plotted and self._is_shown[class_id]:
                self._plotted.add(class_id)
                name, color = self._classes.names[class_id], self._classes.colors_rgb[class_id]
                self.name_curve('classes', name, name, color)
        values = {self._classes.names[i]: 100.0 * float(shares[i]) for i in sorted(self._plotted)}
        self.draw_numbers(stamp_ns, 'classes', values)

    def _described(self, things: Sequence[Thing]) -> dict[str, Any]:
        """Colours and texts of boxes."""
        by_name = dict(zip(self._classes.names, self._classes.colors_rgb, strict=True))
        return {
            'colors': np.array(
                [by_name.get(t.name, (255, 255, 255)) for t in things], np.uint8
            ).reshape(-1, 3),
            'labels': [f'{t.name} {t.track} · {t.score:.0%}' for t in things],
            'show_labels': True,
        }

    def _as_jpeg(self, image_rgb: U8) -> Any:
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._look.jpeg_quality]
        _, data = cv2.imencode('.jpg', cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), quality)
        return self._rr.EncodedImage(contents=data.tobytes(), media_type='image/jpeg')

    def _as_planes(self, image_rgb: U8) -> Any:
        """Half the bytes of RGB: colours at half the resolution."""
        height, width = image_rgb.shape[:2]
        if height % 2 or width % 2:
            return self._rr.Image(image_rgb)
        planes = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2YUV_I420)
        return self._rr.Image(
            bytes=planes.tobytes(),
            width=width,
            height=height,
            pixel_format=self._rr.PixelFormat.Y_U_V12_LimitedRange,
        )

    def _drawn_hw(self, size_hw: tuple[int, ...]) -> tuple[int, int]:
        scale = min(1.0, self._look.max_side_px / max(size_hw))
        return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def _resized(image: npt.NDArray[Any], size_hw: tuple[int, int], how: int) -> npt.NDArray[Any]:
    if image.shape[:2] == size_hw:
        return image
    return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=how))
