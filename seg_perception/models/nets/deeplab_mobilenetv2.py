"""DeepLabV3 and DeepLabV3+ on MobileNetV2, as TensorFlow's DeepLab model zoo has them.

L.-C. Chen, G. Papandreou, F. Schroff, H. Adam: Rethinking Atrous Convolution for Semantic Image
Segmentation, arXiv:1706.05587. M. Sandler et al., arXiv:1801.04381, section 6.3, found the atrous
branches of the pyramid not worth their time on a mobile network: what is left is the 1x1
convolution and the image pooling. The decoder of DeepLabV3+ is from L.-C. Chen, Y. Zhu,
G. Papandreou, F. Schroff, H. Adam, arXiv:1802.02611.

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from seg_perception.models.nets.layers import (
    ConvBlock,
    init_weights,
    resize_bilinear,
    resize_legacy_x4,
)
from seg_perception.models.nets.mobilenetv2 import LOW_LEVEL_CHANNELS, OUT_CHANNELS, MobileNetV2


class DeepLabMobileNetV2(nn.Module):
    """DeepLabV3, or DeepLabV3+ with ``decoder``, on MobileNetV2.

    The input is RGB in -1..1. Most of these networks were trained at 513 pixels: at sizes 16k + 1
    cell ``i`` of the grid looks at pixel ``16 i`` and corners coincide. At sizes 16k ``SAME``
    padding moves the grid towards the bottom right by up to 15 pixels, which ``pad_to_odd``
    repairs. A network trained at 512 has learned the shift and must not be repaired.

    Args:
        num_classes: channels of the logits.
        output_stride: 8, 16 or 32: pixels per cell of the backbone's last features.
        decoder: refine at stride 4 with low-level features (DeepLabV3+).
        folded: batch norm is already in the convolutions (weights for running, not training).
        pad_to_odd: repeat the last row or column of an input of even height or width, so that
            the grid's corners coincide with the image's (within a pixel).
        legacy_resize: enlarge as TensorFlow 1 did by default, with cell ``i`` of the small grid
            exactly at ``stride * i`` of the large one, in the decoder and, by an extra last row
            and column of logits, in the upsampling to come. Otherwise corners coincide. Either
            way the logits are to be upsampled with ``align_corners``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        output_stride: int = 16,
        decoder: bool = False,
        folded: bool = False,
        pad_to_odd: bool = False,
        legacy_resize: bool = False,
    ) -> None:
        super().__init__()
        self.pad_to_odd = pad_to_odd
        self.legacy_resize = legacy_resize
        self.backbone = MobileNetV2(output_stride, folded=folded)
        self.image_pooling = ConvBlock(OUT_CHANNELS, 256, folded=folded)
        self.aspp0 = ConvBlock(OUT_CHANNELS, 256, folded=folded)
        self.concat_projection = ConvBlock(2 * 256, 256, folded=folded)
        self.decoder = Decoder(folded=folded, legacy_resize=legacy_resize) if decoder else None
        self.classifier = nn.Conv2d(256, num_classes, 1)
        init_weights(self, mode='fan_in')

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes, h, w) at the output stride (4 with a decoder)."""
        if self.pad_to_odd:
            height, width = x_B3HW.shape[-2:]
            pads = (0, width // 2 * 2 + 1 - width, 0, height // 2 * 2 + 1 - height)
            x_B3HW = F.pad(x_B3HW, pads, mode='replicate')
        x, low_level = self.backbone(x_B3HW)
        pooled = self.image_pooling(x.mean((2, 3), keepdim=True))
        # enlarging one cell bilinearly is repeating it
        pooled = pooled.expand(-1, -1, x.shape[-2], x.shape[-1])
        x = self.concat_projection(torch.cat([pooled, self.aspp0(x)], 1))
        if self.decoder is not None:
            x = self.decoder(x, low_level)
        x = self.classifier(x)
        return F.pad(x, (0, 1, 0, 1), mode='replicate') if self.legacy_resize else x


class Decoder(nn.Module):
    """DeepLabV3+'s decoder, with depthwise separable convolutions."""

    def __init__(self, *, folded: bool, legacy_resize: bool) -> None:
        super().__init__()
        self.legacy_resize = legacy_resize
        self.feature_projection0 = ConvBlock(LOW_LEVEL_CHANNELS, 48, folded=folded)
        num_merged = 256 + 48
        self.conv0_depthwise = ConvBlock(
            num_merged, num_merged, 3, groups=num_merged, folded=folded
        )
        self.conv0_pointwise = ConvBlock(num_merged, 256, folded=folded)
        self.conv1_depthwise = ConvBlock(256, 256, 3, groups=256, folded=folded)
        self.conv1_pointwise = ConvBlock(256, 256, folded=folded)

    def forward(self, x_BCHW: torch.Tensor, low_level_BCHW: torch.Tensor) -> torch.Tensor:
        """Shape (B, 256, H, W) on the low-level features' grid."""
        if self.legacy_resize:
            x = resize_legacy_x4(x_BCHW, low_level_BCHW)
        else:
            x = resize_bilinear(x_BCHW, low_level_BCHW, align_corners=True)
        x = torch.cat([x, self.feature_projection0(low_level_BCHW)], 1)
        x = self.conv0_pointwise(self.conv0_depthwise(x))
        return self.conv1_pointwise(self.conv1_depthwise(x))
