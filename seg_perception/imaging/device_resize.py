"""Colour, resize and normalisation on the device, from the bytes that a camera sent.

Where Triton is installed (it is part of torch's CUDA builds) one kernel does it all, from every
8-bit encoding (`triton_resize`); elsewhere, and for 16-bit encodings, colours are converted on the
host and torch's operations do the rest.

Shape suffixes: C channels, H/W content of the network input, Y/X source pixels, S channels of
the source (1, 3 or 4), K taps.

The same geometry and weights as OpenCV's INTER_LINEAR and INTER_AREA, computed in float32 and
not rounded to whole grey levels in between, so it agrees with the CPU path to one grey level.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.imaging.convert import flat_bytes, to_uint8
from seg_perception.imaging.encodings import ENCODINGS, Layout
from seg_perception.structures import U8, Frame

_MAX_PLANS = 32

Taps = tuple[torch.Tensor, torch.Tensor]
"""Indices (int32) and weights (float32) of the source pixels of each target pixel, (N, K)."""


def taps(
    num_source: int, num_target: int, is_area: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Which source pixels make up each target pixel along one axis, and with what weight.

    Args:
        num_source: pixels along the axis of the source.
        num_target: pixels along the axis of the target.
        is_area: average everything under the target pixel instead of the two nearest centres.

    Returns:
        Indices and weights, both (num_target, num_taps). The weights of a target pixel sum to 1;
        unused taps have weight 0 and an index within bounds.
    """
    scale = num_source / num_target
    target = np.arange(num_target, dtype=np.float64)
    if is_area:
        start, stop = target * scale, (target + 1.0) * scale
        first = np.floor(start)
        index = first[:, None] + np.arange(int(np.ceil(scale)) + 1)
        overlap = np.minimum(index + 1.0, stop[:, None]) - np.maximum(index, start[:, None])
        weight = np.maximum(overlap, 0.0) / scale
    else:
        center = (target + 0.5) * scale - 0.5
        index = np.floor(center)[:, None] + np.arange(2)
        fraction = center - np.floor(center)
        weight = np.stack([1.0 - fraction, fraction], axis=1)
    inside = np.clip(index, 0, num_source - 1).astype(np.int64)
    return inside, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


class DeviceResizer:
    """Uploads images as they came and turns them into normalised inputs on the device.

    Args:
        device: where to; on CUDA uploads go through pinned memory, on a stream of their own, and
            do not block.
        target: ``Layout.RGB`` or ``Layout.BGR``, the channel order wanted.
        gain_C: per channel of the target.
        bias_C: per channel of the target; the result is ``pixel * gain + bias``.
        is_area: interpolation where the image shrinks, see ``Preprocessor``.
    """

    def __init__(
        self,
        device: torch.device,
        target: Layout,
        gain_C: npt.NDArray[np.float32],
        bias_C: npt.NDArray[np.float32],
        is_area: bool,
    ) -> None:
        self._device = device
        self._target = target
        self._is_area = is_area
        self._gain_C = torch.tensor(gain_C, device=device)
        self._bias_C = torch.tensor(bias_C, device=device)
        self._taps: dict[tuple[int, int, bool], Taps] = {}
        self.is_fused = device.type == 'cuda' and importlib.util.find_spec('triton') is not None
        self._uploads: torch.cuda.Stream | None = None

    def can_read(self, encoding: str) -> bool:
        """Whether `fill` takes the bytes of an encoding as they are."""
        return self.is_fused and ENCODINGS[encoding].bits == 8

    def fill(
        self, content_CHW: torch.Tensor, frame: Frame, source: torch.Tensor | None = None
    ) -> None:
        """Writes one image over the content of an input.

        On CUDA this only enqueues work on the current stream; the frame's bytes are free on
        return.

        Args:
            content_CHW: the target on the device, any strides, any floating dtype.
            frame: checked by ``check_frame``.
            source: its bytes, if they are on the device already; for what it `can_read`.
        """
        height, width = content_CHW.shape[1:]
        is_area = self._is_area and height <= frame.height and width <= frame.width
        taps_y = self._taps_of(frame.height, height, is_area)
        taps_x = self._taps_of(frame.width, width, is_area)
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
        rows_HXS = _blended(source_YXS, 0, taps_y)
        small_CHW = _blended(rows_HXS, 1, taps_x).permute(2, 0, 1)
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

    def _taps_of(self, num_source: int, num_target: int, is_area: bool) -> Taps:
        key = (num_source, num_target, is_area)
        if key not in self._taps:
            index, weight = taps(num_source, num_target, is_area)
            if len(self._taps) >= _MAX_PLANS:
                del self._taps[next(iter(self._taps))]
            self._taps[key] = (
                torch.tensor(index, dtype=torch.int32, device=self._device),
                torch.tensor(weight, device=self._device),
            )
        return self._taps[key]

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
    return blended
