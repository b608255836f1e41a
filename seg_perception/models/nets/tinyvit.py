"""TinyViT-5M as MobileSAM uses it: images to embeddings on a grid sixteen times coarser.

K. Wu et al., arXiv:2207.10666; with the last merging at stride 1 and the neck of Segment Anything
(A. Kirillov et al., arXiv:2304.02643) as in MobileSAM (C. Zhang et al., arXiv:2306.14289).
Parameters have the names of the published ``mobile_sam.pt``.

B batch, C channels, H/W the grid of the tensor at hand, W windows, N positions of a window.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

EMBEDDING_CHANNELS = 256

_CHANNELS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_HEADS = (0, 4, 5, 10)
_WINDOWS = (0, 7, 14, 7)
_MERGE_STRIDES = (2, 2, 1)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.add_module('c', convolution)
        self.add_module('bn', nn.BatchNorm2d(out_channels))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Any grid; the shape stays."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return F.layer_norm(x_BHWC, self.weight.shape, self.weight, self.bias, eps=1e-6).permute(
            0, 3, 1, 2
        )


class MBConv(nn.Module):
    """Inverted residual block: widen, convolve each channel, narrow."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        wide = channels * expansion
        self.conv1 = ConvNorm(channels, wide)
        self.conv2 = ConvNorm(wide, wide, 3, groups=wide)
        self.conv3 = ConvNorm(wide, channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The shape stays."""
        inner = F.gelu(self.conv2(F.gelu(self.conv1(x_BCHW))))
        return F.gelu(x_BCHW + self.conv3(inner))


class Merging(nn.Module):
    """Between two stages: other channels, a coarser grid where ``stride`` is 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels)
        self.conv2 = ConvNorm(out_channels, out_channels, 3, stride, groups=out_channels)
        self.conv3 = ConvNorm(out_channels, out_channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) to (B, out_channels, ceil(H/stride), ceil(W/stride))."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x_BCHW)))))


class WindowAttention(nn.Module):
    """Attention within square windows, with a learnt bias per distance."""

    bias_index_NN: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        side = torch.arange(window)
        rows_N, columns_N = (axis.flatten() for axis in torch.meshgrid(side, side, indexing='ij'))
        down_NN = (rows_N[:, None] - rows_N).abs()
        right_NN = (columns_N[:, None] - columns_N).abs()
        self.register_buffer('bias_index_NN', down_NN * window + right_NN, persistent=False)

    def forward(self, x_WNC: torch.Tensor) -> torch.Tensor:
        """Windows of N positions; the shape stays."""
        windows, positions, channels = x_WNC.shape
        # in the file each head's query, key and value lie side by side
        qkv = self.qkv(self.norm(x_WNC)).view(windows, positions, self.heads, -1).transpose(1, 2)
        query, key, value = qkv.chunk(3, -1)
        bias = self.attention_biases[:, self.bias_index_NN]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return self.proj(mixed.transpose(1, 2).reshape(windows, positions, channels))


class Mlp(nn.Module):
    """Two linear layers on each position."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, channels * expansion)
        self.fc2 = nn.Linear(channels * expansion, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels last; the shape stays."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class AttentionBlock(nn.Module):
    """Attention in windows, a convolution across their borders, then an MLP."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(channels, heads, window)
        self.local_conv = ConvNorm(channels, channels, 3, groups=channels)
        self.mlp = Mlp(channels)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The shape stays."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self._attend(x_BHWC)
        x_BHWC = self.local_conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x_BHWC + self.mlp(x_BHWC)).permute(0, 3, 1, 2)

    def _attend(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x_BHWC.shape
        side = self.window
        # Zeros fill the last windows, and take part in their attention.
        x = F.pad(x_BHWC, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        x = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        x = self.attn(x.reshape(-1, side * side, channels))
        x = x.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        x = x.reshape(batch, rows * side, columns * side, channels)
        return x[:, :height, :width]


class Stage(nn.Module):
    """Blocks on one grid, then the way to the next."""

    def __init__(self, index: int) -> None:
        super().__init__()
        channels = _CHANNELS[index]
        blocks: list[nn.Module] = [
            AttentionBlock(channels, _HEADS[index], _WINDOWS[index])
            if _HEADS[index]
            else MBConv(channels)
            for _ in range(_DEPTHS[index])
        ]
        self.blocks = nn.ModuleList(blocks)
        self.downsample: nn.Module | None = None
        if index + 1 < len(_CHANNELS):
            self.downsample = Merging(channels, _CHANNELS[index + 1], _MERGE_STRIDES[index])

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the channels and grid of the next stage."""
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return x_BCHW if self.downsample is None else self.downsample(x_BCHW)


class PatchEmbedding(nn.Module):
    """Two convolutions that make a grid four times coarser."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, channels // 2, 3, 2), nn.GELU(), ConvNorm(channels // 2, channels, 3, 2)
        )

    def forward(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, channels, ceil(H/4), ceil(W/4))."""
        x_BCHW: torch.Tensor = self.seq(batch_B3HW)
        return x_BCHW


class TinyViT(nn.Module):
    """Images to embeddings, at any size."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(_CHANNELS[0])
        self.layers = nn.Sequential(*(Stage(index) for index in range(len(_CHANNELS))))
        self.neck = nn.Sequential(
            nn.Conv2d(_CHANNELS[-1], EMBEDDING_CHANNELS, 1, bias=False),
            ChannelNorm(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            ChannelNorm(EMBEDDING_CHANNELS),
        )

    def forward(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, 256, ceil(H/16), ceil(W/16))."""
        x_BCHW: torch.Tensor = self.neck(self.layers(self.patch_embed(batch_B3HW)))
        return x_BCHW
