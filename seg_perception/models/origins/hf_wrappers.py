"""Networks of transformers as plain torch modules: images in, tensors out, nothing else.

B batch, C classes, Q queries, H/W model grid.
"""

from __future__ import annotations

import math
from typing import Any

import torch


class Logits(torch.nn.Module):
    """A model with a semantic head.

    Args:
        model: takes ``pixel_values``, gives an output with ``logits``.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, H, W) on the head's grid."""
        logits_BCHW: torch.Tensor = self.model(pixel_values=batch_B3HW).logits
        return logits_BCHW


class Queries(torch.nn.Module):
    """A model that gives a class and a mask per query.

    Args:
        model: takes ``pixel_values``, gives ``class_queries_logits`` and ``masks_queries_logits``.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits (B, Q, C + 1), the last for "nothing", and mask logits (B, Q, H, W)."""
        output: Any = self.model(pixel_values=batch_B3HW)
        return output.class_queries_logits, output.masks_queries_logits


class TaskQueries(torch.nn.Module):
    """OneFormer: queries for the task that its tokens name.

    Args:
        model: takes ``pixel_values`` and ``task_inputs``.
        task_ids: the tokens of the task, 0 where there is none.
    """

    task_ids_1T: torch.Tensor

    not_exportable = (
        'what torch.export makes of its pixel decoder for images of any size grows for many '
        'minutes and is no graph in the end'
    )

    def __init__(self, model: torch.nn.Module, task_ids: list[int]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer('task_ids_1T', torch.tensor([task_ids]), persistent=False)

    def forward(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Queries.forward`."""
        task_ids_BT = self.task_ids_1T.expand(len(batch_B3HW), -1)
        output: Any = self.model(pixel_values=batch_B3HW, task_inputs=task_ids_BT)
        return output.class_queries_logits, output.masks_queries_logits


class SemanticWindows(torch.nn.Module):
    """A network of one square input size, moved along the longer side of an image.

    As ``do_split_image`` of EoMT has it: as few windows as cover the image, evenly spaced, and the
    mean of their scores where they overlap.

    Args:
        queries: see `Queries`; takes squares.
    """

    def __init__(self, queries: torch.nn.Module) -> None:
        super().__init__()
        self.queries = queries

    def forward(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """Scores (B, C, H, W) of 0 to 1 at the input's own size."""
        num_images, _, height, width = batch_B3HW.shape
        side, axis = min(height, width), 2 if height > width else 3
        starts = window_starts(max(height, width), side)
        windows = torch.cat([batch_B3HW.narrow(axis, start, side) for start in starts])
        class_logits_NQK, mask_logits_NQHW = self.queries(windows)
        mask_logits_NQHW = torch.nn.functional.interpolate(
            mask_logits_NQHW, (side, side), mode='bilinear', align_corners=False
        )
        scores_NCHW = torch.einsum(
            'nqc,nqhw->nchw', class_logits_NQK.softmax(-1)[..., :-1], mask_logits_NQHW.sigmoid()
        )
        shape = (num_images, scores_NCHW.shape[1], height, width)
        sums_BCHW = scores_NCHW.new_zeros(shape)
        counts_BCHW = scores_NCHW.new_zeros(shape)
        for i, start in enumerate(starts):
            part_BCHW = scores_NCHW[i * num_images : (i + 1) * num_images]
            sums_BCHW.narrow(axis, start, side).add_(part_BCHW)
            counts_BCHW.narrow(axis, start, side).add_(1.0)
        return sums_BCHW / counts_BCHW


def window_starts(length: int, side: int) -> list[int]:
    """Where the windows of a length begin: as few as cover it, evenly spaced."""
    num_windows = math.ceil(length / side)
    overlap = (num_windows * side - length) / (num_windows - 1) if num_windows > 1 else 0.0
    return [int(i * (side - overlap)) for i in range(num_windows)]
