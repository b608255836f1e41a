"""Non-maximum suppression: of boxes that overlap, the surest stays.

N boxes in descending order of their scores, K those of one block.
"""

from __future__ import annotations

import torch

_BLOCK = 1024
"""Boxes compared with each other at once, which bounds the memory that many of them take."""


def surviving(
    boxes_xyxy_N4: torch.Tensor, class_ids_N: torch.Tensor, *, iou_threshold: float, max_boxes: int
) -> torch.Tensor:
    """Greedy suppression within each class: a box goes where a surer one that stays covers it.

    Args:
        boxes_xyxy_N4: left, top, right, bottom, the surest first.
        class_ids_N: boxes of different classes do not suppress each other.
        iou_threshold: boxes with a larger intersection over union are of one thing.
        max_boxes: so many of the surest are enough.

    Returns:
        Positions of the boxes that stay, int64, in ascending order.
    """
    kept = torch.empty(0, dtype=torch.int64, device=boxes_xyxy_N4.device)
    for start in range(0, len(boxes_xyxy_N4), _BLOCK):
        block = torch.arange(
            start, min(start + _BLOCK, len(boxes_xyxy_N4)), device=boxes_xyxy_N4.device
        )
        covered_NK = _covers(boxes_xyxy_N4, class_ids_N, kept, block, iou_threshold)
        block = block[~covered_NK.any(0)]
        covers_KK = _covers(boxes_xyxy_N4, class_ids_N, block, block, iou_threshold).triu(1)
        stays_K = torch.ones(len(block), dtype=torch.bool, device=block.device)
        # Whether a box stays depends on surer ones alone: each round settles at least the next
        # box for good, and all of them as soon as nothing changes.
        while True:
            next_K = ~(covers_KK & stays_K[:, None]).any(0)
            if torch.equal(next_K, stays_K):
                break
            stays_K = next_K
        kept = torch.cat([kept, block[stays_K]])
        if len(kept) >= max_boxes:
            break
    return kept[:max_boxes]


def _covers(
    boxes_N4: torch.Tensor,
    class_ids_N: torch.Tensor,
    these: torch.Tensor,
    those: torch.Tensor,
    iou_threshold: float,
) -> torch.Tensor:
    """Which of these cover which of those, (these, those)."""
    a, b = boxes_N4[these, None], boxes_N4[None, those]
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    intersection = shared.prod(-1)
    areas_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).clamp(min=0).prod(-1)
    union = areas_N[these, None] + areas_N[None, those] - intersection
    is_same_class = class_ids_N[these, None] == class_ids_N[None, those]
    return (intersection > iou_threshold * union) & is_same_class
