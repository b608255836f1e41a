"""Networks by name, as plain torch modules.

Every network maps images (B, 3, height, width), normalised as its model card says, to logits
(B, classes, h, w) on its own grid, which is usually coarser than the image: upsampling to the
image's size, then argmax, is `seg_perception.postprocess`'s job. Networks take any size, odd ones
too. Nothing here loads weights; state dicts come from `seg_perception.models.weights`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from seg_perception.errors import ModelCardError, ModelNotFoundError
from seg_perception.models.nets.deeplab import (
    DeepLabV3MobileNetV3,
    DeepLabV3Plus,
    DeepLabV3ResNet,
    FCNResNet,
    LRASPPMobileNetV3,
)
from seg_perception.models.nets.deeplab_mobilenetv2 import DeepLabMobileNetV2
from seg_perception.models.nets.mobile_sam import MobileSAM
from seg_perception.models.nets.prompted import PromptedNetwork
from seg_perception.models.nets.segnet import SegNet
from seg_perception.models.nets.unet import UNet

ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        'deeplabv3_mobilenetv2': partial(DeepLabMobileNetV2, decoder=False),
        'deeplabv3_mobilenet_v3_large': DeepLabV3MobileNetV3,
        'deeplabv3_resnet50': partial(DeepLabV3ResNet, depth=50),
        'deeplabv3_resnet101': partial(DeepLabV3ResNet, depth=101),
        'deeplabv3plus_mobilenetv2': partial(DeepLabMobileNetV2, decoder=True),
        'deeplabv3plus_mobilenet_v3_large': partial(DeepLabV3Plus, depth=0),
        'deeplabv3plus_resnet50': partial(DeepLabV3Plus, depth=50),
        'deeplabv3plus_resnet101': partial(DeepLabV3Plus, depth=101),
        'fcn_resnet50': partial(FCNResNet, depth=50),
        'fcn_resnet101': partial(FCNResNet, depth=101),
        'lraspp_mobilenet_v3_large': LRASPPMobileNetV3,
        'segnet': SegNet,
        'unet': UNet,
    }
)
"""What builds each network; called with the number of classes and the card's options."""

PROMPTED: Mapping[str, Callable[[], PromptedNetwork]] = MappingProxyType({'mobile_sam': MobileSAM})
"""What builds networks that segment what prompts point at; they know no classes."""


def build(architecture: str, num_classes: int, **options: Any) -> nn.Module:
    """Makes a network with random weights, in training mode as torch modules are.

    Args:
        architecture: a name of `ARCHITECTURES`.
        num_classes: channels of the logits.
        **options: the network's own options; its class documents them.

    Raises:
        ModelNotFoundError: no network has that name.
        ModelCardError: an option that the network does not have, or a value it cannot take.
    """
    if architecture not in ARCHITECTURES:
        close = difflib.get_close_matches(architecture, ARCHITECTURES, 1)
        raise ModelNotFoundError(
            f"no architecture '{architecture}'"
            + (f", did you mean '{close[0]}'?" if close else '')
            + f' Known: {", ".join(sorted(ARCHITECTURES))}'
        )
    if type(num_classes) is not int or num_classes < 1:
        raise ModelCardError(
            f'{architecture}: expected a number of classes of 1 or more, got {num_classes!r}'
        )
    maker = ARCHITECTURES[architecture]
    known = option_names(architecture)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ModelCardError(
            f'{architecture}: expected options among {", ".join(known) or "none"}, '
            f'got unknown {", ".join(unknown)}'
        )
    defaults = inspect.signature(maker).parameters
    for name, value in options.items():
        default = defaults[name].default
        # an int will do for a float, but a bool will not do for an int
        if type(value) is not type(default) and (type(default), type(value)) != (float, int):
            raise ModelCardError(
                f'{architecture}: {name}: expected a {type(default).__name__}, got {value!r}'
            )
    return maker(num_classes, **options)


def option_names(architecture: str) -> tuple[str, ...]:
    """The options that `build` takes for an architecture of `ARCHITECTURES`."""
    return tuple(option_defaults(architecture))


def option_defaults(architecture: str) -> dict[str, Any]:
    """What these options are where nobody says."""
    maker = ARCHITECTURES[architecture]
    fixed = maker.keywords if isinstance(maker, partial) else {}
    return {
        name: parameter.default
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in fixed
    }
