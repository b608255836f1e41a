"""The values that travel between the stages: frozen, typed, without the behaviour of any stage.

Shape suffixes: Y/X image pixels, N classes. Images are row-major with the origin at the top
left; sizes are ``_hw`` (rows first) unless a name says ``_wh``.
"""

from __future__ import annotations

import colorsys
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, InputError, PromptError

UNLABELED_IDS = (255, 65535)
"""Class id of a pixel nobody vouches for, in 8- and 16-bit label images (the convention of
vision_msgs/LabelInfo)."""

MAX_OBJECTS = 65535
"""As many ids as a 16-bit image holds beside 0."""

BACKGROUND_NAMES = frozenset({'background', '__background__', 'other', 'unlabeled', 'void'})
"""Class names that mean that nothing in particular was found."""

U8 = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One uncompressed image as the camera sent it (the fields of sensor_msgs/Image).

    Nothing is checked here; ``imaging.check_frame`` does that.

    Attributes:
        data: the image's bytes, any object with the buffer protocol; never copied.
        height: rows.
        width: columns.
        encoding: a name of sensor_msgs/image_encodings, e.g. ``'bgr8'``.
        step: bytes per row, padding included.
        is_bigendian: byte order of samples wider than 8 bits.
        stamp_ns: acquisition time in nanoseconds.
        frame_id: the camera's optical frame (REP 103).
        camera: which of the node's cameras it came from.
    """

    data: bytes | bytearray | memoryview | U8
    height: int
    width: int
    encoding: str
    step: int
    is_bigendian: bool = False
    stamp_ns: int = 0
    frame_id: str = ''
    camera: str = ''

    @classmethod
    def from_array(
        cls,
        image: npt.NDArray[np.generic],
        encoding: str = 'rgb8',
        *,
        stamp_ns: int = 0,
        frame_id: str = '',
        camera: str = '',
    ) -> Frame:
        """Wraps an array of shape (height, width) or (height, width, channels).

        The frame views the array where it is contiguous and copies it where it is not. The
        samples are taken to mean what ``encoding`` says.

        Raises:
            InputError: the array has another number of axes or no pixels.
        """
        if image.ndim not in (2, 3) or image.size == 0:
            raise InputError(
                f'expected an image of shape (height, width[, channels]), got {image.shape}'
            )
        contiguous = np.ascontiguousarray(image)
        return cls(
            data=contiguous.reshape(-1).view(np.uint8),
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            # Not strides[0], which NumPy leaves as it was in an array of one row.
            step=contiguous.nbytes // image.shape[0],
            is_bigendian=contiguous.dtype.newbyteorder('=') != contiguous.dtype,
            stamp_ns=stamp_ns,
            frame_id=frame_id,
            camera=camera,
        )


@dataclass(frozen=True, slots=True, eq=False)
class CompressedFrame:
    """One compressed image as the camera sent it (the fields of sensor_msgs/CompressedImage).

    Attributes:
        data: the compressed bytes, never copied.
        format: the message's format string, e.g. ``'jpeg'`` or ``'rgb8; jpeg compressed bgr8'``.
        stamp_ns: acquisition time in nanoseconds.
        frame_id: the camera's optical frame (REP 103).
        camera: which of the node's cameras it came from.
    """

    data: bytes | bytearray | memoryview | U8
    format: str
    stamp_ns: int = 0
    frame_id: str = ''
    camera: str = ''


@dataclass(frozen=True, slots=True)
class ClassTable:
    """What the values of a label image mean.

    The id of a class is its position. ``unlabeled_id`` marks pixels that belong to no class; it
    is never the id of one.

    Attributes:
        names: class names in the order of their ids, unique and not empty.
        colors_rgb: a colour per class; made up (evenly spaced hues) where none is given.
        unlabeled_id: 255 up to 255 classes, else 65535.

    Raises:
        ConfigurationError: no classes, repeated names, or colours of another count.
    """

    names: tuple[str, ...]
    colors_rgb: tuple[tuple[int, int, int], ...] = ()
    unlabeled_id: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigurationError('expected at least one class name, got none')
        repeated = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if repeated or not all(self.names):
            raise ConfigurationError(
                f'expected unique, non-empty class names, got repeated {repeated} '
                f'among {len(self.names)}'
            )
        if not self.colors_rgb:
            object.__setattr__(self, 'colors_rgb', _distinct_colors(len(self.names)))
        if len(self.colors_rgb) != len(self.names):
            raise ConfigurationError(
                f'expected {len(self.names)} colours, one per class, got {len(self.colors_rgb)}'
            )
        object.__setattr__(self, 'unlabeled_id', UNLABELED_IDS[len(self.names) > 255])

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """uint8 up to 255 classes, uint16 above."""
        return np.dtype(np.uint8) if len(self) <= 255 else np.dtype(np.uint16)

    def id_of(self, name: str) -> int:
        """The id of a class.

        Raises:
            ConfigurationError: no class has that name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigurationError(
                f"no class '{name}'; this model has: {', '.join(self.names)}"
            ) from None

    @property
    def nothing_id(self) -> int:
        """Label of what none of a model's objects covers: its background class, else unlabeled."""
        ids = (i for i, name in enumerate(self.names) if name in BACKGROUND_NAMES)
        return next(ids, self.unlabeled_id)

    def palette_rgb(self) -> U8:
        """Colour of every possible label value, shape (256 or 65536, 3); black where no class."""
        palette = np.zeros((np.iinfo(self.label_dtype).max + 1, 3), np.uint8)
        palette[: len(self)] = self.colors_rgb
        return palette


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where one thing is in an image: a box around it, points on it, points beside it.

    Coordinates are pixels of the image, those of points with whole numbers at pixel centres.

    Attributes:
        name: what to call it; things of one name are of one class.
        box_xyxy_px: left, top, right and bottom edge, right and bottom exclusive; it may reach
            beyond the image. None for no box.
        on_xy_px: column and row of points on the thing.
        beside_xy_px: of points on what is not part of it.

    Raises:
        PromptError: nothing says where it is, a number is not finite, a box is empty, or it is
            called like the background.
    """

    name: str = 'object'
    box_xyxy_px: tuple[float, float, float, float] | None = None
    on_xy_px: tuple[tuple[float, float], ...] = ()
    beside_xy_px: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.name or self.name in BACKGROUND_NAMES:
            raise PromptError(f"prompt: expected the name of a thing, got '{self.name}'")
        if self.box_xyxy_px is None and not self.on_xy_px:
            raise PromptError(f'prompt {self.name}: expected a box or a point on it, got neither')
        box = self.box_xyxy_px or ()
        places = (*box, *(value for point in self._points for value in point))
        if not all(map(math.isfinite, places)):
            raise PromptError(f'prompt {self.name}: expected finite pixels, got {places}')
        if box and not (box[0] < box[2] and box[1] < box[3]):
            raise PromptError(
                f'prompt {self.name}: expected a box of left < right and top < bottom, got {box}'
            )

    @property
    def _points(self) -> tuple[tuple[float, float], ...]:
        return self.on_xy_px + self.beside_xy_px

    def check_within(self, size_hw: tuple[int, int]) -> None:
        """Checks that the prompt is about an image of some size.

        Raises:
            PromptError: the box does not touch it, or a point lies outside of it.
        """
        height, width = size_hw
        image = f'the image of {width}x{height} px'
        for x, y in self._points:
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise PromptError(
                    f'prompt {self.name}: expected points within {image}, got x {x:g} y {y:g}'
                )
        if self.box_xyxy_px is not None:
            left, top, right, bottom = self.box_xyxy_px
            if not (left < width and top < height and right > 0 and bottom > 0):
                raise PromptError(
                    f'prompt {self.name}: expected a box that overlaps {image}, got left '
                    f'{left:g} top {top:g} right {right:g} bottom {bottom:g}'
                )


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What the model says about one frame.

    Attributes:
        labels_YX: class id per pixel, uint8 (uint16 above 255 classes), C-contiguous.
        confidence_YX: winning softmax probability per pixel as 0–255, same shape; of models that
            give objects the object's score, 0 where there is none; None where it was not asked
            for or the model gives no scores.
        classes: what the ids mean.
        timings_ms: wall time by stage; a batch's stages count whole for each of its frames.
        stamp_ns: the frame's, unchanged.
        frame_id: the frame's, unchanged.
        camera: the frame's, unchanged.
        objects: as the model tells them apart; None where it does not or they were not asked
            for (``postprocess.find_objects`` then finds connected regions).
        model: who says so: the model's name, or its address at a server.
    """

    labels_YX: Labels
    confidence_YX: U8 | None
    classes: ClassTable
    timings_ms: Mapping[str, float]
    stamp_ns: int = 0
    frame_id: str = ''
    camera: str = ''
    objects: Objects | None = None
    model: str = ''

    def mask(self, *names: str, out: U8 | None = None) -> U8:
        """Where any of the named classes is: 255 there, 0 elsewhere, shape (Y, X).

        Args:
            names: of classes.
            out: written to; new memory where None.

        Raises:
            ConfigurationError: the model has no class of a given name.
        """
        if len(names) == 1:  # ten times as quick as a table
            mask_YX = np.empty(self.labels_YX.shape, np.uint8) if out is None else out
            np.equal(self.labels_YX, self.classes.id_of(names[0]), out=mask_YX.view(np.bool_))
            return np.negative(mask_YX, out=mask_YX)  # 1 becomes 255
        table = np.zeros(np.iinfo(self.labels_YX.dtype).max + 1, np.uint8)
        table[[self.classes.id_of(name) for name in names]] = 255
        if self.labels_YX.dtype == np.uint8:  # ten times quicker than NumPy's look-up
            return np.asarray(cv2.LUT(self.labels_YX, table, out), np.uint8)
        return np.take(table, self.labels_YX, out=out)

    def class_fractions(self, min_fraction: float = 0.0) -> dict[str, float]:
        """Share of the image by class name, largest first; unlabelled pixels are left out."""
        counts = np.bincount(self.labels_YX.reshape(-1), minlength=len(self.classes))
        fractions = counts[: len(self.classes)] / max(self.labels_YX.size, 1)
        order = np.argsort(-fractions, kind='stable')
        return {
            self.classes.names[i]: float(fractions[i])
            for i in order
            if fractions[i] > min_fraction
        }


