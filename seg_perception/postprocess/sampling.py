"""Labels and confidence at the image's size from logits on the model's grid.

Labels are exactly "upsample the logits bilinearly, then take the argmax", but the logits are never
upsampled whole. A cell between four grid samples in which only one class can win is filled with
it; elsewhere only the classes that can win are interpolated (see `cells`, and `triton_cells` for
GPUs), by the same arithmetic at every pixel as if all were. On a GPU without Triton all classes
are interpolated everywhere, some rows at a time.

Legend: C classes, H/W model grid, Y/X output pixels.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seg_perception.image_memory import empty_image
from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.postprocess.cells import CellAxis, fill_labels, fill_levels
from seg_perception.postprocess.ranking import Floats, RankedScores, rank

_MAX_BLOCK_BYTES = 64 * 2**20
_HUGE = 1e30


@dataclass(frozen=True, slots=True)
class AxisSampling:
    """Where the pixels of one axis lie between the grid's samples.

    Attributes:
        low: int64, index of the sample before each pixel; shape (X,), or (N, X) where each of N
            grids lies elsewhere.
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
        return cls._at(position, num_samples, device)

    @classmethod
    def tiled(
        cls, pixels_X: torch.Tensor, first_N: torch.Tensor, last_N: torch.Tensor, num_samples: int
    ) -> AxisSampling:
        """Pixels of an axis in grids that each tile an interval; tensors of shape (N, X).

        Args:
            pixels_X: float64, where the pixels are.
            first_N: the lower edge of each interval, on the same scale.
            last_N: its upper edge.
            num_samples: of the grid.
        """
        step_N = (last_N - first_N) / num_samples
        position = (pixels_X - first_N[:, None]) / step_N[:, None] - 0.5
        # an empty interval has no position; nobody asks for its pixels
        return cls._at(position.nan_to_num_(), num_samples, pixels_X.device)

    @classmethod
    def _at(cls, position: torch.Tensor, num_samples: int, device: torch.device) -> AxisSampling:
        position = position.clamp_(0.0, num_samples - 1.0)
        low = position.floor().to(torch.int64)
        high = (low + 1).clamp_(max=num_samples - 1)
        fraction = (position - low).to(torch.float32)
        return cls(low.to(device), high.to(device), fraction.to(device))

    def weights(self, num_samples: int) -> torch.Tensor:
        """The interpolation as a matrix of shape (samples, pixels), two weights per pixel."""
        matrix = torch.zeros(num_samples, len(self.low), device=self.low.device)
        matrix.scatter_add_(0, self.low[None], 1.0 - self.fraction[None])
        return matrix.scatter_add_(0, self.high[None], self.fraction[None])

    def part(self, start: int, stop: int) -> AxisSampling:
        """The same for some of the pixels."""
        pixels = slice(start, stop)
        return AxisSampling(
            self.low[..., pixels], self.high[..., pixels], self.fraction[..., pixels]
        )

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

    Attributes:
        grid_hw: size of the grid.
        output_hw: size of the images it makes.
        rows: where their rows lie in the grid.
        columns: where their columns lie in the grid.
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
        cells = []
        self._to_input: list[tuple[float, float]] = []
        for axis in (0, 1):
            num_grid, num_input = grid_hw[axis], geometry.input_hw[axis]
            # Output pixel i -> model input pixel, half-pixel centres on both.
            to_input = geometry.content_hw[axis] / output_hw[axis]
            input_offset = 0.5 * to_input - 0.5 + geometry.offset_yx[axis]
            self._to_input.append((to_input, input_offset))
            if align_corners:
                to_grid = (num_grid - 1) / max(num_input - 1, 1)
                scale, offset = to_input * to_grid, input_offset * to_grid
            else:
                to_grid = num_grid / num_input
                scale, offset = to_input * to_grid, (input_offset + 0.5) * to_grid - 0.5
            position = np.arange(output_hw[axis]) * scale + offset
            cells.append(CellAxis.of(position, num_grid))
            axes.append(AxisSampling.affine(scale, offset, output_hw[axis], num_grid, device))
        self.rows, self.columns = axes
        self._cell_rows, self._cell_columns = cells
        self.grid_hw, self.output_hw = grid_hw, output_hw
        self._column_weights_WX = self.columns.weights(grid_hw[1])
        self._on_cpu = device.type == 'cpu'
        self._device_cells: list[Any] = []
        if device.type == 'cuda' and importlib.util.find_spec('triton') is not None:
            from seg_perception.postprocess import triton_cells

            self._device_cells = [triton_cells.on_device(axis, device) for axis in cells]

    @property
    def is_fused(self) -> bool:
        """Whether `fill_label_images` is there: on GPUs with Triton."""
        return bool(self._device_cells)

    def fill_label_images(
        self,
        logits_BCHW: torch.Tensor,
        labels_BYX: torch.Tensor,
        confidence_BYX: torch.Tensor | None,
        is_nan: torch.Tensor,
        **rules: Any,
    ) -> None:
        """Labels and confidence of a batch in two kernels; see ``triton_cells.label_images``."""
        from seg_perception.postprocess import triton_cells

        rows, columns = self._device_cells
        triton_cells.label_images(
            logits_BCHW, rows, columns, labels_BYX, confidence_BYX, is_nan, **rules
        )

    def input_edges(self, axis: int) -> torch.Tensor:
        """Where the centres of output pixels lie in the model's input.

        Args:
            axis: 0 for rows, 1 for columns.

        Returns:
            float64 on the device, one per pixel; 0 is the input's edge, 0.5 its first pixel's
            centre.
        """
        scale, offset = self._to_input[axis]
        position = torch.arange(self.output_hw[axis], dtype=torch.float64) * scale + offset + 0.5
        return position.to(self.rows.low.device)

    def labels(self, logits_CHW: torch.Tensor) -> torch.Tensor:
        """The class that wins at every output pixel.

        Args:
            logits_CHW: floating point scores on the grid.

        Returns:
            (Y, X), uint8 up to 255 classes and int32 above; ties go to the lower id.
        """
        if self._on_cpu:
            return self.ranked_labels(rank(logits_CHW))
        # Infinite scores (a class that is masked out) would make NaN of what lies between them.
        logits_CHW = logits_CHW.float().nan_to_num(nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
        num_rows, num_columns = self.output_hw
        # All classes at all pixels may need much memory; blocks of rows bound that.
        block = max(1, _MAX_BLOCK_BYTES // (4 * logits_CHW.shape[0] * num_columns))
        if block >= num_rows:
            return self._labels_dense(logits_CHW, self.rows)
        return torch.cat(
            [
                self._labels_dense(logits_CHW, self.rows.part(y, y + block))
                for y in range(0, num_rows, block)
            ]
        )

    def ranked_labels(self, ranked: RankedScores) -> torch.Tensor:
        """As `labels`, on the CPU: only what several classes may win is interpolated."""
        num_classes = len(ranked.scores_CN)
        labels_YX = empty_image(self.output_hw, np.uint8 if num_classes <= 255 else np.int32)
        fill_labels(ranked, self._cell_rows, self._cell_columns, self.grid_hw[1], labels_YX)
        return torch.from_numpy(labels_YX)

    def resample(self, values_HW: torch.Tensor) -> torch.Tensor:
        """Bilinear interpolation of one channel: (H, W) floats to (Y, X) float32; NaN gives 0."""
        # What is not a number would spread along its row in the product below.
        values_HW = values_HW.float().nan_to_num()
        rows_YW = torch.lerp(
            values_HW[self.rows.low], values_HW[self.rows.high], self.rows.fraction[:, None]
        )
        return rows_YW @ self._column_weights_WX

    def levels(self, values_HW: torch.Tensor) -> torch.Tensor:
        """As `resample` of values of 0 to 1, in whole levels of 0 to 255: (Y, X) uint8."""
        if not self._on_cpu:
            return self.resample(values_HW).mul_(255.0).round_().clamp_(0, 255).to(torch.uint8)
        return self.ranked_levels(values_HW.float().nan_to_num().contiguous().numpy())

    def ranked_levels(self, values_HW: Floats) -> torch.Tensor:
        """As `levels`, on the CPU, of finite numbers."""
        levels_YX = empty_image(self.output_hw, np.uint8)
        fill_levels(values_HW, self._cell_rows, self._cell_columns, levels_YX)
        return torch.from_numpy(levels_YX)

    def nearest(self, labels_HW: torch.Tensor) -> torch.Tensor:
        """The closest grid sample at every output pixel, for models that give only labels."""
        return labels_HW[self.rows.nearest()][:, self.columns.nearest()]

    def _labels_dense(self, logits_CHW: torch.Tensor, rows: AxisSampling) -> torch.Tensor:
        """As `labels`, for some rows, without a wait for the device: all classes everywhere."""
        scores_CYW = _between(
            logits_CHW[:, rows.low], logits_CHW[:, rows.high], rows.fraction[:, None]
        )
        scores_CYX = _between(
            scores_CYW[:, :, self.columns.low],
            scores_CYW[:, :, self.columns.high],
            self.columns.fraction,
        )
        return scores_CYX.argmax(0).to(_label_dtype(logits_CHW.shape[0]))


def _between(low: torch.Tensor, high: torch.Tensor, fraction: torch.Tensor) -> torch.Tensor:
    """``low + fraction * (high - low)``, rounded at each step as `cells` does; overwrites high."""
    return high.sub_(low).mul_(fraction).add_(low)


def _label_dtype(num_classes: int) -> torch.dtype:
    return torch.uint8 if num_classes <= 255 else torch.int32
