"""Parameter counts and key names against what papers and torchvision publish.

The digests are of torchvision 0.20.1's own networks (21 classes): the first 16 digits of the
SHA-256 over the sorted lines 'key shape dtype' of their state dicts. On the day they were taken,
torchvision's networks and these had equal logits (relative difference under 5e-7) with the same
random weights.
"""

from __future__ import annotations

import hashlib

import pytest
import torch

from seg_perception.models import nets


def num_parameters(architecture: str, num_classes: int, **options: object) -> int:
    with torch.device('meta'):
        network = nets.build(architecture, num_classes, **options)
    return sum(parameter.numel() for parameter in network.parameters())


# torchvision's counts include the auxiliary classifier
TORCHVISION = [
    ('deeplabv3_resnet50', True, 42_004_074, '5e1a723d4cccac4a'),
    ('deeplabv3_resnet50', False, 39_638_869, '334da0763668e25d'),
    ('deeplabv3_resnet101', True, 60_996_202, '4632364a26563ea8'),
    ('deeplabv3_resnet101', False, 58_630_997, '72007da10334a2e4'),
    ('deeplabv3_mobilenet_v3_large', True, 11_029_328, '453dcc84891c5b06'),
    ('deeplabv3_mobilenet_v3_large', False, 11_025_477, '0f4f6b85b601d764'),
    ('fcn_resnet50', True, 35_322_218, 'cfab68c6d64dd3f8'),
    ('fcn_resnet50', False, 32_957_013, 'dc533b5eccb63dec'),
    ('fcn_resnet101', True, 54_314_346, 'c014d4482a61d2f3'),
    ('fcn_resnet101', False, 51_949_141, '50a4180bf483fd44'),
    ('lraspp_mobilenet_v3_large', None, 3_221_538, '792e74ba191c0462'),
]


@pytest.mark.parametrize(('architecture', 'aux', 'count', 'digest'), TORCHVISION)
def test_keys_shapes_and_counts_are_torchvisions(architecture, aux, count, digest):
    options = {} if aux is None else {'aux': aux}
    assert num_parameters(architecture, 21, **options) == count
    with torch.device('meta'):
        state = nets.build(architecture, 21, **options).state_dict()
    lines = (f'{key} {list(value.shape)} {value.dtype}\n' for key, value in sorted(state.items()))
    assert hashlib.sha256(''.join(lines).encode()).hexdigest()[:16] == digest


def test_without_aux_only_its_keys_are_gone():
    with torch.device('meta'):
        with_aux = nets.build('deeplabv3_resnet50', 21, aux=True).state_dict()
        without = nets.build('deeplabv3_resnet50', 21).state_dict()
    dropped = {key for key in with_aux if not key.startswith('aux_classifier.')}
    assert dropped == set(without)
    assert len(with_aux) == len(without) + 8


def test_unet_is_the_papers():
    options = {'padding': 'valid', 'batch_norm': False}
    # the sum of the paper's figure 1: 23 layers of convolution, with biases
    assert num_parameters('unet', 2, in_channels=1, **options) == 31_030_658


def test_segnet_is_the_papers():
    # "29.45M" (table 6), and VGG16's 13 convolutions without the fully connected layers
    assert round(num_parameters('segnet', 11) / 1e6, 2) == 29.45
    with torch.device('meta'):
        encoder = nets.build('segnet', 11).encoder
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == 13
    assert sum(p.numel() for layer in convolutions for p in layer.parameters()) == 14_714_688


def test_mobilenetv2_counts():
    # the published graph's: 2,097,013 numbers with batch norm folded
    assert num_parameters('deeplabv3_mobilenetv2', 21, folded=True) == 2_097_013
    # a scale and a shift per channel in place of a bias
    assert num_parameters('deeplabv3_mobilenetv2', 21) == 2_113_557
