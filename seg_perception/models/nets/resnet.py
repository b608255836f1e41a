"""ResNet-50 and ResNet-101 as feature extractors, with torchvision's key names.

K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016,
arXiv:1512.03385, with the stride in the 3x3 convolution ("v1.5"), as torchvision has it. Strides
beyond the output stride become dilations (arXiv:1706.05587, section 3.2).

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from seg_perception.models.nets.layers import check_output_stride, init_weights

BLOCKS_BY_DEPTH = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
LAYER_CHANNELS = (256, 512, 1024, 2048)
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut."""

    def __init__(self, in_channels: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
            if stride != 1 or in_channels != out_channels
            else None
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Shape (B, 4 width, ceil(H/stride), ceil(W/stride))."""
        shortcut = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        x = F.relu(self.bn1(self.conv1(x_BCHW)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """The four stages' features.

    Args:
        depth: 50 or 101.
        output_stride: 8, 16 or 32: pixels per cell of the last stage.
    """

    def __init__(self, depth: int, output_stride: int = 8) -> None:
        super().__init__()
        check_output_stride(output_stride, (8, 16, 32))
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        layers = []
        channels, current_stride, dilation = 64, 4, 1
        for index, num_blocks in enumerate(BLOCKS_BY_DEPTH[depth]):
            width = 64 * 2**index
            stride = 1 if index == 0 else 2
            # the first block of a stage that loses its stride keeps the former dilation
            first_dilation = dilation
            if current_stride * stride > output_stride:
                dilation, stride = dilation * stride, 1
            current_stride *= stride
            blocks = [Bottleneck(channels, width, stride=stride, dilation=first_dilation)]
            channels = width * _EXPANSION
            blocks += [
                Bottleneck(channels, width, stride=1, dilation=dilation)
                for _ in range(num_blocks - 1)
            ]
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        init_weights(self)

    def forward(self, x_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """Features of layer1 to layer4 with `LAYER_CHANNELS`; layer1 is at stride 4."""
        x = F.relu(self.bn1(self.conv1(x_B3HW)))
        x = F.max_pool2d(x, 3, 2, padding=1)
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features
