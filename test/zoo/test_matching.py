"""Which network a state dict is of."""

from __future__ import annotations

import pytest
import torch

from seg_perception.errors import WeightsError
from seg_perception.models import nets
from seg_perception.zoo.matching import match_architecture


def shapes(architecture, num_classes, **options):
    with torch.device('meta'):
        state = nets.build(architecture, num_classes, **options).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize('architecture', list(nets.ARCHITECTURES))
def test_every_network_is_recognised(architecture):
    match = match_architecture(shapes(architecture, 5), 'w.pth')
    assert (match.architecture, match.num_classes) == (architecture, 5)
    assert (match.options, match.key_map, match.drop_prefixes) == ({}, {}, ())


@pytest.mark.parametrize(
    ('architecture', 'options'),
    [
        ('unet', {'base_channels': 16, 'num_stages': 3}),
        ('unet', {'batch_norm': False}),
        ('segnet', {'base_channels': 8}),
        ('deeplabv3_mobilenetv2', {'folded': True}),
    ],
)
def test_options_that_show_are_found(architecture, options):
    match = match_architecture(shapes(architecture, 3, **options), 'w.pth')
    assert (match.architecture, dict(match.options), match.num_classes) == (
        architecture,
        options,
        3,
    )


def test_wrappers_and_what_lies_beside_the_network():
    wrapped = {f'module.model.{k}': v for k, v in shapes('fcn_resnet50', 21, aux=True).items()}
    match = match_architecture(wrapped, 'w.pth')
    assert (match.architecture, match.num_classes) == ('fcn_resnet50', 21)
    assert match.key_map == {'module.model.': ''}
    assert match.drop_prefixes == ('module.model.aux_classifier.',)
    lightning = {f'model.{k}': v for k, v in shapes('unet', 4).items()}
    match = match_architecture({**lightning, 'criterion.weight': (4,)}, 'w.ckpt')
    assert (match.key_map, match.drop_prefixes) == ({'model.': ''}, ('criterion.',))


def test_another_network_is_told_from_the_nearest():
    almost = shapes('deeplabv3_resnet50', 21)
    del almost['backbone.layer4.2.conv3.weight']
    with pytest.raises(
        WeightsError, match=r'the nearest is deeplabv3_resnet50: it wants back'
    ) as e:
        match_architecture(almost, 'w.pth')
    assert 'backbone.layer4.2.conv3.weight (2048, 512, 1, 1)' in str(e.value)
    with pytest.raises(WeightsError, match='got 1 tensors that fit none'):
        match_architecture({'x': (1,)}, 'w.pth')
