"""Colour, resize and normalisation on the device, from the bytes that a camera sent.

Where Triton is installed (it is part of torch's CUDA builds) one kernel does it all, from every
8-bit encoding (`triton_resize`); elsewhere, and for 16-bit encodings, colours are converted on the
host and torch's operations do the rest.

Shape suffixes: C channels, H/W content of the network input, Y/X source pixels, S channels of
the source (1, 3 or 4), K taps.

The same geometry and weights as the CPU path's (OpenCV's INTER_LINEAR and INTER_AREA, torch's and
PIL's antialiased resizing), computed in float32 and not rounded to whole grey levels in between,
so both agree to one grey level.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.imaging.convert import flat_bytes, to_uint8
from seg_perception.imaging.encodings import ENCODINGS, Layout
from seg_perception.imaging.resize_plan import Interpolation
from seg_perception.structures import U8, Frame

_MAX_PLANS = 32

Weights = npt.NDArray[np.float64]
Taps = tuple[torch.Tensor, torch.Tensor]
"""Indices (int32) and weights (float32) of the source pixels of each target pixel, (N, K)."""


def taps(
    num_source: int, num_target: int, interpolation: Interpolation
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Which source pixels make up each target pixel along one axis, and with what weight.

    Args:
        num_source: pixels along the axis of the source.
        num_target: pixels along the axis of the target.
        interpolation: see ``Preprocessor``.

    Returns:
        Indices and weights, both (num_target, num_taps). The weights of a target pixel sum to 1;
        unused taps have weight 0 and an index within bounds.
    """
    scale = num_source / num_target
    target = np.arange(num_target, dtype=np.float64)
    if interpolation == 'area':
        start, stop = target * scale, (target + 1.0) * scale
        first = np.floor(start)
        index = first[:, None] + np.arange(int(np.ceil(scale)) + 1)
        overlap = np.minimum(index + 1.0, stop[:, None]) - np.maximum(index, start[:, None])
        weight = np.maximum(overlap, 0.0) / scale
    elif interpolation == 'bilinear':
        center = (target + 0.5) * scale - 0.5
        index = np.floor(center)[:, None] + np.arange(2)
        fraction = center - np.floor(center)
        weight = np.stack([1.0 - fraction, fraction], axis=1)
    else:  # a kernel as wide as a target pixel, or as a source pixel where that is wider
        radius, kernel = _KERNELS[interpolation]
        width = max(scale, 1.0)
        center = (target + 0.5) * scale - 0.5
        index = np.floor(center - radius * width)[:, None]
        index = index + np.arange(int(np.ceil(2.0 * radius * width)) + 2)
        weight = kernel((index - center[:, None]) / width)
        weight *= (index >= 0) & (index < num_source)  # outside there is nothing to average
    inside = np.clip(index, 0, num_source - 1).astype(np.int64)
    return inside, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def _triangle(x: Weights) -> Weights:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: Weights) -> Weights:
    """Keys' kernel with a = -1/2, as PIL and torch have it for antialiased resizing."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_KERNELS: dict[str, tuple[float, Callable[[Weights], Weights]]] = {
    'antialias_bilinear': (1.0, _triangle),
    'antialias_bicubic': (2.0, _cubic),
}
"""Where a kernel ends, and its value at a distance."""


class DeviceResizer:
    """Uploads images as they came and turns them into normalised inputs on the device.

    Args:
        device: where to; on CUDA uploads go through pinned memory, on a stream of their own, and
            do not block.
        target: ``Layout.RGB`` or ``Layout.BGR``, the channel order wanted.
        gain_C: per channel of the target.
        bias_C: per channel of the target; the result is ``pixel * gain + bias``.
        interpolation: see ``Preprocessor``.
    """

    def __init__(
        self,
        device: torch.device,
        target: Layout,
        gain_C: npt.NDArray[np.float32],
        bias_C: npt.NDArray[np.float32],
        interpolation: Interpolation,
    ) -> None:
        self._device = device
        self._target = target
        self._interpolation: Interpolation = interpolation
        self._gain_C = torch.tensor(gain_C, device=device)
        self._bias_C = torch.tensor(bias_C, device=device)
        self._taps: dict[tuple[int, int, Interpolation], Taps] = {}
        self.is_fused = device.type == 'cuda' and importlib.util.find_spec('triton') is not None
        self._uploads: torch.cuda.Stream | None = None

    def can_read(self, encoding: str) -> bool:
        """Whether `fill` takes the bytes of an encoding as they are."""
        return self.is_fused and ENCODINGS[encoding].bits == 8

    def fill(
        self,
        content_CHW: torch.Tensor,
        frame: Frame,
        resized_hw: tuple[int, int],
        seen: tuple[slice, slice],
        source: torch.Tensor | None = None,
    ) -> None:
        """Writes one image, or a part of it, over the content of an input.

        On CUDA this only enqueues work on the current stream; the frame's bytes are free on
        return.

        Args:
            content_CHW: the target on the device, any strides, any floating dtype.
            frame: checked by ``check_frame``.
            resized_hw: size that the whole image is resized to.
            seen: rows and columns of that which the target shows.
            source: its bytes, if they are on the device already; for what it `can_read`.
        """
        height, width = resized_hw
        interpolation = self._interpolation
        if interpolation == 'area' and (height > frame.height or width > frame.width):
            interpolation = 'bilinear'
        taps_y = self._taps_of(frame.height, height, interpolation, seen[0])
        taps_x = self._taps_of(frame.width, width, interpolation, seen[1])
        if self.can_read(frame.encoding):
            from seg_perception.imaging import triton_resize

            triton_resize.fill(
                content_CHW,
                source if source is not None else self._upload(flat_bytes(frame.data)),
                frame,
                taps_y,
                taps_x,
                self._gain_C,
                self._bias_C,
                is_bgr=self._target is Layout.BGR,
            )
            return
        pixels, layout = to_uint8(
            frame, prefer=self._target, max_pixels=frame.height * frame.width
        )
        source_YXS = self._upload(pixels if pixels.ndim == 3 else pixels[..., None])
        columns_YWS = _blended(source_YXS, 1, taps_x)
        small_CHW = _blended(columns_YWS, 0, taps_y).permute(2, 0, 1)
        if layout is Layout.MONO:
            small_CHW = small_CHW.expand(3, -1, -1)
        else:
            is_rgb = layout in (Layout.RGB, Layout.RGBA)
            small_CHW = small_CHW[:3]
            if is_rgb != (self._target is Layout.RGB):
                small_CHW = small_CHW.flip(0)
        gain_C11, bias_C11 = self._gain_C[:, None, None], self._bias_C[:, None, None]
        content_CHW.copy_(small_CHW * gain_C11 + bias_C11)

    def tables(self) -> list[object]:
        """What is kept on the device from image to image."""
        return list(self._taps.values())

    def _taps_of(
        self, num_source: int, num_target: int, interpolation: Interpolation, seen: slice
    ) -> Taps:
        key = (num_source, num_target, interpolation)
        if key not in self._taps:
            index, weight = taps(num_source, num_target, interpolation)
            if len(self._taps) >= _MAX_PLANS:
                del self._taps[next(iter(self._taps))]
            self._taps[key] = (
                torch.tensor(index, dtype=torch.int32, device=self._device),
                torch.tensor(weight, device=self._device),
            )
        index_NK, weight_NK = self._taps[key]
        return index_NK[seen], weight_NK[seen]

    def _upload(self, pixels: U8) -> torch.Tensor:
        """Copies an array to the device; ready for work on the current stream."""
        if self._device.type != 'cuda':
            return torch.from_numpy(pixels.copy())
        staged = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        np.copyto(staged.numpy(), pixels)
        if self._uploads is None:
            self._uploads = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        consumer = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._uploads):
            source = staged.to(self._device, non_blocking=True)
        consumer.wait_stream(self._uploads)
        source.record_stream(consumer)
        return source


def _blended(image: torch.Tensor, axis: int, taps_NK: Taps) -> torch.Tensor:
    """Resizes one axis (0 or 1) of an image with three axes; float32."""
    index_NK, weight_NK = taps_NK
    num_target, num_taps = index_NK.shape
    shape = [1, 1, 1]
    shape[axis] = num_target
    blended: torch.Tensor | None = None
    for tap in range(num_taps):
        part = image.index_select(axis, index_NK[:, tap]) * weight_NK[:, tap].view(shape)
        blended = part if blended is None else blended.add_(part)
    assert blended is not None  # there is always a tap
    return blended.clamp_(0.0, 255.0)  # bicubic weights may lead outside
