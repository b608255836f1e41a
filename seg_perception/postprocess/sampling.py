"""Labels and confidence at the image's size from logits on the model's grid.

Labels are exactly "upsample the logits bilinearly, then take the argmax", but the logits are never
upsampled whole. A cell between four grid samples in which only one class can win is filled with
it; elsewhere only the classes that can win are interpolated (see `cells`, and `triton_cells` for
GPUs), by the same arithmetic at every pixel as if all were. On a GPU without Triton all classes
are interpolated everywhere, some rows at a time.

Legend: C classes, H/W model grid, Y/X output pixels (of the image, or of one cell in arrays with
K), I/J cells, K cells where several classes can win, Q a cell's corners, P pairs of a cell and a
class.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.postprocess.cells import (
    CellAxis,
    ContestedCells,
    Indices,
    Scratch,
    winners_of_cells,
)

_MAX_BLOCK_BYTES = 64 * 2**20
_HUGE = 1e30
_BLOCK_PIXELS = 2**17  # of cells interpolated together, to stay in the cache


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
        low = position.floor().to(torch.int64).clamp_(max=max(num_samples - 2, 0))
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

    Attributes:
        output_hw: size of the images it makes.

    Args:
        grid_hw: the model's output grid.
        geometry: how the source image was laid into the model's input.
        output_hw: size of the images to make, covering the same view as the source image.
        align_corners: True where the model's outer grid samples lie on the centres of the
            input's outer pixels (TensorFlow 1's ``align_corners``); False where grid cells
            tile the input (half-pixel centres, PyTorch's default).
        device: where the model's output is.

    Attributes:
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
        self.output_hw = output_hw
        self._column_weights_WX = self.columns.weights(grid_hw[1])
        self._scratch = Scratch()
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
        # Infinite scores (a class that is masked out) would make NaN of what lies between them.
        logits_CHW = logits_CHW.float().nan_to_num(nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
        if self._on_cpu:
            return self._labels_by_cells(logits_CHW)
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
        rows = self._cell_rows
        values_HW = values_HW.float().nan_to_num().mul_(255.0)
        values_IX = (values_HW[rows.corners] @ self._column_weights_WX).numpy()
        step_IX = np.diff(values_IX, axis=0)
        levels_YX = np.empty(self.output_hw, np.uint8)
        shape = (rows.num_pixels.max(), self.output_hw[1])
        block_YX = self._scratch.array('levels', shape, np.float32)
        for i in np.flatnonzero(rows.num_pixels):
            pixels = slice(rows.first_pixel[i], rows.first_pixel[i] + rows.num_pixels[i])
            cell_YX = block_YX[: rows.num_pixels[i]]
            np.multiply(rows.fraction_of_pixel[pixels, None], step_IX[i], out=cell_YX)
            np.add(cell_YX, values_IX[i], out=cell_YX)
            cv2.convertScaleAbs(cell_YX, levels_YX[pixels])
        return torch.from_numpy(levels_YX)

    def nearest(self, labels_HW: torch.Tensor) -> torch.Tensor:
        """The closest grid sample at every output pixel, for models that give only labels."""
        return labels_HW[self.rows.nearest()][:, self.columns.nearest()]

    def _labels_by_cells(self, logits_CHW: torch.Tensor) -> torch.Tensor:
        """As `labels`, on the CPU: only contested cells are interpolated."""
        rows, columns = self._cell_rows, self._cell_columns
        num_classes, _, width = logits_CHW.shape
        shape = (num_classes, len(rows.corners), width)
        rows_CHW = self._scratch.array('grid_rows', shape, np.float32)
        # mode='clip' writes straight into ``out``.
        logits_CHW.numpy().take(rows.corners, axis=1, out=rows_CHW, mode='clip')
        corners_CHW = self._scratch.array(
            'corners', (*shape[:2], len(columns.corners)), np.float32
        )
        rows_CHW.take(columns.corners, axis=2, out=corners_CHW, mode='clip')
        has_pixels_IJ = (rows.num_pixels > 0)[:, None] & (columns.num_pixels > 0)
        winner_IJ, contested = winners_of_cells(corners_CHW, has_pixels_IJ, self._scratch)
        dtype = np.uint8 if len(logits_CHW) <= 255 else np.int32
        labels_IX = winner_IJ.astype(dtype).take(columns.of_pixel, axis=1)
        labels_YX = labels_IX.take(rows.of_pixel, axis=0)
        if contested is not None:
            self._fill_contested(labels_YX, contested)
        return torch.from_numpy(labels_YX)

    def _fill_contested(self, labels_YX: npt.NDArray[Any], contested: ContestedCells) -> None:
        """Overwrites the pixels of contested cells with the best of their classes."""
        rows, columns = self._cell_rows, self._cell_columns
        num_y, num_x = len(rows.fraction_YI), len(columns.fraction_YI)
        block = max(1, _BLOCK_PIXELS // (num_y * num_x))
        corners_QP = torch.from_numpy(contested.corners_QP)
        for start in range(0, len(contested.row_K), block):
            cells = slice(start, start + block)
            row_K, column_K = contested.row_K[cells], contested.column_K[cells]
            first_K, num_K = contested.first_K[cells], contested.num_K[cells]
            shape = (num_y, num_x, len(row_K))
            best_YXK, scratch_YXK = (
                torch.from_numpy(self._scratch.array(name, shape, np.float32))
                for name in ('best', 'score')
            )
            label_YXK = self._scratch.array('label', shape, labels_YX.dtype)
            y_YK = rows.fraction_YI[:, torch.from_numpy(row_K)]
            x_XK = columns.fraction_YI[:, torch.from_numpy(column_K)]
            # A rank is each cell's next class: by rising id, so that ties stay with the lower.
            for rank in range(num_K[0]):
                num = int(np.searchsorted(-num_K, -rank))
                pair_K = first_K[:num] + rank
                class_K = contested.class_P[pair_K].astype(labels_YX.dtype)
                of_class_QK = corners_QP[:, torch.from_numpy(pair_K)]
                top_2K, bottom_2K = of_class_QK[:2], of_class_QK[2:]
                left_YK, right_YK = torch.lerp(top_2K[:, None], bottom_2K[:, None], y_YK[:, :num])
                score_YXK = scratch_YXK.view(-1)[: num_y * num_x * num].view(num_y, num_x, num)
                torch.lerp(
                    left_YK[:, None],
                    right_YK[:, None],
                    x_XK[:, :num],
                    out=score_YXK if rank else best_YXK,
                )
                if rank == 0:
                    label_YXK[:] = class_K
                    continue
                best, score = best_YXK.numpy()[..., :num], score_YXK.numpy()
                is_better = self._scratch.array('is_better', score.shape, np.bool_)
                np.greater(score, best, out=is_better)
                # Where it is better, the label's bits change into the class's: no branches.
                label = label_YXK[..., :num]
                label ^= (label ^ class_K) * is_better.view(np.uint8)
                num = int(np.searchsorted(-num_K, -rank - 1))  # cells with more classes to come
                np.maximum(best[..., :num], score[..., :num], out=best[..., :num])
            self._scatter(labels_YX, label_YXK, row_K, column_K)

    def _scatter(
        self,
        labels_YX: npt.NDArray[Any],
        label_YXK: npt.NDArray[Any],
        row_K: Indices,
        column_K: Indices,
    ) -> None:
        """Writes the labels of cells to where they belong."""
        rows, columns = self._cell_rows, self._cell_columns
        num_y, num_x, num_cells = label_YXK.shape
        label_KYX = np.empty((num_cells, num_y, num_x), label_YXK.dtype)
        cv2.transpose(label_YXK.reshape(-1, num_cells), label_KYX.reshape(num_cells, -1))
        top_K, left_K = rows.first_pixel[row_K], columns.first_pixel[column_K]
        height_K, width_K = rows.num_pixels[row_K], columns.num_pixels[column_K]
        size_K = height_K * (num_x + 1) + width_K
        # Cells of one size at a time: there are few sizes.
        for size in np.flatnonzero(np.bincount(size_K)):
            k = np.flatnonzero(size_K == size)
            height, width = divmod(int(size), num_x + 1)
            windows = np.lib.stride_tricks.sliding_window_view(
                labels_YX, (height, width), writeable=True
            )
            windows[top_K[k], left_K[k]] = label_KYX[k, :height, :width]

    def _labels_dense(self, logits_CHW: torch.Tensor, rows: AxisSampling) -> torch.Tensor:
        """As `labels`, for some rows, without a wait for the device: all classes everywhere."""
        scores_CYW = torch.lerp(
            logits_CHW[:, rows.low], logits_CHW[:, rows.high], rows.fraction[:, None]
        )
        scores_CYX = torch.lerp(
            scores_CYW[:, :, self.columns.low],
            scores_CYW[:, :, self.columns.high],
            self.columns.fraction,
        )
        return scores_CYX.argmax(0).to(_label_dtype(logits_CHW.shape[0]))


def _label_dtype(num_classes: int) -> torch.dtype:
    return torch.uint8 if num_classes <= 255 else torch.int32
