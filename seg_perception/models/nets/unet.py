"""U-Net.

O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, arXiv:1505.04597.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from seg_perception.errors import InferenceError, ModelCardError
from seg_perception.models.nets.layers import crop_padding, init_weights, padding_to_multiple

PADDINGS = ('same', 'valid')


class UNet(nn.Module):
    """A contracting and an expanding path with skip connections; logits at the input's size.

    With ``padding='valid'``, ``batch_norm=False``, ``in_channels=1`` and two classes it is the
    paper's network, layer by layer. Its unpadded convolutions eat a border, which the paper makes
    up for by mirroring the image outwards; ``forward`` does so, too. ``forward_valid`` does not.

    Args:
        num_classes: channels of the logits.
        in_channels: of the images.
        base_channels: of the first stage; each stage down doubles them.
        num_stages: how often the grid is halved.
        padding: ``same`` pads with zeros, ``valid`` is the paper's.
        batch_norm: after each 3x3 convolution (the paper has none).
        dropout: probability after the last contracting stage (the paper does not state its own).

    Raises:
        ModelCardError: an option out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        base_channels: int = 64,
        num_stages: int = 4,
        padding: str = 'same',
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise ModelCardError(
                f"padding: expected one of {', '.join(PADDINGS)}, got '{padding}'"
            )
        if not (1 <= num_stages <= 8 and base_channels >= 1 and in_channels >= 1):
            raise ModelCardError(
                'expected num_stages 1 to 8, base_channels and in_channels of 1 or more, got '
                f'{num_stages}, {base_channels} and {in_channels}'
            )
        if not 0.0 <= dropout < 1.0:
            raise ModelCardError(f'dropout: expected 0 <= dropout < 1, got {dropout}')
        self.is_valid = padding == 'valid'
        self.num_stages = num_stages
        widths = [base_channels * 2**stage for stage in range(num_stages + 1)]
        conv_padding = 0 if self.is_valid else 1

        def double_conv(channels: int, width: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels_in in (channels, width):
                layers.append(
                    nn.Conv2d(channels_in, width, 3, padding=conv_padding, bias=not batch_norm)
                )
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
            return nn.Sequential(*layers)

        inputs = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(map(double_conv, inputs, widths))
        self.dropout = nn.Dropout(dropout)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, 2) for width in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(
            double_conv(2 * width, width) for width in reversed(widths[:-1])
        )
        self.classifier = nn.Conv2d(base_channels, num_classes, 1)
        init_weights(self, mode='fan_in')

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes, H, W).

        Raises:
            InferenceError: ``valid`` and an image too small to be mirrored outwards.
        """
        if not self.is_valid:
            # a size that halves evenly at every stage; the border is repeated
            pads = padding_to_multiple(x_BCHW, 2**self.num_stages)
            return crop_padding(self._run(F.pad(x_BCHW, pads, mode='replicate')), pads)
        height, width = x_BCHW.shape[-2:]
        margin = self._valid_margin()
        top_left = margin // 2
        # every pooling sees an even grid where the output is 4 more than a multiple of the stride
        stride = 2**self.num_stages
        extra_x, extra_y = (4 - width) % stride, (4 - height) % stride
        mirrored = (top_left, top_left + extra_x, top_left, top_left + extra_y)
        if mirrored[1] >= width or mirrored[3] >= height:
            raise InferenceError(
                f'expected an image of more than {max(mirrored)} px per side to mirror at its '
                f'borders, got {height}x{width}; use a larger input or padding=same'
            )
        x = self.forward_valid(F.pad(x_BCHW, mirrored, mode='reflect'))
        return crop_padding(x, (0, extra_x, 0, extra_y))

    def forward_valid(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The paper's network without mirroring: 572x572 in, the central 388x388 out."""
        return self._run(x_BCHW)

    def _run(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        skips = []
        x = x_BCHW
        for stage in self.encoder[:-1]:
            x = stage(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.dropout(self.encoder[-1](x))
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = up(x)
            if self.is_valid:
                top = (skip.shape[-2] - x.shape[-2]) // 2
                left = (skip.shape[-1] - x.shape[-1]) // 2
                skip = crop_padding(skip, (left, left, top, top))
            x = stage(torch.cat([skip, x], 1))
        return self.classifier(x)

    def _valid_margin(self) -> int:
        """Rows that unpadded convolutions eat in all: 184 with four stages."""
        margin = 4 * 2**self.num_stages
        return margin + sum(8 * 2**stage for stage in range(self.num_stages))
