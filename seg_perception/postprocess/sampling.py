"""Labels and confidence at the image's size from logits on the model's grid.

Labels are exactly "upsample the logits bilinearly, then take the argmax". The logits are never
upsampled whole: along a row, logits between two neighbouring grid columns are straight lines, so a
class that wins at both ends wins everywhere between them (a convex combination keeps every
inequality, ties included). Only the pixels between columns whose winners differ, a few percent of
an image, need all classes.

Legend: C classes, H/W model grid, Y/X output pixels, P pixels between differing winners.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seg_perception.imaging.preprocess import ResizeGeometry

_MAX_DENSE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class AxisSampling:
    """Where the pixels of one axis lie between the grid's samples.

    Attributes:
        low: int64, index of the sample before each pixel.
        high: int64, index of the sample after it.
        fraction: float32 in [0, 1], how far the pixel is from ``low`` to ``high``.
    """

    low: torch.Tensor
    high: torch.Tensor
    fraction: torch.Tensor

    @classmethod
    def affine(
        cls, scale: float, offset: float, num_pixels: int, num_samples: int, device: torch.device
    ) -> AxisSampling:
        """Pixel i lies at ``scale * i + offset`` in the grid, clamped to its outer samples."""
        position = torch.arange(num_pixels, dtype=torch.float64) * scale + offset
        position = position.clamp_(0.0, num_samples - 1.0)
        low = position.floor().to(torch.int64).clamp_(max=max(num_samples - 2, 0))
        high = (low + 1).clamp_(max=num_samples - 1)
        fraction = (position - low).to(torch.float32)
        return cls(low.to(device), high.to(device), fraction.to(device))

    def nearest(self) -> torch.Tensor:
        """Index of the sample closest to each pixel."""
        return torch.where(self.fraction < 0.5, self.low, self.high)


class GridSampler:
    """Samples a model's output grid at the pixels of an image.

    Built once per combination of sizes and reused; holds index tables on the device.

    Args:
        grid_hw: the model's output grid.
        geometry: how the source image was laid into the model's input.
        output_hw: size of the images to make, covering the same view as the source image.
        align_corners: True where the model's outer grid samples lie on the centres of the
            input's outer pixels (TensorFlow 1's ``align_corners``); False where grid cells
            tile the input (half-pixel centres, PyTorch's default).
        device: where the model's output is.
    """

    def __init__(
        self,
        grid_hw: tuple[int, int],
        geometry: ResizeGeometry,
        output_hw: tuple[int, int],
        *,
        align_corners: bool,
        device: torch.device,
    ) -> None:
        axes = []
        for axis in (0, 1):
            num_grid, num_input = grid_hw[axis], geometry.input_hw[axis]
            # Output pixel i -> model input pixel, half-pixel centres on both.
            to_input = geometry.content_hw[axis] / output_hw[axis]
            input_offset = 0.5 * to_input - 0.5 + geometry.offset_yx[axis]
            if align_corners:
                to_grid = (num_grid - 1) / max(num_input - 1, 1)
                scale, offset = to_input * to_grid, input_offset * to_grid
            else:
                to_grid = num_grid / num_input
                scale, offset = to_input * to_grid, (input_offset + 0.5) * to_grid - 0.5
            axes.append(AxisSampling.affine(scale, offset, output_hw[axis], num_grid, device))
        self._rows, self._columns = axes
        self._output_hw = output_hw
        self._on_cpu = device.type == 'cpu'

    def labels(self, logits_CHW: torch.Tensor) -> torch.Tensor:
        """The class that wins at every output pixel.

        Args:
            logits_CHW: floating point scores on the grid.

        Returns:
            (Y, X), uint8 up to 255 classes and int32 above; ties go to the lower id.
        """
        # float32 decides ties and near-ties the same way on every device and precision.
        logits_CHW = logits_CHW.float()
        if self._on_cpu:
            return self._labels_by_segments(logits_CHW)
        return self._labels_dense(logits_CHW)

    def resample(self, values_HW: torch.Tensor) -> torch.Tensor:
        """Bilinear interpolation of one channel: (H, W) floats to (Y, X) float32."""
        values = values_HW.float()
        rows = torch.lerp(
            values[self._rows.low], values[self._rows.high], self._rows.fraction[:, None]
        )
        return torch.lerp(rows[:, self._columns.low], rows[:, self._columns.high],
                          self._columns.fraction)

    def nearest(self, labels_HW: torch.Tensor) -> torch.Tensor:
        """The closest grid sample at every output pixel, for models that give only labels."""
        return labels_HW[self._rows.nearest()][:, self._columns.nearest()]

    def _labels_by_segments(self, logits_CHW: torch.Tensor) -> torch.Tensor:
        num_classes = logits_CHW.shape[0]
        dtype = _label_dtype(num_classes)
        logits_HWC = logits_CHW.permute(1, 2, 0).contiguous()
        rows_YWC = torch.lerp(
            logits_HWC[self._rows.low],
            logits_HWC[self._rows.high],
            self._rows.fraction[:, None, None],
        )
        winners_YW = rows_YWC.argmax(-1).to(dtype)
        low, high = self._columns.low, self._columns.high
        winners_YX = winners_YW[:, low]
        differs_YW = winners_YW[:, :-1] != winners_YW[:, 1:]
        if differs_YW.shape[1] == 0:
            return winners_YX
        y, x = torch.nonzero(differs_YW[:, low], as_tuple=True)
        if y.numel():
            scores_PC = torch.lerp(
                rows_YWC[y, low[x]], rows_YWC[y, high[x]], self._columns.fraction[x, None]
            )
            winners_YX[y, x] = scores_PC.argmax(-1).to(dtype)
        return winners_YX

    def _labels_dense(self, logits_CHW: torch.Tensor) -> torch.Tensor:
        num_classes = logits_CHW.shape[0]
        num_rows, num_columns = self._output_hw
        dtype = _label_dtype(num_classes)
        labels = torch.empty(self._output_hw, dtype=dtype, device=logits_CHW.device)
        block = max(1, _MAX_DENSE_BYTES // (4 * num_classes * num_columns))
        for start in range(0, num_rows, block):
            rows = slice(start, start + block)
            part = torch.lerp(
                logits_CHW[:, self._rows.low[rows]],
                logits_CHW[:, self._rows.high[rows]],
                self._rows.fraction[rows, None],
            )
            part = torch.lerp(
                part[:, :, self._columns.low],
                part[:, :, self._columns.high],
                self._columns.fraction,
            )
            labels[rows] = part.argmax(0).to(dtype)
        return labels


def _label_dtype(num_classes: int) -> torch.dtype:
    return torch.uint8 if num_classes <= 255 else torch.int32
