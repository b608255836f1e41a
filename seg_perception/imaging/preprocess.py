"""Frames to the batches a network eats: resize, colour order, normalise.

Shape suffixes: B batch, C channels, S channels of the source, L levels of a pixel, H/W network
input, Y/X source pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.convert import (
    DEFAULT_MAX_PIXELS,
    check_frame,
    swap_layout,
    to_uint8,
)
from seg_perception.imaging.device_resize import DeviceResizer
from seg_perception.imaging.encodings import Layout
from seg_perception.imaging.normalise import normalise
from seg_perception.imaging.quantise import Quantisation
from seg_perception.imaging.resize_plan import (
    Interpolation,
    Placement,
    ResizeGeometry,
    ResizeMode,
    plan_resize,
)
from seg_perception.structures import U8, Frame

ChannelOrder = Literal['rgb', 'bgr']

# Batches are handed out from this many buffers in turn: one may still be read by the device or
# the next stage while the next is filled.
NUM_BUFFERS = 2
_MAX_BUFFERED_SIZES = 8


class Preprocessor:
    """Makes normalised batches of frames: ``x = (pixel - mean) / std``.

    On the CPU an image is resized by OpenCV as 8-bit samples in the camera's own channel order,
    its channels are swapped when it is small, and it is normalised straight into the batch. On a
    CUDA device its bytes go up as they came, through pinned memory, and the device does the rest;
    both ways agree to one grey level.

    Interpolation: ``'bilinear'`` is OpenCV's INTER_LINEAR, which takes the four nearest source
    pixels however much the image shrinks. ``'area'`` averages all source pixels under each
    target pixel (INTER_AREA) when neither side grows, and is bilinear otherwise: no aliasing,
    for models trained on antialiased images (PIL, torchvision). Bilinear is the default because
    on the CPU area costs some ten times as much at ratios that are not whole (5.4 ms against
    0.5 ms of one x86 core for 1280x720 to 513x289; at whole ratios they cost the same).
    ``'antialias_bilinear'`` and ``'antialias_bicubic'`` are PIL's filters, which torch and
    torchvision call ``antialias=True``: what most models of transformers were trained with.

    Not thread-safe: one preprocessor belongs to one worker.

    Args:
        size_hw, mode, multiple_of, canvas_hw, placement: see ``plan_resize``.
        mean_C: per channel in ``channel_order``, in grey levels 0–255.
        std_C: the same, none 0.
        channel_order: ``'rgb'`` or ``'bgr'``, what the network was trained on.
        device: where the batch is wanted.
        dtype: float32, float16 or bfloat16. Normalisation is computed in float32.
        channels_last: memory format of the batch.
        quantisation: where given, batches are integers, what it stores of ``x``, instead of
            ``dtype``; on the CPU only. Each of the 256 levels is normalised and stored once, so
            that pixels stay bytes all the way.
        pad_C: what is padded with, like the mean; the mean where None.
        interpolation: see above.
        max_pixels: bound on a frame's height * width.

    Raises:
        ConfigurationError: an option that cannot work.
    """

    def __init__(
        self,
        size_hw: tuple[int, int],
        mode: ResizeMode = 'stretch',
        mean_C: Sequence[float] = (0.0, 0.0, 0.0),
        std_C: Sequence[float] = (1.0, 1.0, 1.0),
        channel_order: ChannelOrder = 'rgb',
        multiple_of: int = 1,
        device: torch.device | str = 'cpu',
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        *,
        quantisation: Quantisation | None = None,
        pad_C: Sequence[float] | None = None,
        interpolation: Interpolation = 'bilinear',
        canvas_hw: tuple[int, int] | None = None,
        placement: Placement = 'center',
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self.size_hw = size_hw  # may be set to another size between frames
        self._mode: ResizeMode = mode
        self._multiple_of = multiple_of
        self._canvas_hw = canvas_hw
        self._placement: Placement = placement
        self.plan((1, 1))  # raises on options that cannot work
        if len(mean_C) != 3 or len(std_C) != 3 or 0.0 in std_C:
            raise ConfigurationError(
                f'expected a mean and a non-zero std for each of 3 channels, got {tuple(mean_C)} '
                f'and {tuple(std_C)}'
            )
        if pad_C is not None and len(pad_C) != 3:
            raise ConfigurationError(f'expected a pad of 3 channels, got {tuple(pad_C)}')
        if channel_order not in ('rgb', 'bgr'):
            raise ConfigurationError(
                f"expected channel_order 'rgb' or 'bgr', got {channel_order!r}"
            )
        if interpolation not in get_args(Interpolation):
            raise ConfigurationError(
                f'expected an interpolation among {", ".join(get_args(Interpolation))}, got '
                f'{interpolation!r}'
            )
        if dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ConfigurationError(f'expected dtype float32, float16 or bfloat16, got {dtype}')
        if quantisation is not None and torch.device(device).type != 'cpu':
            raise ConfigurationError(f'expected device cpu with a quantisation, got {device}')
        self.channel_order: ChannelOrder = channel_order
        self.device = torch.device(device)
        self.dtype = dtype
        self.channels_last = channels_last
        self.interpolation: Interpolation = interpolation
        self.max_pixels = max_pixels
        self._layout = Layout.RGB if channel_order == 'rgb' else Layout.BGR
        # x = pixel * gain + bias
        std = np.asarray(std_C, np.float64)
        self._gain_C = (1.0 / std).astype(np.float32)
        self._bias_C = (-np.asarray(mean_C, np.float64) / std).astype(np.float32)
        padding = np.zeros(3) if pad_C is None else (np.asarray(pad_C) - np.asarray(mean_C)) / std
        self._padding_C11 = torch.tensor(padding, dtype=dtype, device=self.device)[:, None, None]
        self._levels_LC: npt.NDArray[np.integer] | None = None
        if quantisation is not None:
            levels_LC = np.arange(256, dtype=np.float32)[:, None] * self._gain_C + self._bias_C
            self._levels_LC = quantisation.stored(levels_LC)
            self.dtype = getattr(torch, quantisation.dtype)
            stored_C = quantisation.stored(padding.astype(np.float32))
            self._padding_C11 = torch.from_numpy(stored_C)[:, None, None]
        # A test sets this on a CPU, to compare the two ways.
        self._resizes_on_device = self.device.type == 'cuda'
        self._device_resizer = DeviceResizer(
            self.device, self._layout, self._gain_C, self._bias_C, interpolation
        )
        self._buffers: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._scratch: U8 = np.empty(0, np.uint8)  # the frame in 8 bits, where it is not yet
        self._turn = 0

    def free_buffers(self) -> None:
        """Gives up the memory kept for the next batch."""
        self._buffers.clear()
        self._scratch = np.empty(0, np.uint8)

    def plan(self, source_hw: tuple[int, int]) -> ResizeGeometry:
        """How an image of this size will be resized."""
        return plan_resize(
            source_hw,
            self.size_hw,
            self._mode,
            self._multiple_of,
            self._canvas_hw,
            self._placement,
        )

    def tables(self) -> list[object]:
        """What is kept on the device from frame to frame."""
        return self._device_resizer.tables()

    def takes_sources(self, frames: Sequence[Frame]) -> bool:
        """Whether bytes of these frames on the device are all that a call needs."""
        return self._resizes_on_device and all(
            self._device_resizer.can_read(frame.encoding) for frame in frames
        )

    def __call__(
        self, frames: Sequence[Frame], sources: Sequence[torch.Tensor | None] | None = None
    ) -> list[tuple[torch.Tensor, list[int], list[ResizeGeometry]]]:
        """Batches of the frames, grouped by the size of their network input.

        Args:
            frames: any number, of any sizes and encodings.
            sources: the frames' bytes on the device, where it `takes_sources`.

        Returns:
            Per group, in order of first appearance: the batch (B, 3, H, W) on ``device``, the
            positions of its images in ``frames``, and their geometries. No frames, no groups.
            On the CPU a batch is a buffer of the preprocessor's own: it stays as it is until the
            second call after this one (double buffering), then it is overwritten; copy it to
            keep it longer. On CUDA every batch is a tensor of its own.

        Raises:
            InputError: a frame cannot be used, see ``check_frame``; no batch is touched then.
        """
        for frame in frames:
            check_frame(frame, max_pixels=self.max_pixels)
        geometries = [self.plan((frame.height, frame.width)) for frame in frames]
        groups: dict[tuple[int, int], list[int]] = {}
        for index, geometry in enumerate(geometries):
            groups.setdefault(geometry.input_hw, []).append(index)
        self._turn = (self._turn + 1) % NUM_BUFFERS
        batches = []
        for input_hw, indices in groups.items():
            batch = self._batch(len(indices), input_hw)
            for position, index in enumerate(indices):
                source = sources[index] if sources is not None else None
                self._fill(batch[position], frames[index], geometries[index], source)
            batches.append((batch, indices, [geometries[index] for index in indices]))
        return batches

    def _batch(self, num_images: int, input_hw: tuple[int, int]) -> torch.Tensor:
        """A batch to fill: this turn's buffer on the CPU, a new tensor on CUDA."""
        if self.device.type == 'cuda':
            return self._empty(num_images, input_hw)
        buffers = self._buffers.pop(input_hw, None)
        if buffers is None or buffers[0].shape[0] < num_images:
            buffers = [self._empty(num_images, input_hw) for _ in range(NUM_BUFFERS)]
        self._buffers[input_hw] = buffers  # most recently used last
        while len(self._buffers) > _MAX_BUFFERED_SIZES:
            del self._buffers[next(iter(self._buffers))]
        batch = buffers[self._turn]
        return batch if batch.shape[0] == num_images else batch[:num_images]

    def _empty(self, num_images: int, input_hw: tuple[int, int]) -> torch.Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        # A tensor made in inference mode could not be written to outside of it later.
        with torch.inference_mode(False):
            return torch.empty(
                (num_images, 3, *input_hw),
                dtype=self.dtype,
                device=self.device,
                memory_format=layout,
            )

    def _fill(
        self,
        input_CHW: torch.Tensor,
        frame: Frame,
        geometry: ResizeGeometry,
        source: torch.Tensor | None,
    ) -> None:
        """Writes one frame, normalised, over one image of a batch."""
        if geometry.is_padded:
            input_CHW.copy_(self._padding_C11.expand_as(input_CHW))
        if self._resizes_on_device:
            self._device_resizer.fill(
                input_CHW[(slice(None), *geometry.content_slices)],
                frame,
                geometry.content_hw,
                geometry.seen_slices,
                source,
            )
            return
        if self._scratch.size < frame.height * frame.width * 4:
            self._scratch = np.empty(frame.height * frame.width * 4, np.uint8)
        pixels, layout = to_uint8(
            frame, prefer=self._layout, max_pixels=self.max_pixels, scratch=self._scratch
        )
        if geometry.content_hw != geometry.source_hw:
            pixels = _resized(pixels, geometry, self.interpolation)
        if geometry.is_cropped:
            pixels = np.ascontiguousarray(pixels[geometry.seen_slices])
        pixels = swap_layout(pixels, layout, self._layout)
        self._normalise(pixels, input_CHW, geometry.content_slices)

    def _normalise(
        self, pixels: U8, input_CHW: torch.Tensor, content_slices: tuple[slice, slice]
    ) -> None:
        """Writes ``pixels * gain + bias`` over the content of an input, both of one size."""
        rows, columns = content_slices
        if self._levels_LC is not None:
            target_HWC = input_CHW[:, rows, columns].permute(1, 2, 0).numpy()
            is_identity = (self._levels_LC == np.arange(256)[:, None]).all()
            np.copyto(
                target_HWC, pixels if is_identity else cv2.LUT(pixels, self._levels_LC[None])
            )
        elif self.dtype is torch.float32:
            normalise(pixels, self._gain_C, self._bias_C, input_CHW, rows.start, columns.start)
        else:
            exact_CHW = torch.empty((3, *pixels.shape[:2]), dtype=torch.float32)
            normalise(pixels, self._gain_C, self._bias_C, exact_CHW, 0, 0)
            input_CHW[:, rows, columns] = exact_CHW


def _resized(pixels: U8, geometry: ResizeGeometry, interpolation: Interpolation) -> U8:
    """The whole image at the size of the content, (Y, X) or (Y, X, S)."""
    height, width = geometry.content_hw
    if interpolation in ('bilinear', 'area'):
        is_area = interpolation == 'area' and max(geometry.scale_yx) <= 1.0
        how = cv2.INTER_AREA if is_area else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)
    # torch takes no arrays that cannot be written to, as messages' bytes are
    writable = pixels if pixels.flags.writeable else pixels.copy()
    image_YXS = torch.from_numpy(writable if pixels.ndim == 3 else writable[..., None])
    resized_1SYX = torch.nn.functional.interpolate(
        image_YXS.permute(2, 0, 1)[None],
        (height, width),
        mode='bicubic' if interpolation == 'antialias_bicubic' else 'bilinear',
        align_corners=False,
        antialias=True,
    )
    resized = resized_1SYX[0].permute(1, 2, 0).contiguous().numpy()
    return np.asarray(resized if pixels.ndim == 3 else resized[..., 0], np.uint8)
