"""DeepLabV3, DeepLabV3+, FCN and LR-ASPP on ResNet and MobileNetV3-Large.

Where torchvision has the network, keys, shapes and logits are torchvision's, so that its state
dicts load. L.-C. Chen et al., arXiv:1706.05587 (V3) and arXiv:1802.02611 (V3+); J. Long,
E. Shelhamer, T. Darrell: Fully Convolutional Networks, CVPR 2015, arXiv:1411.4038; A. Howard
et al., arXiv:1905.02244, section 6.4 (LR-ASPP).

B batch, C channels, H/W the grid of the tensor at hand.
"""

from __future__ import annotations

import torch
from torch import nn

from seg_perception.models.nets import mobilenetv3
from seg_perception.models.nets.heads import ASPP, DeepLabHead, FCNHead, atrous_rates
from seg_perception.models.nets.layers import check_output_stride, init_weights, resize_bilinear
from seg_perception.models.nets.mobilenetv3 import MobileNetV3Large
from seg_perception.models.nets.resnet import LAYER_CHANNELS, ResNet


class EncoderHead(nn.Module):
    """A backbone and a head on its last features, with torchvision's auxiliary classifier.

    Args:
        backbone: gives a list of features.
        classifier: makes logits of the last of them.
        aux_classifier: makes logits of ``aux_features``, for a second loss in training; keys
            ``aux_classifier.*``, which torchvision's published weights contain. Without it those
            keys have to be dropped on loading (``drop_prefixes`` in a model card).
        aux_features: which features the auxiliary classifier sees.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        aux_classifier: nn.Module | None,
        aux_features: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self._aux_features = aux_features

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes, h, w) on the backbone's last grid."""
        return self.classifier(self.backbone(x_B3HW)[-1])

    def forward_with_aux(self, x_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and the auxiliary logits on its own grid; needs ``aux=True``."""
        if self.aux_classifier is None:
            raise RuntimeError('expected a network built with aux=True, got one without')
        features = self.backbone(x_B3HW)
        return self.classifier(features[-1]), self.aux_classifier(features[self._aux_features])


class DeepLabV3ResNet(EncoderHead):
    """DeepLabV3 on ResNet.

    Args:
        num_classes: channels of the logits.
        depth: 50 or 101.
        output_stride: 8 (torchvision's) or 16.
        aux: with the auxiliary classifier of training.
    """

    def __init__(
        self, num_classes: int, *, depth: int, output_stride: int = 8, aux: bool = False
    ) -> None:
        check_output_stride(output_stride, (8, 16))
        super().__init__(
            ResNet(depth, output_stride),
            DeepLabHead(LAYER_CHANNELS[3], num_classes, atrous_rates(output_stride)),
            FCNHead(LAYER_CHANNELS[2], num_classes) if aux else None,
            aux_features=2,
        )


class DeepLabV3MobileNetV3(EncoderHead):
    """DeepLabV3 on MobileNetV3-Large.

    The atrous rates are torchvision's 12, 24, 36 at either stride.

    Args:
        num_classes: channels of the logits.
        output_stride: 16 (torchvision's) or 8.
        aux: with the auxiliary classifier of training.
    """

    def __init__(self, num_classes: int, *, output_stride: int = 16, aux: bool = False) -> None:
        check_output_stride(output_stride, (8, 16))
        super().__init__(
            MobileNetV3Large(output_stride),
            DeepLabHead(mobilenetv3.OUT_CHANNELS, num_classes, (12, 24, 36)),
            FCNHead(mobilenetv3.STRIDE_8_CHANNELS, num_classes) if aux else None,
            aux_features=mobilenetv3.STRIDE_8_LAYER,
        )


class FCNResNet(EncoderHead):
    """A fully convolutional network on dilated ResNet, torchvision's variant (stride 8).

    Args:
        num_classes: channels of the logits.
        depth: 50 or 101.
        aux: with the auxiliary classifier of training.
    """

    def __init__(self, num_classes: int, *, depth: int, aux: bool = False) -> None:
        super().__init__(
            ResNet(depth, 8),
            FCNHead(LAYER_CHANNELS[3], num_classes),
            FCNHead(LAYER_CHANNELS[2], num_classes) if aux else None,
            aux_features=2,
        )


class LRASPPMobileNetV3(nn.Module):
    """Lite R-ASPP on MobileNetV3-Large; logits at stride 8.

    Args:
        num_classes: channels of the logits.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = MobileNetV3Large(16)
        self.classifier = _LRASPPHead(num_classes)

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes, h, w) at stride 8."""
        features = self.backbone(x_B3HW)
        return self.classifier(features[mobilenetv3.STRIDE_8_LAYER], features[-1])


class _LRASPPHead(nn.Module):
    def __init__(self, num_classes: int, hidden: int = 128) -> None:
        super().__init__()
        in_channels = mobilenetv3.OUT_CHANNELS
        self.cbr = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
        )
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, hidden, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(mobilenetv3.STRIDE_8_CHANNELS, num_classes, 1)
        self.high_classifier = nn.Conv2d(hidden, num_classes, 1)
        init_weights(self)

    def forward(self, low_BCHW: torch.Tensor, high_BCHW: torch.Tensor) -> torch.Tensor:
        x = self.cbr(high_BCHW) * self.scale(high_BCHW)
        x = resize_bilinear(x, low_BCHW, align_corners=False)
        return self.low_classifier(low_BCHW) + self.high_classifier(x)


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ on ResNet or MobileNetV3-Large; logits at stride 4.

    The decoder is the paper's: low-level features reduced to 48 channels, two 3x3 convolutions
    of 256.

    Args:
        num_classes: channels of the logits.
        depth: 50 or 101 for ResNet, 0 for MobileNetV3-Large.
        output_stride: of the backbone, 16 or 8.
    """

    def __init__(self, num_classes: int, *, depth: int, output_stride: int = 16) -> None:
        super().__init__()
        check_output_stride(output_stride, (8, 16))
        if depth:
            self.backbone: nn.Module = ResNet(depth, output_stride)
            self._low_level, low_channels, out_channels = 0, LAYER_CHANNELS[0], LAYER_CHANNELS[3]
        else:
            self.backbone = MobileNetV3Large(output_stride)
            self._low_level = mobilenetv3.STRIDE_4_LAYER
            low_channels, out_channels = mobilenetv3.STRIDE_4_CHANNELS, mobilenetv3.OUT_CHANNELS
        self.aspp = ASPP(out_channels, atrous_rates(output_stride))
        self.low_level = nn.Sequential(
            nn.Conv2d(low_channels, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(256 + 48, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
        )
        self.classifier = nn.Conv2d(256, num_classes, 1)
        for head in (self.aspp, self.low_level, self.decoder, self.classifier):
            init_weights(head)

    def forward(self, x_B3HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes, h, w) at stride 4."""
        features = self.backbone(x_B3HW)
        low_level = features[self._low_level]
        x = resize_bilinear(self.aspp(features[-1]), low_level, align_corners=False)
        x = self.decoder(torch.cat([x, self.low_level(low_level)], 1))
        return self.classifier(x)
