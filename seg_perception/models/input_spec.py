"""What a model wants to be fed, as its card says: the ``input`` section.

input:
  size_hw: [513, 513]
  resize: letterbox                    # stretch, letterbox, fit or shortest_edge
  multiple_of: 1                       # optional, for fit and shortest_edge
  interpolation: bilinear              # optional: bilinear, area, antialias_bilinear or
                                       #   antialias_bicubic (what PIL does)
  canvas_hw: [512, 512]                # optional: the network's input where the resized image
                                       #   is cut off or padded to it, not for letterbox
  placement: center                    # optional: where on the canvas, center or corner
  mean_rgb: [127.5, 127.5, 127.5]      # in pixel units, 0..255, always r g b
  std_rgb: [127.5, 127.5, 127.5]
  pad_rgb: [114, 114, 114]             # optional: what is padded with, else the mean
  channel_order: rgb                   # optional: the order the net wants, rgb or bgr
  is_scalable: true                    # optional: false for networks that work at this size alone
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.resize_plan import Interpolation, Placement, ResizeMode
from seg_perception.models.card_fields import Fields, check_choice, fail

ChannelOrder = Literal['rgb', 'bgr']
Triple = tuple[float, float, float]

MAX_SIDE_PX = 8192
_WITH_MULTIPLES = ('fit', 'shortest_edge')


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the model wants to be fed; ``imaging.resize_plan.plan_resize`` explains the sizes.

    Attributes:
        size_hw: rows and columns that images are resized to; with ``fit`` an upper bound, with
            ``shortest_edge`` what the shorter side becomes and the bound of the longer one. They
            are the network's input where there is no canvas.
        resize: ``stretch`` ignores the aspect, ``letterbox`` pads, ``fit`` and ``shortest_edge``
            keep the aspect without padding.
        multiple_of: with ``fit`` each side is rounded to a multiple of this, with
            ``shortest_edge`` raised to one.
        mean_rgb: subtracted from the pixels, 0..255 units, always in r g b order.
        std_rgb: then divided by, same units and order: ``x = (pixel - mean) / std``.
        channel_order: order of the channels in the network's input.
        pad_rgb: what is padded with, units and order of the mean; the mean where None.
        interpolation: how images are resized, see ``imaging.preprocess.Preprocessor``.
        canvas_hw: the network's input, where the resized image is laid on a canvas of that size:
            what is larger is cut off (those pixels of the image get no label), what is smaller is
            padded.
        placement: where on the canvas the image is, in the ``center`` or the top left ``corner``.
        is_scalable: whether the network takes images of other sizes too.

    Raises:
        ModelCardError: a value is out of its range, or has no meaning beside another.
    """

    size_hw: tuple[int, int]
    resize: ResizeMode = 'letterbox'
    multiple_of: int = 1
    mean_rgb: Triple = (0.0, 0.0, 0.0)
    std_rgb: Triple = (255.0, 255.0, 255.0)
    channel_order: ChannelOrder = 'rgb'
    pad_rgb: Triple | None = None
    interpolation: Interpolation = 'bilinear'
    canvas_hw: tuple[int, int] | None = None
    placement: Placement = 'center'
    is_scalable: bool = True

    def __post_init__(self) -> None:
        for name in ('size_hw', 'canvas_hw'):
            size_hw = getattr(self, name)
            if size_hw is None:
                continue
            if len(size_hw) != 2 or not all(1 <= side <= MAX_SIDE_PX for side in size_hw):
                fail(f'input.{name}', f'[height, width], each 1 to {MAX_SIDE_PX} px', size_hw)
        check_choice('input.resize', self.resize, get_args(ResizeMode))
        check_choice('input.interpolation', self.interpolation, get_args(Interpolation))
        check_choice('input.placement', self.placement, get_args(Placement))
        check_choice('input.channel_order', self.channel_order, get_args(ChannelOrder))
        if not 1 <= self.multiple_of <= min(self.size_hw):
            fail(
                'input.multiple_of',
                f'1 to {min(self.size_hw)} (the shorter side of size_hw)',
                self.multiple_of,
            )
        if len(self.mean_rgb) != 3 or not all(map(math.isfinite, self.mean_rgb)):
            fail('input.mean_rgb', 'three finite numbers in 0..255 pixel units', self.mean_rgb)
        if len(self.std_rgb) != 3 or not all(math.isfinite(s) and s > 0 for s in self.std_rgb):
            fail('input.std_rgb', 'three positive numbers in 0..255 pixel units', self.std_rgb)
        pad = self.pad_rgb
        if pad is not None and (len(pad) != 3 or not all(map(math.isfinite, pad))):
            fail('input.pad_rgb', 'three finite numbers in 0..255 pixel units', pad)
        if self.canvas_hw is not None and self.resize == 'letterbox':
            fail('input.canvas_hw', 'none, because letterbox has its own', self.canvas_hw)
        if self.canvas_hw is None and self.placement != 'center':
            fail('input.placement', 'none, because there is no canvas_hw', self.placement)
        if pad is not None and self.resize != 'letterbox' and self.canvas_hw is None:
            fail('input.pad_rgb', f'none, because {self.resize} does not pad', pad)

    @property
    def multiple(self) -> int:
        """What the sides of the input are multiples of, where the mode looks at it; else 1."""
        return self.multiple_of if self.resize in _WITH_MULTIPLES else 1

    def at_size(self, size_hw: tuple[int, int]) -> InputSpec:
        """The same at another size, of the whole image: what a canvas would cut off is seen too.

        Raises:
            ModelCardError: the size is out of its range.
            ConfigurationError: the network takes no other size than its own.
        """
        if not self.is_scalable:
            if size_hw == self.size_hw:
                return self
            raise ConfigurationError(
                f'input_size_hw: expected none, because the network works at the size of its '
                f'card alone ({self}), got {size_hw[0]}x{size_hw[1]} (height x width)'
            )
        if self.canvas_hw is None:
            return dataclasses.replace(self, size_hw=size_hw)
        return dataclasses.replace(
            self, size_hw=size_hw, canvas_hw=None, placement='center', pad_rgb=None
        )

    def at_fixed_size(self, input_hw: tuple[int, int]) -> InputSpec:
        """The same for a network that takes one size only; padding keeps the aspect there.

        Raises:
            ModelCardError: the size is out of its range.
        """
        if self.canvas_hw == input_hw:
            return self
        keeps_aspect = self.resize in _WITH_MULTIPLES
        return dataclasses.replace(
            self,
            size_hw=input_hw,
            multiple_of=1,
            canvas_hw=None,
            placement='center',
            resize='letterbox' if keeps_aspect else self.resize,
            pad_rgb=self.pad_rgb if keeps_aspect or self.resize == 'letterbox' else None,
        )

    def __str__(self) -> str:
        """For people: size as width x height, and how images are brought to it."""
        height, width = self.size_hw
        said = {
            'stretch': f'{width}x{height}, stretched',
            'letterbox': f'{width}x{height}, padded to keep the aspect',
            'fit': f'at most {width}x{height} in the aspect of the image',
            'shortest_edge': f'shorter side {min(self.size_hw)} px, longer at most '
            f'{max(self.size_hw)}, in the aspect of the image',
        }[self.resize]
        if self.canvas_hw is not None:
            where = 'the middle' if self.placement == 'center' else 'the corner'
            said += f', {where} {self.canvas_hw[1]}x{self.canvas_hw[0]} of it'
        if self.multiple > 1:
            said += f', sides multiples of {self.multiple}'
        return f'{said}, {self.interpolation}, {self.channel_order}'


def read_input_spec(section: Fields) -> InputSpec:
    """Reads a card's ``input`` section.

    Raises:
        ModelCardError: an unknown, missing or mistyped field, or a value that cannot be.
    """
    mean, std = section.numbers('mean_rgb'), section.numbers('std_rgb')
    pad = section.numbers('pad_rgb') if section.has('pad_rgb') else None
    canvas = section.integers('canvas_hw') if section.has('canvas_hw') else None
    spec = InputSpec(
        size_hw=cast('tuple[int, int]', section.integers('size_hw')),
        resize=cast(ResizeMode, section.text('resize')),
        multiple_of=cast(int, section.integer('multiple_of', 1)),
        mean_rgb=cast(Triple, mean),
        std_rgb=cast(Triple, std),
        channel_order=cast(ChannelOrder, section.text('channel_order', 'rgb')),
        pad_rgb=cast('Triple | None', pad),
        interpolation=cast(Interpolation, section.text('interpolation', 'bilinear')),
        canvas_hw=cast('tuple[int, int] | None', canvas),
        placement=cast(Placement, section.text('placement', 'center')),
        is_scalable=section.boolean('is_scalable', True),
    )
    section.finish()
    return spec
