"""SegNet.

V. Badrinarayanan, A. Kendall, R. Cipolla: SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation, IEEE TPAMI 39(12), 2017, arXiv:1511.00561.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from seg_perception.models.nets.layers import crop_padding, init_weights, padding_to_multiple

ENCODER = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
"""Output channels of the 13 convolutions of VGG16, by stage, as multiples of the first's 64."""


class SegNet(nn.Module):
    """VGG16's 13 convolutions and their mirror image; logits at the input's size.

    The decoder upsamples by putting each value back to where its maximum was, so boundaries
    survive without skip connections. As in the authors' Caffe model, convolutions have both bias
    and batch norm. With 11 classes it has the paper's 29.45 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: of the images.
        base_channels: of the first stage; VGG16's and the paper's is 64, fewer are for CPUs.
    """

    def __init__(self, num_classes: int, *, in_channels: int = 3, base_channels: int = 64) -> None:
        super().__init__()
        stages = [tuple(factor * base_channels for factor in factors) for factors in ENCODER]
        channels = in_channels
        encoder = []
        for widths in stages:
            encoder.append(_stage(channels, widths))
            channels = widths[-1]
        self.encoder = nn.ModuleList(encoder)
        decoder = []
        for index in reversed(range(len(stages))):
            depth = len(stages[index])
            out_channels = stages[index - 1][-1] if index else channels
            mirrored = (*[channels] * (depth - 1), out_channels)
            # the last convolution of all gives the logits
            decoder.append(_stage(channels, mirrored if index else mirrored[:-1]))
            channels = out_channels
        self.decoder = nn.ModuleList(decoder)
        self.classifier = nn.Conv2d(channels, num_classes, 3, padding=1)
        init_weights(self, mode='fan_in')

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes, H, W)."""
        # a size that halves evenly at every stage; the border is repeated
        pads = padding_to_multiple(x_BCHW, 2 ** len(ENCODER))
        x = F.pad(x_BCHW, pads, mode='replicate')
        all_indices = []
        for stage in self.encoder:
            x, indices = F.max_pool2d(stage(x), 2, return_indices=True)
            all_indices.append(indices)
        for stage, indices in zip(self.decoder, reversed(all_indices), strict=True):
            x = stage(unpool(x, indices))
        return crop_padding(self.classifier(x), pads)


def unpool(x_BCHW: torch.Tensor, indices_BCHW: torch.Tensor) -> torch.Tensor:
    """Undoes 2x2 pooling: each value where its maximum was, zeros elsewhere.

    The same as ``F.max_unpool2d(x, indices, 2)``, but it can be exported with sizes left open.

    Args:
        x_BCHW: values.
        indices_BCHW: positions in the flattened larger grid, as ``F.max_pool2d`` returns them.

    Returns:
        Shape (B, C, 2 H, 2 W).
    """
    batch, channels, height, width = x_BCHW.shape
    flat = x_BCHW.new_zeros(batch, channels, 4 * height * width)
    flat = flat.scatter(2, indices_BCHW.flatten(2), x_BCHW.flatten(2))
    return flat.view(batch, channels, 2 * height, 2 * width)


def _stage(in_channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        in_channels = width
    return nn.Sequential(*layers)
