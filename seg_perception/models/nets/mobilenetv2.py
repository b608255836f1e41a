"""MobileNetV2 as a feature extractor, in the layout of TensorFlow's DeepLab.

M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: MobileNetV2: Inverted Residuals and
Linear Bottlenecks, CVPR 2018, arXiv:1801.04381, table 2. Strides beyond the output stride become
dilations, as L.-C. Chen et al. describe in arXiv:1706.05587, section 3.2: the layer that loses
its stride keeps the dilation that it had, the layers after it are dilated.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn

from seg_perception.models.nets.layers import ConvBlock, check_output_stride

STAGES = (
    # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
OUT_CHANNELS = 320
LOW_LEVEL_CHANNELS = 144
_LOW_LEVEL_BLOCK = 2


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, and a shortcut where shapes allow."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        stride: int,
        dilation: int,
        folded: bool,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = (
            ConvBlock(in_channels, hidden, activation=nn.ReLU6, folded=folded)
            if expansion != 1
            else None
        )
        self.depthwise = ConvBlock(
            hidden,
            hidden,
            3,
            stride=stride,
            dilation=dilation,
            groups=hidden,
            activation=nn.ReLU6,
            folded=folded,
        )
        self.project = ConvBlock(hidden, out_channels, activation=None, folded=folded)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's output, and the depthwise features inside it for DeepLab's decoder."""
        hidden = x_BCHW if self.expand is None else self.expand(x_BCHW)
        hidden = self.depthwise(hidden)
        projected = self.project(hidden)
        return (x_BCHW + projected if self.has_shortcut else projected), hidden


class MobileNetV2(nn.Module):
    """Features at the output stride, and the low-level ones at stride 4.

    Args:
        output_stride: 8, 16 or 32.
        folded: see `ConvBlock`.
    """

    def __init__(self, output_stride: int = 16, *, folded: bool = False) -> None:
        super().__init__()
        check_output_stride(output_stride, (8, 16, 32))
        self.stem = ConvBlock(3, 32, 3, stride=2, activation=nn.ReLU6, folded=folded)
        blocks = []
        channels, current_stride, dilation = 32, 2, 1
        for expansion, out_channels, num_blocks, stage_stride in STAGES:
            for index in range(num_blocks):
                stride = stage_stride if index == 0 else 1
                is_dilated = current_stride == output_stride
                blocks.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        expansion=expansion,
                        stride=1 if is_dilated else stride,
                        dilation=dilation,
                        folded=folded,
                    )
                )
                if is_dilated:
                    dilation *= stride
                else:
                    current_stride *= stride
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 320, H/stride, W/stride) and (B, 144, H/4, W/4), sizes rounded up."""
        x = self.stem(x_B3HW)
        low_level = x
        for index, block in enumerate(self.blocks):
            x, hidden = block(x)
            if index == _LOW_LEVEL_BLOCK:
                low_level = hidden
        return x, low_level
