"""What comes out of the networks: sizes, the pooling indices, padding and strides."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from seg_perception.errors import InferenceError
from seg_perception.models import nets
from seg_perception.models.nets.layers import ConvBlock, resize_legacy_x4
from seg_perception.models.nets.segnet import unpool

SIZES = [(1, 1), (33, 47), (64, 96), (65, 31)]
SMALL = {'segnet': {'base_channels': 4}, 'unet': {'base_channels': 4}}
STRIDES = {
    'unet': 1,
    'segnet': 1,
    'deeplabv3_mobilenetv2': 16,
    'deeplabv3_mobilenet_v3_large': 16,
    'deeplabv3_resnet50': 8,
    'deeplabv3plus_mobilenetv2': 4,
    'deeplabv3plus_mobilenet_v3_large': 4,
    'deeplabv3plus_resnet50': 4,
    'fcn_resnet50': 8,
    'lraspp_mobilenet_v3_large': 8,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('architecture', sorted(STRIDES))
def test_grid_is_the_input_over_the_stride_rounded_up(architecture):
    stride = STRIDES[architecture]
    with torch.device('meta'):
        network = nets.build(architecture, 3).eval()
        for height, width in SIZES:
            logits = network(torch.empty(2, 3, height, width))
            expected_hw = (math.ceil(height / stride), math.ceil(width / stride))
            assert logits.shape == (2, 3, *expected_hw)


@pytest.mark.parametrize('architecture', sorted(STRIDES))
def test_logits_are_finite_and_depend_on_the_image(architecture):
    network = nets.build(architecture, 3, **SMALL.get(architecture, {})).eval()
    with torch.inference_mode():
        logits = network(torch.randn(2, 3, 33, 47))
    assert bool(logits.isfinite().all())
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize(
    ('architecture', 'output_stride', 'grid'),
    [
        ('deeplabv3_resnet50', 8, 16),
        ('deeplabv3_resnet50', 16, 8),
        ('deeplabv3_mobilenet_v3_large', 8, 16),
        ('deeplabv3_mobilenet_v3_large', 16, 8),
        ('deeplabv3_mobilenetv2', 8, 16),
        ('deeplabv3_mobilenetv2', 32, 4),
    ],
)
def test_output_stride(architecture, output_stride, grid):
    with torch.device('meta'):
        network = nets.build(architecture, 3, output_stride=output_stride).eval()
        assert network(torch.empty(1, 3, 128, 128)).shape[-2:] == (grid, grid)


def test_a_stride_turned_into_dilation_sees_the_same_pixels():
    """At stride 8 every other cell is the cell of stride 16: the same weights, only denser."""
    coarse = nets.build('deeplabv3_mobilenetv2', 3, output_stride=16).eval()
    dense = nets.build('deeplabv3_mobilenetv2', 3, output_stride=8).eval()
    dense.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 129, 161, dtype=torch.float64)
    with torch.inference_mode():
        coarse_features, _ = coarse.double().backbone(image)
        dense_features, _ = dense.double().backbone(image)
    torch.testing.assert_close(dense_features[..., ::2, ::2], coarse_features)


def test_segnet_puts_values_back_where_the_maxima_were():
    image = torch.tensor([[[[1.0, 2.0, 7.0, 0.0], [4.0, 3.0, 0.0, 0.0]]]])
    pooled, indices = F.max_pool2d(image, 2, return_indices=True)
    expected = torch.tensor([[[[0.0, 0.0, 7.0, 0.0], [4.0, 0.0, 0.0, 0.0]]]])
    assert torch.equal(unpool(pooled, indices), expected)


def test_segnet_unpooling_is_torchs():
    pooled, indices = F.max_pool2d(torch.randn(2, 5, 12, 20), 2, return_indices=True)
    assert torch.equal(unpool(pooled, indices), F.max_unpool2d(pooled, indices, 2))


def test_segnet_uses_each_stages_indices(monkeypatch):
    from seg_perception.models.nets import segnet

    network = nets.build('segnet', 3).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        proper = network(image)
        monkeypatch.setattr(
            segnet, 'unpool', lambda x, indices: F.interpolate(x, scale_factor=2.0)
        )
        without_indices = network(image)
    assert not torch.allclose(proper, without_indices, atol=1e-3)


def test_unet_valid_has_the_papers_sizes():
    with torch.device('meta'):
        network = nets.build(
            'unet', 2, padding='valid', batch_norm=False, in_channels=1, base_channels=2
        )
        assert network.forward_valid(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_unet_mirroring_gives_the_middle_of_the_papers_network():
    network = nets.build(
        'unet', 2, padding='valid', batch_norm=False, base_channels=2, num_stages=2
    ).eval()
    image = torch.randn(1, 3, 124, 132, dtype=torch.float64)
    with torch.inference_mode():
        full = network.double()(image)
        # 40 px of margin with two stages; 124 and 132 are 4 more than a multiple of 4 less 40
        middle = network.forward_valid(image)
    assert full.shape == (1, 2, 124, 132)
    torch.testing.assert_close(full[..., 20:-20, 20:-20], middle)


def test_unet_valid_says_that_an_image_is_too_small():
    network = nets.build('unet', 2, padding='valid', base_channels=2).eval()
    with pytest.raises(InferenceError, match=r'more than 97 px per side.*got 33x47'):
        network(torch.zeros(1, 3, 33, 47))


def same_convolution(x_CHW: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """TensorFlow's SAME, spelt out: ceil(n / stride) outputs, the odd padding at the end."""
    _, height, width = x_CHW.shape
    num_rows, num_columns = math.ceil(height / stride), math.ceil(width / stride)
    top = max((num_rows - 1) * stride + 3 - height, 0) // 2
    left = max((num_columns - 1) * stride + 3 - width, 0) // 2
    out = torch.zeros(weight.shape[0], num_rows, num_columns)
    for row in range(num_rows):
        for column in range(num_columns):
            for i in range(3):
                for j in range(3):
                    y, x = row * stride - top + i, column * stride - left + j
                    if 0 <= y < height and 0 <= x < width:
                        out[:, row, column] += weight[:, :, i, j] @ x_CHW[:, y, x]
    return out


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size_hw', [(6, 7), (5, 8), (1, 2)])
def test_padding_is_tensorflows(size_hw, stride):
    block = ConvBlock(2, 3, 3, stride=stride, activation=None, folded=True)
    block.conv.bias.data.zero_()
    image = torch.randn(1, 2, *size_hw)
    with torch.no_grad():
        expected = same_convolution(image[0], block.conv.weight, stride)
        torch.testing.assert_close(block(image)[0], expected)


