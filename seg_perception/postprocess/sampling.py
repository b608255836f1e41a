"""Labels and confidence at the image's size from logits on the model's grid.

Labels are exactly "upsample the logits bilinearly, then take the argmax", but the logits are never
upsampled whole. Along a row, logits between two neighbouring grid columns are straight lines, so

- a class that wins at both ends wins everywhere between them (a convex combination keeps every
  inequality, ties included);
- where the ends' winners differ, no third class wins in between if none does where the lines of
  these two cross: left of the crossing the first wins, right of it the second;
- only what is left, where three or more classes meet, needs all classes at every pixel.

Legend: C classes, H/W model grid, Y/X output pixels, S segments (row, grid column) whose ends have
different winners, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.imaging.preprocess import ResizeGeometry

_MAX_BLOCK_BYTES = 64 * 2**20
_HUGE = 1e30


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

    def weights(self, num_samples: int) -> torch.Tensor:
        """The interpolation as a matrix of shape (samples, pixels), two weights per pixel."""
        matrix = torch.zeros(num_samples, len(self.low), device=self.low.device)
        matrix.scatter_add_(0, self.low[None], 1.0 - self.fraction[None])
        return matrix.scatter_add_(0, self.high[None], self.fraction[None])

    def part(self, start: int, stop: int) -> AxisSampling:
        """The same for some of the pixels."""
        pixels = slice(start, stop)
        return AxisSampling(self.low[pixels], self.high[pixels], self.fraction[pixels])

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
        self._column_weights_WX = self._columns.weights(grid_hw[1])
        num_segments = max(grid_hw[1] - 1, 0)
        self._num_pixels_per_segment = (
            np.bincount(self._columns.low.cpu().numpy(), minlength=num_segments)[:num_segments]
            if num_segments
            else np.empty(0, np.int64)
        )
        self._on_cpu = device.type == 'cpu'

    def labels(self, logits_CHW: torch.Tensor) -> torch.Tensor:
        """The class that wins at every output pixel.

        Args:
            logits_CHW: floating point scores on the grid.

        Returns:
            (Y, X), uint8 up to 255 classes and int32 above; ties go to the lower id.
        """
        # Infinite scores (a class that is masked out) would make NaN of what lies between them.
        logits_CHW = logits_CHW.float().nan_to_num(nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
        num_rows, num_columns = self._output_hw
        make = self._labels_by_segments if self._on_cpu else self._labels_dense
        # Both ways may need all classes at many pixels at once; blocks of rows bound that.
        block = max(1, _MAX_BLOCK_BYTES // (4 * logits_CHW.shape[0] * num_columns))
        if block >= num_rows:
            return make(logits_CHW, self._rows)
        return torch.cat(
            [make(logits_CHW, self._rows.part(y, y + block)) for y in range(0, num_rows, block)]
        )

    def resample(self, values_HW: torch.Tensor) -> torch.Tensor:
        """Bilinear interpolation of one channel: (H, W) floats to (Y, X) float32; NaN gives 0."""
        # What is not a number would spread along its row in the product below.
        values_HW = values_HW.float().nan_to_num()
        rows_YW = torch.lerp(
            values_HW[self._rows.low], values_HW[self._rows.high], self._rows.fraction[:, None]
        )
        return rows_YW @ self._column_weights_WX

    def nearest(self, labels_HW: torch.Tensor) -> torch.Tensor:
        """The closest grid sample at every output pixel, for models that give only labels."""
        return labels_HW[self._rows.nearest()][:, self._columns.nearest()]

    def _labels_by_segments(self, logits_CHW: torch.Tensor, rows: AxisSampling) -> torch.Tensor:
        """As `labels`, for some rows, on the CPU: whole segments of a row at a time."""
        logits_HWC = logits_CHW.permute(1, 2, 0).contiguous()
        rows_YWC = torch.lerp(
            logits_HWC[rows.low], logits_HWC[rows.high], rows.fraction[:, None, None]
        )
        winners_YW = rows_YWC.argmax(-1)
        narrow_YW = winners_YW.to(_label_dtype(logits_CHW.shape[0])).numpy()
        # Pixels of a segment are neighbours, so spreading segments is repeating their values.
        num_pixels_W = self._num_pixels_per_segment
        if len(num_pixels_W) == 0:
            return torch.from_numpy(np.repeat(narrow_YW, self._output_hw[1], axis=1))
        labels_YX = np.repeat(narrow_YW[:, :-1], num_pixels_W, axis=1)
        differs_YW = winners_YW[:, :-1] != winners_YW[:, 1:]
        if differs_YW.any():
            crossing_YW, mixed = _crossings(rows_YWC, winners_YW, differs_YW)
            fraction_X = self._columns.fraction.numpy()
            is_right_YX = fraction_X > np.repeat(crossing_YW.numpy(), num_pixels_W, axis=1)
            right_YX = np.repeat(narrow_YW[:, 1:], num_pixels_W, axis=1)
            np.copyto(labels_YX, right_YX, where=is_right_YX)
            y_P, x_P = self._pixels_of(*mixed)
            if len(y_P):
                low_P, high_P = self._columns.low[x_P], self._columns.high[x_P]
                scores_PC = torch.lerp(
                    rows_YWC[y_P, low_P], rows_YWC[y_P, high_P], self._columns.fraction[x_P, None]
                )
                labels_YX[y_P, x_P] = scores_PC.argmax(-1).numpy()
        return torch.from_numpy(labels_YX)

    def _pixels_of(
        self, y_S: torch.Tensor, w_S: torch.Tensor
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and column of every pixel of some segments."""
        num_pixels_S = self._num_pixels_per_segment[w_S.numpy()]
        first_W = np.cumsum(self._num_pixels_per_segment) - self._num_pixels_per_segment
        # Counts on within each segment: 0 1 2 | 0 1 | 0 1 2 3 ...
        steps_P = np.arange(num_pixels_S.sum()) - np.repeat(
            np.cumsum(num_pixels_S) - num_pixels_S, num_pixels_S
        )
        x_P = np.repeat(first_W[w_S.numpy()], num_pixels_S) + steps_P
        return np.repeat(y_S.numpy(), num_pixels_S), x_P

    def _labels_dense(self, logits_CHW: torch.Tensor, rows: AxisSampling) -> torch.Tensor:
        """As `labels`, for some rows, without a wait for the device: all classes everywhere."""
        scores_CYW = torch.lerp(
            logits_CHW[:, rows.low], logits_CHW[:, rows.high], rows.fraction[:, None]
        )
        scores_CYX = torch.lerp(
            scores_CYW[:, :, self._columns.low],
            scores_CYW[:, :, self._columns.high],
            self._columns.fraction,
        )
        return scores_CYX.argmax(0).to(_label_dtype(logits_CHW.shape[0]))


