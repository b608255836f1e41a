"""MobileNetV3-Large as a feature extractor, with torchvision's key names.

A. Howard et al.: Searching for MobileNetV3, ICCV 2019, arXiv:1905.02244, table 1. Strides beyond
the output stride become dilations, in torchvision's way: the block that loses its stride is
dilated as well.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn

from seg_perception.models.nets.layers import check_output_stride, init_weights

BLOCKS = (
    # kernel, hidden channels, channels, squeeze-and-excitation, hard-swish, stride
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
STRIDE_4_LAYER, STRIDE_4_CHANNELS = 3, 24
"""The last layer at stride 4."""
STRIDE_8_LAYER, STRIDE_8_CHANNELS = 4, 40
"""The first layer at stride 8, torchvision's choice for low-level features."""
OUT_CHANNELS = 960


def _conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=(kernel - 1) // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Scales channels by what their means say (J. Hu et al., arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _multiple_of_8(channels // 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Same shape as the input."""
        scale = x_BCHW.mean((2, 3), keepdim=True)
        scale = nn.functional.relu(self.fc1(scale))
        return nn.functional.hardsigmoid(self.fc2(scale)) * x_BCHW


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, linear projection."""

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        dilation: int,
        has_excitation: bool,
        activation: type[nn.Module],
        has_shortcut: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if hidden != in_channels:
            layers.append(_conv_bn(in_channels, hidden, activation=activation))
        layers.append(
            _conv_bn(
                hidden,
                hidden,
                kernel,
                stride=stride,
                dilation=dilation,
                groups=hidden,
                activation=activation,
            )
        )
        if has_excitation:
            layers.append(SqueezeExcitation(hidden))
        layers.append(_conv_bn(hidden, out_channels))
        self.block = nn.Sequential(*layers)
        self.has_shortcut = has_shortcut

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Shape (B, out_channels, ceil(H/stride), ceil(W/stride))."""
        x = self.block(x_BCHW)
        return x + x_BCHW if self.has_shortcut else x


class MobileNetV3Large(nn.Sequential):
    """All 17 layers' features.

    Args:
        output_stride: 8, 16 or 32.
    """

    def __init__(self, output_stride: int = 16) -> None:
        check_output_stride(output_stride, (8, 16, 32))
        layers: list[nn.Module] = [_conv_bn(3, 16, 3, stride=2, activation=nn.Hardswish)]
        channels, current_stride, dilation = 16, 2, 1
        for kernel, hidden, out_channels, has_excitation, is_hard_swish, stage_stride in BLOCKS:
            stride = stage_stride
            if current_stride * stride > output_stride:
                dilation, stride = dilation * stride, 1
            current_stride *= stride
            layers.append(
                InvertedResidual(
                    channels,
                    hidden,
                    out_channels,
                    kernel=kernel,
                    stride=stride,
                    dilation=dilation,
                    has_excitation=has_excitation,
                    activation=nn.Hardswish if is_hard_swish else nn.ReLU,
                    has_shortcut=stage_stride == 1 and channels == out_channels,
                )
            )
            channels = out_channels
        layers.append(_conv_bn(channels, OUT_CHANNELS, activation=nn.Hardswish))
        super().__init__(*layers)
        init_weights(self)

    def forward(self, x_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """Features of every layer, the last with `OUT_CHANNELS` at the output stride."""
        features = []
        x = x_B3HW
        for layer in self:
            x = layer(x)
            features.append(x)
        return features


def _multiple_of_8(channels: int) -> int:
    """Nearest multiple of 8 that is at least 8 and loses no more than a tenth."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
