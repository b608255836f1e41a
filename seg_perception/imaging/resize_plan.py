"""Where the pixels of an image lie in the network's input.

Pixels have half-pixel centres: pixel i covers [i, i + 1), its centre is i + 0.5, and resizing maps
edges onto edges (OpenCV's, and torch's ``align_corners=False``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError

ResizeMode = Literal['stretch', 'letterbox', 'fit', 'shortest_edge']
Interpolation = Literal['bilinear', 'area', 'antialias_bilinear', 'antialias_bicubic']
Placement = Literal['center', 'corner']
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ResizeGeometry:
    """How the pixels of a source image lie in the network's input.

    The source is resized to ``content_hw`` and placed at ``offset_yx`` in an input of
    ``input_hw``; what is left is padding. Where the offset is negative, the input shows only a
    part of the image.

    Attributes:
        source_hw: the image's size.
        input_hw: the network's input, padding included.
        content_hw: the resized image within it.
        offset_yx: the content's top-left pixel within the input.
    """

    source_hw: tuple[int, int]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]
    offset_yx: tuple[int, int]

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Input pixels per source pixel."""
        return (
            self.content_hw[0] / self.source_hw[0],
            self.content_hw[1] / self.source_hw[1],
        )

    @property
    def is_padded(self) -> bool:
        """Whether any of the input is padding."""
        return any(
            offset > 0 or offset + content < side
            for offset, content, side in zip(
                self.offset_yx, self.content_hw, self.input_hw, strict=True
            )
        )

    @property
    def is_cropped(self) -> bool:
        """Whether the input leaves out a part of the image."""
        return any(
            offset < 0 or offset + content > side
            for offset, content, side in zip(
                self.offset_yx, self.content_hw, self.input_hw, strict=True
            )
        )

    @property
    def content_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the input that show the image: ``input_HW[content_slices]``."""
        rows, columns = (
            slice(max(offset, 0), min(offset + content, side))
            for offset, content, side in zip(
                self.offset_yx, self.content_hw, self.input_hw, strict=True
            )
        )
        return rows, columns

    @property
    def seen_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the resized image that are in the input."""
        rows, columns = (
            slice(part.start - offset, part.stop - offset)
            for part, offset in zip(self.content_slices, self.offset_yx, strict=True)
        )
        return rows, columns

    def seen_in(self, output_hw: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of an image of the source's view whose centres the input shows."""
        rows, columns = (
            slice(
                math.ceil(seen.start * output / content - 0.5),
                math.ceil(seen.stop * output / content - 0.5),
            )
            for seen, output, content in zip(
                self.seen_slices, output_hw, self.content_hw, strict=True
            )
        )
        return rows, columns

    def source_to_input_xy(self, points_xy: npt.ArrayLike) -> Points:
        """Maps points of the source to the input, exactly.

        Args:
            points_xy: shape (..., 2), x then y, in pixels; whole numbers are pixel centres.

        Returns:
            The same shape, float64, in input pixels with whole numbers at pixel centres.
            Nothing is clipped.
        """
        scale_xy, offset_xy = self._scale_and_offset_xy()
        return (np.asarray(points_xy, np.float64) + 0.5) * scale_xy - 0.5 + offset_xy

    def input_to_source_xy(self, points_xy: npt.ArrayLike) -> Points:
        """Maps points of the input to the source: the inverse of ``source_to_input_xy``."""
        scale_xy, offset_xy = self._scale_and_offset_xy()
        return (np.asarray(points_xy, np.float64) - offset_xy + 0.5) / scale_xy - 0.5

    def _scale_and_offset_xy(self) -> tuple[Points, Points]:
        return (
            np.array(self.scale_yx[::-1], np.float64),
            np.array(self.offset_yx[::-1], np.float64),
        )


@lru_cache
def plan_resize(
    source_hw: tuple[int, int],
    size_hw: tuple[int, int],
    mode: ResizeMode,
    multiple_of: int = 1,
    canvas_hw: tuple[int, int] | None = None,
    placement: Placement = 'center',
) -> ResizeGeometry:
    """Decides how an image is brought to the network's input.

    - ``'stretch'``: to exactly ``size_hw``; the aspect ratio gives way.
    - ``'letterbox'``: as large as fits into ``size_hw`` with its aspect ratio, sides rounded to
      whole pixels, centred (the odd pixel goes below and right), the rest padded.
    - ``'fit'``: as large as fits into ``size_hw`` with its aspect ratio, then each side rounded
      to the nearest multiple of ``multiple_of``, at least one and at most what fits in
      ``size_hw``; no padding, so the aspect ratio gives way by less than one multiple.
    - ``'shortest_edge'``: the image's shorter side becomes the smaller number of ``size_hw``, or
      less where the longer side would exceed the larger one; the aspect ratio stays, sides are
      cut to whole pixels and then raised to multiples of ``multiple_of``.

    Args:
        source_hw: the image's size in pixels.
        size_hw: the input size the model's card asks for.
        mode: see above.
        multiple_of: what the sides of the input must be multiples of.
        canvas_hw: size of the network's input, where the resized image is laid on a canvas: what
            is larger is cut off, what is smaller is padded.
        placement: where on the canvas: in the ``center`` or in the top left ``corner``.

    Raises:
        ConfigurationError: an unknown mode, a size below 1, or a ``size_hw`` that
            ``multiple_of`` rules out.
    """
    if min(*source_hw, *size_hw, multiple_of, *(canvas_hw or (1, 1))) < 1:
        raise ConfigurationError(
            f'expected sizes of at least 1, got source_hw {source_hw}, size_hw {size_hw}, '
            f'multiple_of {multiple_of}, canvas_hw {canvas_hw}'
        )
    if mode not in get_args(ResizeMode):
        raise ConfigurationError(
            f'expected a resize mode among {", ".join(get_args(ResizeMode))}, got {mode!r}'
        )
    if placement not in get_args(Placement):
        raise ConfigurationError(
            f'expected a placement among {", ".join(get_args(Placement))}, got {placement!r}'
        )
    if mode in ('stretch', 'letterbox') and (size_hw[0] % multiple_of or size_hw[1] % multiple_of):
        raise ConfigurationError(
            f'expected an input size with sides that are multiples of {multiple_of}, got '
            f"{size_hw}: choose another size, or mode 'fit'"
        )
    if mode == 'letterbox':
        content_hw = _fitted(source_hw, size_hw, 1)
        offset_yx = ((size_hw[0] - content_hw[0]) // 2, (size_hw[1] - content_hw[1]) // 2)
        return ResizeGeometry(source_hw, size_hw, content_hw, offset_yx)
    if mode == 'stretch':
        content_hw = size_hw
    elif mode == 'fit':
        content_hw = _fitted(source_hw, size_hw, multiple_of)
    else:
        content_hw = _by_shorter_side(source_hw, size_hw, multiple_of)
    if canvas_hw is None:
        return ResizeGeometry(source_hw, content_hw, content_hw, (0, 0))
    offset_yx = (0, 0)
    if placement == 'center':  # an odd pixel is cut off at the end, but padded at the start
        offset_yx = (
            -((content_hw[0] - canvas_hw[0]) // 2),
            -((content_hw[1] - canvas_hw[1]) // 2),
        )
    return ResizeGeometry(source_hw, canvas_hw, content_hw, offset_yx)


def _by_shorter_side(
    source_hw: tuple[int, int], size_hw: tuple[int, int], multiple_of: int
) -> tuple[int, int]:
    """See `plan_resize`; to the pixel what ``get_size_with_aspect_ratio`` of transformers says."""
    shorter, longer = min(source_hw), max(source_hw)
    new_shorter: float = min(size_hw)
    if longer / shorter * new_shorter > max(size_hw):
        new_shorter = max(size_hw) * shorter / longer
    sides = []
    for side in source_hw:
        is_shorter = side == shorter
        exact = round(new_shorter) if is_shorter else int(new_shorter * side / shorter)
        if round(new_shorter) == shorter:
            exact = side
        sides.append(math.ceil(max(exact, 1) / multiple_of) * multiple_of)
    return sides[0], sides[1]


def _fitted(
    source_hw: tuple[int, int], size_hw: tuple[int, int], multiple_of: int
) -> tuple[int, int]:
    """The largest size of the source's shape within ``size_hw``, in whole multiples."""
    # Integers throughout: the limiting side comes out exact, without floating-point rounding.
    limited_by_height = size_hw[0] * source_hw[1] <= size_hw[1] * source_hw[0]
    numerator, denominator = (
        (size_hw[0], source_hw[0]) if limited_by_height else (size_hw[1], source_hw[1])
    )
    sides = []
    for source, size in zip(source_hw, size_hw, strict=True):
        unit = denominator * multiple_of
        nearest = (2 * source * numerator + unit) // (2 * unit)
        sides.append(multiple_of * max(1, min(nearest, size // multiple_of)))
    return sides[0], sides[1]
