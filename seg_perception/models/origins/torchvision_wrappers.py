"""Networks of torchvision as plain torch modules: normalised images in, tensors out.

B batch, C classes, N objects, H/W network input.
"""

from __future__ import annotations

import math
from typing import Any

import torch

_PADDED_TO = 32  # GeneralizedRCNNTransform's size_divisible


class CoarseLogits(torch.nn.Module):
    """A semantic model without its last step, which upsamples the logits to the input's size.

    Args:
        model: FCN, DeepLabV3 or LRASPP.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.classifier = model.classifier
        self._takes_all_features = 'LRASPP' in type(model).__name__

    def forward(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, h, w) on the head's grid."""
        features = self.backbone(batch_B3HW)
        logits_BCHW: torch.Tensor = self.classifier(
            features if self._takes_all_features else features['out']
        )
        return logits_BCHW


class Detections(torch.nn.Module):
    """Mask R-CNN between its own resizing and its pasting of masks, which are done elsewhere.

    Args:
        model: a ``GeneralizedRCNN``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        from torchvision.models.detection.image_list import ImageList

        self._image_list = ImageList
        self.backbone = model.backbone
        self.rpn = model.rpn
        self.roi_heads = model.roi_heads

    def forward(self, batch_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Per image boxes (N, 4), class ids (N), scores (N) and masks of boxes (N, 1, 28, 28)."""
        height, width = batch_B3HW.shape[2:]
        padded = torch.nn.functional.pad(
            batch_B3HW, (0, _up(width) - width, 0, _up(height) - height)
        )
        images = self._image_list(padded, [(height, width)] * len(batch_B3HW))
        features = self.backbone(padded)
        proposals, _ = self.rpn(images, features)
        found, _ = self.roi_heads(features, proposals, images.image_sizes)
        return tuple(
            objects[name] for objects in found for name in ('boxes', 'labels', 'scores', 'masks')
        )


def set_batch_norm_eps(network: torch.nn.Module, eps: float) -> None:
    """What torchvision's ``overwrite_eps`` does, for batch norms that are not frozen."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = eps


def _up(side: int) -> int:
    return math.ceil(side / _PADDED_TO) * _PADDED_TO