@dataclass(frozen=True, slots=True)
class ObjectInstance:
    """One object in an image.

    Attributes:
        id: value of its pixels in ``Objects.instances_YX``, 1 to 65535.
        class_id: what it is, a position in the model's `ClassTable`.
        score: mean confidence of its pixels or what the model says of it, 0 to 1; 1.0 where the
            model gives no scores.
        box_xyxy_px: left, top, right and bottom edge of the tightest box around its pixels; right
            and bottom are exclusive, so that width and height are differences.
        area_px: how many pixels it has.
        centroid_xy_px: mean of its pixels' column and row numbers.
    """

    id: int
    class_id: int
    score: float
    box_xyxy_px: tuple[int, int, int, int]
    area_px: int
    centroid_xy_px: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of one image; no pixel belongs to two.

    Attributes:
        instances_YX: id of the object at every pixel, 0 where there is none.
        items: the objects in ascending order of their ids; empty where nothing was found.
    """

    instances_YX: npt.NDArray[np.uint16]
    items: tuple[ObjectInstance, ...]

    def item(self, object_id: int) -> ObjectInstance:
        """The object of that id.

        Raises:
            InputError: there is none.
        """
        for item in self.items:
            if item.id == object_id:
                return item
        raise InputError(
            f'expected the id of one of {len(self.items)} objects, got {object_id}; the ids are '
            f'the values above 0 in the instances image'
        )

    def mask(self, object_id: int) -> U8:
        """Where one object is: 255 there, 0 elsewhere, shape (Y, X).

        Raises:
            InputError: no object has that id.
        """
        left, top, right, bottom = self.item(object_id).box_xyxy_px
        mask_YX = np.zeros(self.instances_YX.shape, np.uint8)
        box = np.s_[top:bottom, left:right]
        mask_YX[box][self.instances_YX[box] == object_id] = 255
        return mask_YX


def _distinct_colors(num_colors: int) -> tuple[tuple[int, int, int], ...]:
    """Hues a golden angle apart, so that neighbouring ids differ clearly."""
    colors = []
    for i in range(num_colors):
        rgb = colorsys.hsv_to_rgb((i * 0.618034) % 1.0, 0.85 - 0.25 * (i % 3 == 1), 0.95)
        colors.append((round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)))
    return tuple(colors)
