"""What turns features into logits, with torchvision's key names.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from seg_perception.models.nets.layers import init_weights


class FCNHead(nn.Sequential):
    """One 3x3 convolution and the logits; also torchvision's auxiliary classifier."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        hidden = in_channels // 4
        super().__init__(
            nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(hidden, num_classes, 1),
        )
        init_weights(self)


class _ImagePooling(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        # enlarging one cell bilinearly is repeating it
        return super().forward(x_BCHW).expand(-1, -1, x_BCHW.shape[-2], x_BCHW.shape[-1])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (arXiv:1706.05587, section 3.3).

    Args:
        in_channels: of the features.
        atrous_rates: dilations of the 3x3 branches.
        out_channels: of every branch and of the result.
    """

    def __init__(
        self, in_channels: int, atrous_rates: Sequence[int], out_channels: int = 256
    ) -> None:
        super().__init__()
        branches: list[nn.Module] = [_conv_bn_relu(in_channels, out_channels, 1)]
        branches += [_conv_bn_relu(in_channels, out_channels, 3, rate) for rate in atrous_rates]
        branches.append(_ImagePooling(in_channels, out_channels))
        self.convs = nn.ModuleList(branches)
        self.project = nn.Sequential(
            *_conv_bn_relu(len(branches) * out_channels, out_channels, 1), nn.Dropout(0.5)
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Shape (B, out_channels, H, W)."""
        return self.project(torch.cat([branch(x_BCHW) for branch in self.convs], 1))


class DeepLabHead(nn.Sequential):
    """DeepLabV3's head: the pyramid, one 3x3 convolution, the logits."""

    def __init__(self, in_channels: int, num_classes: int, atrous_rates: Sequence[int]) -> None:
        super().__init__(
            ASPP(in_channels, atrous_rates),
            *_conv_bn_relu(256, 256, 3),
            nn.Conv2d(256, num_classes, 1),
        )
        init_weights(self)


def atrous_rates(output_stride: int) -> tuple[int, int, int]:
    """The papers' rates: 6, 12, 18 at stride 16, twice that at stride 8."""
    return (6, 12, 18) if output_stride == 16 else (12, 24, 36)


def _conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, dilation: int = 1
) -> nn.Sequential:
    padding = (kernel - 1) // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
