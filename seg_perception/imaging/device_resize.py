"""Resize, colour order and normalisation on the device, from 8-bit samples.

Shape suffixes: C channels, H/W content of the network input, Y/X source pixels, S channels of
the source (1, 3 or 4).

The same geometry and weights as OpenCV's INTER_LINEAR and INTER_AREA, computed in float32 and
not rounded to whole grey levels in between, so it agrees with the CPU path to one grey level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.imaging.encodings import Layout
from seg_perception.structures import U8

# One upload may still be under way while the next frame is staged.
_NUM_STAGES = 2
_MAX_PLANS = 32

Taps = list[tuple[torch.Tensor, torch.Tensor]]


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
    """Uploads 8-bit images and turns them into normalised inputs on the device.

    Args:
        device: where to; on CUDA uploads go through pinned memory and do not block.
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
        self._gain_C11 = torch.tensor(gain_C, device=device)[:, None, None]
        self._bias_C11 = torch.tensor(bias_C, device=device)[:, None, None]
        self._taps: dict[tuple[int, int, bool], Taps] = {}
        self._stages: list[torch.Tensor | None] = [None] * _NUM_STAGES
        self._uploaded: list[torch.cuda.Event | None] = [None] * _NUM_STAGES
        self._stage = 0

    def fill(self, content_CHW: torch.Tensor, pixels: U8, layout: Layout) -> None:
        """Writes one image over the content of an input.

        On CUDA this only enqueues work on the current stream; ``pixels`` is free on return.

        Args:
            content_CHW: the target on the device, any strides, any floating dtype.
            pixels: (Y, X) or (Y, X, 3 or 4), uint8 on the host, rows may be padded.
            layout: the order of its channels.
        """
        source_YXS = self._upload(pixels if pixels.ndim == 3 else pixels[..., None])
        num_rows, num_columns = source_YXS.shape[:2]
        height, width = content_CHW.shape[1:]
        is_area = self._is_area and height <= num_rows and width <= num_columns
        rows_HXS = self._blend(source_YXS, 0, height, is_area)
        small_CHW = self._blend(rows_HXS, 1, width, is_area).permute(2, 0, 1)
        if layout is Layout.MONO:
            small_CHW = small_CHW.expand(3, -1, -1)
        else:
            is_rgb = layout in (Layout.RGB, Layout.RGBA)
            small_CHW = small_CHW[:3]
            if is_rgb != (self._target is Layout.RGB):
                small_CHW = small_CHW.flip(0)
        content_CHW.copy_(small_CHW * self._gain_C11 + self._bias_C11)

    def _blend(
        self, image: torch.Tensor, axis: int, num_target: int, is_area: bool
    ) -> torch.Tensor:
        """Resizes one axis (0 or 1) of an image with three axes; float32."""
        if image.shape[axis] == num_target:
            return image.to(torch.float32)
        shape = [1, 1, 1]
        shape[axis] = num_target
        blended: torch.Tensor | None = None
        for index, weight in self._taps_of(image.shape[axis], num_target, is_area):
            part = image.index_select(axis, index) * weight.view(shape)
            blended = part if blended is None else blended.add_(part)
        assert blended is not None  # there is always a tap
        return blended

    def _taps_of(self, num_source: int, num_target: int, is_area: bool) -> Taps:
        key = (num_source, num_target, is_area)
        if key not in self._taps:
            index, weight = taps(num_source, num_target, is_area)
            if len(self._taps) >= _MAX_PLANS:
                del self._taps[next(iter(self._taps))]
            self._taps[key] = [
                (
                    torch.tensor(index[:, tap], device=self._device),
                    torch.tensor(weight[:, tap], device=self._device),
                )
                for tap in range(index.shape[1])
            ]
        return self._taps[key]

    def _upload(self, pixels: U8) -> torch.Tensor:
        """Copies an image to the device through a staging buffer of this object's."""
        is_cuda = self._device.type == 'cuda'
        self._stage = (self._stage + 1) % _NUM_STAGES
        uploaded = self._uploaded[self._stage]
        if uploaded is not None:
            uploaded.synchronize()  # the last upload from this buffer must have left it
        stage = self._stages[self._stage]
        if stage is None or stage.numel() < pixels.size:
            stage = torch.empty(pixels.size, dtype=torch.uint8, pin_memory=is_cuda)
            self._stages[self._stage] = stage
        staged = stage[: pixels.size].view(pixels.shape)
        np.copyto(staged.numpy(), pixels)
        if not is_cuda:
            return staged
        source = staged.to(self._device, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._uploaded[self._stage] = event
        return source