def test_legacy_resize_keeps_cells_at_multiples_of_four():
    small = torch.randn(1, 2, 3, 5)
    large = resize_legacy_x4(small, torch.empty(1, 2, 11, 18))
    assert large.shape == (1, 2, 11, 18)
    torch.testing.assert_close(large[..., ::4, ::4], small)
    torch.testing.assert_close(large[..., 0, 2], (small[..., 0, 0] + small[..., 0, 1]) / 2)


def test_pad_to_odd_repeats_the_border_and_leaves_odd_sizes_alone():
    plain = nets.build('deeplabv3_mobilenetv2', 3).eval()
    odd = nets.build('deeplabv3_mobilenetv2', 3, pad_to_odd=True).eval()
    odd.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 65, 81)
    with torch.inference_mode():
        assert torch.equal(odd(image), plain(image))
        repeated = F.pad(image[..., :64, :], (0, 0, 0, 1), mode='replicate')
        assert torch.equal(odd(image[..., :64, :]), plain(repeated))


@pytest.mark.parametrize('architecture', ['deeplabv3_resnet50', 'deeplabv3_mobilenet_v3_large'])
def test_aux_logits(architecture):
    network = nets.build(architecture, 3, aux=True).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        logits, aux_logits = network.forward_with_aux(image)
        assert torch.equal(logits, network(image))
    assert aux_logits.shape == (1, 3, 9, 13)


@pytest.mark.parametrize('architecture', ['unet', 'segnet', 'deeplabv3_mobilenetv2'])
def test_gradients_reach_every_parameter(architecture):
    network = nets.build(architecture, 3, **SMALL.get(architecture, {})).train()
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ('architecture', 'options'),
    [
        ('deeplabv3_mobilenetv2', {'pad_to_odd': True, 'folded': True}),
        ('unet', {'base_channels': 4, 'num_stages': 2}),
    ],
)
def test_export_leaves_the_size_open(architecture, options):
    network = nets.build(architecture, 3, **options).eval()
    sides = {axis: torch.export.Dim(f'side{axis}', min=32, max=1024) for axis in (2, 3)}
    program = torch.export.export(network, (torch.randn(1, 3, 64, 96),), dynamic_shapes=(sides,))
    exported = program.module()
    for size_hw in ((64, 96), (97, 131)):
        image = torch.randn(1, 3, *size_hw)
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image))