def _crossings(
    rows_YWC: torch.Tensor, winners_YW: torch.Tensor, differs_YW: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Where, between two grid columns, the winner changes.

    Returns:
        The share of the way from a column to the next at which the left end's winner hands over
        to the right end's, shape (Y, W - 1), 2 where the ends agree; and row and column of the
        segments in which a third class wins.
    """
    y_S, w_S = torch.nonzero(differs_YW, as_tuple=True)
    left_SC, right_SC = rows_YWC[y_S, w_S], rows_YWC[y_S, w_S + 1]
    first_S1, second_S1 = winners_YW[y_S, w_S, None], winners_YW[y_S, w_S + 1, None]
    lead_left_S1 = left_SC.gather(1, first_S1) - left_SC.gather(1, second_S1)
    lead_right_S1 = right_SC.gather(1, second_S1) - right_SC.gather(1, first_S1)
    crossing_S1 = lead_left_S1 / (lead_left_S1 + lead_right_S1)
    scores_SC = torch.lerp(left_SC, right_SC, crossing_S1)
    both_S = torch.maximum(scores_SC.gather(1, first_S1), scores_SC.gather(1, second_S1))[:, 0]
    is_mixed_S = scores_SC.amax(1) > both_S
    # Exactly at the crossing both win, and the lower id is taken.
    just_before_S1 = torch.nextafter(crossing_S1, torch.tensor(-1.0))
    crossing_S1 = torch.where(second_S1 < first_S1, just_before_S1, crossing_S1)
    crossing_YW = torch.full(differs_YW.shape, 2.0)
    crossing_YW[y_S, w_S] = crossing_S1[:, 0]
    return crossing_YW, (y_S[is_mixed_S], w_S[is_mixed_S])


def _label_dtype(num_classes: int) -> torch.dtype:
    return torch.uint8 if num_classes <= 255 else torch.int32
