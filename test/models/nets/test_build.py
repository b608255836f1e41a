"""nets.build: every name makes a network; wrong names and options say what is right."""

from __future__ import annotations

import pytest
import torch

from seg_perception.errors import ModelCardError, ModelError, ModelNotFoundError
from seg_perception.models import nets


@pytest.mark.parametrize('architecture', sorted(nets.ARCHITECTURES))
def test_every_architecture_ends_in_the_number_of_classes(architecture):
    with torch.device('meta'):
        network = nets.build(architecture, 7).eval()
        logits = network(torch.empty(2, 3, 64, 96))
    assert logits.shape[:2] == (2, 7)


def test_unknown_architecture_names_the_closest_and_all():
    with pytest.raises(ModelNotFoundError, match=r"did you mean 'deeplabv3_resnet50'.*unet"):
        nets.build('deeplab_resnet50', 2)


def test_unknown_option_names_the_known_ones():
    with pytest.raises(ModelCardError, match=r'output_stride, folded.*unknown fold$'):
        nets.build('deeplabv3_mobilenetv2', 2, fold=True)


@pytest.mark.parametrize(
    ('architecture', 'options', 'message'),
    [
        ('deeplabv3_resnet50', {'output_stride': 32}, 'expected one of 8, 16, got 32'),
        ('deeplabv3plus_resnet50', {'output_stride': 4}, 'expected one of 8, 16, got 4'),
        ('deeplabv3_mobilenet_v3_large', {'aux': 'yes'}, "aux: expected a bool, got 'yes'"),
        ('deeplabv3_mobilenetv2', {'output_stride': True}, 'expected a int, got True'),
        ('unet', {'padding': 'mirror'}, "expected one of same, valid, got 'mirror'"),
        ('unet', {'num_stages': 0}, 'num_stages 1 to 8'),
        ('unet', {'dropout': 1}, 'expected 0 <= dropout < 1'),
        ('deeplabv3_resnet50', {'depth': 101}, 'unknown depth'),
    ],
)
def test_wrong_options_are_model_errors(architecture, options, message):
    with pytest.raises(ModelError, match=message):
        nets.build(architecture, 2, **options)


@pytest.mark.parametrize('num_classes', [0, -1, 2.0, True, None])
def test_wrong_number_of_classes(num_classes):
    with pytest.raises(ModelCardError, match='number of classes of 1 or more'):
        nets.build('segnet', num_classes)
