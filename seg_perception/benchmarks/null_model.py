"""The null model: a network that costs next to nothing and leaves only the node's own work.

It names each cell of the image by the nearest of C colours. The squared distance to a colour is
linear in the pixel but for a term that all classes share, so pooling and one 1x1 convolution do:
labels are regions of similar colour, as a real network's are regions of similar things.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import nn

INPUT_HW = (288, 512)
STRIDE = 8


class NullNetwork(nn.Module):
    """Logits (B, C, H / 8, W / 8) of images (B, 3, H, W) in pixel units divided by 255.

    Args:
        centers_C3: the classes' colours, red, green, blue in 0..1.
    """

    def __init__(self, centers_C3: npt.NDArray[np.float64]) -> None:
        super().__init__()
        centers = torch.from_numpy(centers_C3).float()
        self.pool = nn.AvgPool2d(STRIDE // 2, STRIDE)
        self.score = nn.Conv2d(3, len(centers), 1)
        # -s |x - c|² = s (2 c·x - |c|²) - s |x|², of which the last part is the same for all.
        sharpness = 40.0
        self.score.weight.data = (sharpness * 2.0 * centers)[:, :, None, None]
        self.score.bias = nn.Parameter(-sharpness * (centers**2).sum(1))

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        """See the class."""
        scores: torch.Tensor = self.score(self.pool(image_B3HW))
        return scores


def spread_colors(num_colors: int) -> npt.NDArray[np.float64]:
    """Colours spread evenly over the RGB cube, shape (N, 3) in 0..1: a Halton sequence."""
    return np.array(
        [[_halton(i + 1, base) for base in (2, 3, 5)] for i in range(num_colors)], np.float64
    ).reshape(num_colors, 3)


def _halton(index: int, base: int) -> float:
    value, share = 0.0, 1.0
    while index:
        share /= base
        index, digit = divmod(index, base)
        value += share * digit
    return value


def write_null_model(folder: Path, num_classes: int) -> Path:
    """Writes the network and its card.

    The file is a ``.pt2``, which loads only with ``trust_model_code``.

    Returns:
        The path of the card.
    """
    network = NullNetwork(spread_colors(num_classes)).eval().requires_grad_(False)
    program = torch.export.export(network, (torch.zeros(1, 3, *INPUT_HW),))
    weights_path = folder / f'null{num_classes}.pt2'
    torch.export.save(program, weights_path)
    card: dict[str, Any] = {
        'name': f'null.{num_classes}',
        'summary': 'nearest colour; costs next to nothing',
        'weights': {
            'uri': weights_path.name,
            'sha256': hashlib.sha256(weights_path.read_bytes()).hexdigest(),
        },
        'input': {
            'size_hw': list(INPUT_HW),
            'resize': 'stretch',
            'mean_rgb': [0.0] * 3,
            'std_rgb': [255.0] * 3,
        },
        'output': {'kind': 'logits', 'align_corners': False},
        'classes': {'names': [f'class_{i}' for i in range(num_classes)]},
        'licence': 'Apache-2.0',
        'source': 'seg_perception.benchmarks.null_model',
    }
    card_path = folder / f'null{num_classes}.yaml'
    card_path.write_text(yaml.safe_dump(card, sort_keys=False), encoding='utf-8')
    return card_path
