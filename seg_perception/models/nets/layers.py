"""Pieces that several networks share.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from seg_perception.errors import ModelCardError


def pad_same(x_BCHW: torch.Tensor, kernel: int, stride: int, dilation: int) -> torch.Tensor:
    """Zero padding before a convolution without any, as TensorFlow's ``SAME``.

    The output of the convolution then has ``ceil(n / stride)`` cells per axis. The kernel must
    reach at least as far as the stride. Where the padding
    is odd, its larger part is at the bottom and right, unlike anything ``nn.Conv2d`` offers.
    """
    reach = (kernel - 1) * dilation + 1
    pads = []
    for num_cells in (x_BCHW.shape[-1], x_BCHW.shape[-2]):
        # no branch, and a padded size that is plain in symbols: torch.export leaves sizes open
        num_outputs = (num_cells + stride - 1) // stride
        total = (num_outputs - 1) * stride + reach - num_cells
        pads += [total // 2, total - total // 2]
    return F.pad(x_BCHW, pads)


class ConvBlock(nn.Module):
    """Convolution, batch norm, activation, with TensorFlow's ``SAME`` padding.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel: side of the square kernel, odd.
        stride: of the convolution.
        dilation: of the convolution.
        groups: ``in_channels`` for a depthwise convolution.
        activation: applied last; None for a linear block.
        folded: the batch norm is already part of the convolution's weight and bias: there is a
            bias and no ``bn``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU,
        folded: bool = False,
    ) -> None:
        super().__init__()
        # at stride 1 SAME is symmetric, and the convolution can do it without a copy
        padding = (kernel - 1) * dilation // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=folded
        )
        # epsilon and momentum of TensorFlow's slim MobileNets
        self.bn = None if folded else nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.003)
        self.activation = activation() if activation is not None else None
        self._needs_padding = stride > 1 and kernel > 1

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Shape (B, in_channels, H, W) to (B, out_channels, ceil(H/stride), ceil(W/stride))."""
        if self._needs_padding:
            conv = self.conv
            x_BCHW = pad_same(x_BCHW, conv.kernel_size[0], conv.stride[0], conv.dilation[0])
        x_BCHW = self.conv(x_BCHW)
        if self.bn is not None:
            x_BCHW = self.bn(x_BCHW)
        return x_BCHW if self.activation is None else self.activation(x_BCHW)


def resize_bilinear(
    x_BCHW: torch.Tensor, like_BCHW: torch.Tensor, *, align_corners: bool
) -> torch.Tensor:
    """Resizes the grid of one tensor to that of another."""
    return F.interpolate(
        x_BCHW, size=like_BCHW.shape[-2:], mode='bilinear', align_corners=align_corners
    )


def resize_legacy_x4(x_BCHW: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
    """Enlarges four times as TensorFlow 1 did: cell ``i`` comes to lie at ``4 i``.

    Args:
        x_BCHW: the small grid.
        like_BCHW: has the size wanted, at most four times that of the small grid.
    """
    height, width = x_BCHW.shape[-2:]
    x = F.pad(x_BCHW, (0, 1, 0, 1), mode='replicate')
    x = F.interpolate(x, size=(4 * height + 1, 4 * width + 1), mode='bilinear', align_corners=True)
    extra_y, extra_x = x.shape[-2] - like_BCHW.shape[-2], x.shape[-1] - like_BCHW.shape[-1]
    return crop_padding(x, (0, extra_x, 0, extra_y))


def init_weights(module: nn.Module, mode: Literal['fan_in', 'fan_out'] = 'fan_out') -> None:
    """He's normal initialisation of convolutions (arXiv:1502.01852), ones and zeros in norms.

    Tensors without memory (on ``meta``) are left alone: torch imports its whole compiler to draw
    random numbers there, which takes longer than all else that loading a model does.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity='relu')
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def check_output_stride(output_stride: int, allowed: tuple[int, ...]) -> None:
    """Raises ModelCardError where a network does not come with that output stride."""
    if output_stride not in allowed:
        raise ModelCardError(
            f'output_stride: expected one of {", ".join(map(str, allowed))}, got {output_stride}'
        )


def padding_to_multiple(x_BCHW: torch.Tensor, multiple_of: int) -> tuple[int, int, int, int]:
    """Columns and rows that are missing at the right and the bottom, as ``F.pad`` takes them."""
    height, width = x_BCHW.shape[-2:]
    # written so that the padded size is visibly a multiple where torch.export leaves it open
    return (
        0,
        (width + multiple_of - 1) // multiple_of * multiple_of - width,
        0,
        (height + multiple_of - 1) // multiple_of * multiple_of - height,
    )


def crop_padding(x_BCHW: torch.Tensor, pads: tuple[int, int, int, int]) -> torch.Tensor:
    """Takes off what ``F.pad`` with the same numbers has added."""
    left, right, top, bottom = pads
    return F.pad(x_BCHW, (-left, -right, -top, -bottom))
