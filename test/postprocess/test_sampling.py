"""Labels and confidence at the image's size, against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.imaging.resize_plan import ResizeGeometry, plan_resize
from seg_perception.postprocess import GridSampler
from seg_perception.postprocess.label_images import LabelRules, label_images
from seg_perception.postprocess.ranking import rank
from seg_perception.structures import ClassTable

CPU = torch.device('cpu')


def by_cells(sampler, logits):
    return sampler.ranked_labels(rank(logits))


def dense(sampler, logits):
    return sampler._labels_dense(logits, sampler.rows)


PATHS = {'cells': by_cells, 'dense': dense}
sides = st.integers(1, 12)


@st.composite
def cases(draw):
    source_hw = (draw(sides), draw(sides))
    geometry = plan_resize(
        source_hw,
        (draw(sides), draw(sides)),
        draw(st.sampled_from(['stretch', 'letterbox', 'fit'])),
    )
    grid_hw = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    output_hw = draw(st.sampled_from([source_hw, (draw(sides), draw(sides))]))
    num_classes = draw(st.integers(1, 5))
    # Few distinct values make ties common.
    values = st.integers(-3, 3)
    num_values = num_classes * grid_hw[0] * grid_hw[1]
    logits = draw(st.lists(values, min_size=num_values, max_size=num_values))
    logits_CHW = np.array(logits, np.float32).reshape(num_classes, *grid_hw)
    return logits_CHW, geometry, output_hw, draw(st.booleans())


def sampler_of(grid_hw, geometry, output_hw, align_corners):
    return GridSampler(grid_hw, geometry, output_hw, align_corners=align_corners, device=CPU)


def upsampled(logits_CHW, geometry, output_hw, align_corners):
    return np.stack(
        [
            reference.sample_grid(
                channel,
                geometry.input_hw,
                geometry.content_hw,
                geometry.offset_yx,
                output_hw,
                align_corners,
            )
            for channel in logits_CHW
        ]
    )


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
@given(case=cases())
@settings(max_examples=80)
def test_labels_win_everywhere(path, case):
    logits_CHW, geometry, output_hw, align_corners = case
    labels = path(
        sampler_of(logits_CHW.shape[1:], geometry, output_hw, align_corners),
        torch.from_numpy(logits_CHW),
    ).numpy()
    scores = upsampled(logits_CHW, geometry, output_hw, align_corners)
    assert labels.shape == output_hw
    chosen = np.take_along_axis(scores, labels[None].astype(np.int64), 0)[0]
    # The winner's score is the best one; only rounding may prefer one of equals.
    np.testing.assert_allclose(chosen, scores.max(0), atol=1e-5)


@given(case=cases())
@settings(max_examples=100)
def test_resample_interpolates(case):
    logits_CHW, geometry, output_hw, align_corners = case
    sampler = sampler_of(logits_CHW.shape[1:], geometry, output_hw, align_corners)
    sampled = sampler.resample(torch.from_numpy(logits_CHW[0])).numpy()
    expected = upsampled(logits_CHW[:1], geometry, output_hw, align_corners)[0]
    np.testing.assert_allclose(sampled, expected, atol=1e-4)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('output_hw', [(97, 131), (24, 32), (1, 1)])
def test_equals_interpolate_then_argmax(output_hw, align_corners):
    """The definition itself: torch's own upsampling of all logits, then argmax."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 21, 9, 13, generator=generator)
    # With aligned corners the two conventions agree only where input and output are one size.
    geometry = ResizeGeometry(output_hw, output_hw, output_hw, (0, 0))
    expected = torch.nn.functional.interpolate(
        logits, output_hw, mode='bilinear', align_corners=align_corners
    )[0].argmax(0)
    sampler = sampler_of((9, 13), geometry, output_hw, align_corners)
    for name, path in PATHS.items():
        labels = path(sampler, logits[0])
        share_equal = (labels == expected).float().mean().item()
        # Random logits change their winner often; rounding may decide a pixel on a border.
        assert share_equal > 0.9995, name


def test_ties_go_to_the_lower_id():
    geometry = plan_resize((8, 8), (8, 8), 'stretch')
    sampler = sampler_of((2, 2), geometry, (8, 8), False)
    for path in PATHS.values():
        assert not path(sampler, torch.zeros(5, 2, 2)).any()


def test_more_than_255_classes():
    geometry = plan_resize((4, 4), (4, 4), 'stretch')
    logits = torch.zeros(300, 2, 2)
    logits[299] = 1.0
    for path in PATHS.values():
        labels = path(sampler_of((2, 2), geometry, (4, 4), False), logits)
        assert labels.unique().tolist() == [299]


def test_blocks_do_not_show(monkeypatch):
    from seg_perception.postprocess import sampling

    geometry = plan_resize((33, 17), (33, 17), 'stretch')
    sampler = sampler_of((5, 4), geometry, (33, 17), False)
    logits = torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(1))
    whole = sampler.labels(logits)
    monkeypatch.setattr(sampling, '_MAX_BLOCK_BYTES', 4 * 7 * 17 * 2)
    for on_cpu in (True, False):
        sampler._on_cpu = on_cpu
        assert torch.equal(sampler.labels(logits), whole)


def test_a_tie_at_a_pixel_goes_to_the_lower_id():
    # Class 1 leads left, class 0 right, and they meet exactly at the middle one of five pixels.
    logits = torch.tensor([[[0.0, 4.0]], [[4.0, 0.0]]])
    geometry = ResizeGeometry((1, 5), (1, 5), (1, 5), (0, 0))
    for path in PATHS.values():
        labels = path(sampler_of((1, 2), geometry, (1, 5), True), logits)
        assert labels.tolist() == [[1, 1, 0, 0, 0]]


@given(
    case=cases(),
    num_classes=st.integers(1, 12),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
    offset=st.sampled_from([0.0, 1.0]),
    step=st.sampled_from([1e-7, 0.25, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100)
def test_by_cells_equals_all_classes_everywhere(case, num_classes, scale, offset, step, seed):
    """To the bit: the same arithmetic decides ties and what is nearly one."""
    few, geometry, output_hw, align_corners = case
    rng = np.random.default_rng(seed)
    shape = (num_classes, *few.shape[1:])
    logits = torch.from_numpy(
        ((offset + rng.integers(-9, 10, shape) * step) * scale).astype(np.float32)
    )
    sampler = sampler_of(few.shape[1:], geometry, output_hw, align_corners)
    assert torch.equal(by_cells(sampler, logits), dense(sampler, logits))


@pytest.mark.parametrize('num_classes', [2, 21, 300])
@pytest.mark.parametrize('output_hw', [(97, 131), (120, 160), (11, 7)])
def test_by_cells_equals_all_classes_on_noise_and_on_regions(num_classes, output_hw):
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(num_classes, 15, 20)).astype(np.float32)
    regions = np.cumsum(np.cumsum(noise, 1), 2)
    geometry = plan_resize(output_hw, (120, 160), 'letterbox')
    sampler = sampler_of((15, 20), geometry, output_hw, False)
    for values in (noise, regions, np.round(noise * 4)):
        logits = torch.from_numpy(values.astype(np.float32))
        assert torch.equal(by_cells(sampler, logits), dense(sampler, logits))


@given(case=cases())
@settings(max_examples=50)
def test_levels_are_resampled_values_rounded(case):
    logits, geometry, output_hw, align_corners = case
    sampler = sampler_of(logits.shape[1:], geometry, output_hw, align_corners)
    values = (logits[0] + 3.0) / 6.0
    levels = sampler.levels(torch.from_numpy(values)).numpy()
    expected = 255.0 * upsampled(values[None], geometry, output_hw, align_corners)[0]
    assert levels.dtype == np.uint8
    np.testing.assert_allclose(levels, expected, atol=0.501)


def test_a_masked_out_class_never_wins():
    geometry = plan_resize((20, 30), (20, 30), 'stretch')
    sampler = sampler_of((4, 6), geometry, (20, 30), False)
    logits = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(4))
    logits[1] = -torch.inf
    for on_cpu in (True, False):
        sampler._on_cpu = on_cpu
        assert set(sampler.labels(logits).unique().tolist()) == {0, 2}


def test_nearest_takes_the_closest_sample():
    geometry = plan_resize((1, 4), (1, 4), 'stretch')
    sampler = sampler_of((1, 2), geometry, (1, 4), False)
    assert sampler.nearest(torch.tensor([[7, 9]])).tolist() == [[7, 7, 9, 9]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_gpu_agrees_with_cpu():
    geometry = plan_resize((480, 640), (240, 320), 'stretch')
    logits = torch.randn(21, 30, 40, generator=torch.Generator().manual_seed(2))
    labels = []
    for device in (CPU, torch.device('cuda')):
        sampler = GridSampler((30, 40), geometry, (480, 640), align_corners=False, device=device)
        labels.append(sampler.labels(logits.to(device)).cpu())
    assert (labels[0] == labels[1]).float().mean() > 0.9999


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
            ],
        ),
    ],
)
def test_scores_above_one_are_as_sure_as_can_be(device):
    """Sums of query masks are: two queries may both be sure of a pixel."""
    sampler = GridSampler(
        (2, 2),
        plan_resize((4, 4), (4, 4), 'stretch'),
        (4, 4),
        align_corners=False,
        device=torch.device(device),
    )
    scores = torch.tensor([[[0.2, 0.2], [0.2, 0.2]], [[1.7, 0.5], [1.7, 0.5]]], device=device)
    made = label_images(scores[None], sampler, LabelRules(ClassTable(('a', 'b')), True))
    assert made.confidence_BYX is not None
    assert (made.labels_BYX == 1).all()
    levels = made.confidence_BYX[0, 0].cpu().tolist()
    assert levels[0] == 255
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] in (127, 128)


FUSED_CASES = {
    # classes, grid, source, input, resize mode, align_corners, dtype
    'enlarged': (21, (36, 64), (720, 1280), (288, 512), 'stretch', False, torch.float32),
    'half precision': (21, (36, 64), (480, 640), (288, 512), 'letterbox', False, torch.float16),
    'many classes': (300, (9, 7), (101, 57), (72, 56), 'fit', True, torch.float32),
    'shrunk': (5, (40, 60), (17, 13), (320, 480), 'letterbox', True, torch.bfloat16),
    'one class': (1, (2, 2), (9, 9), (8, 8), 'stretch', False, torch.float32),
    'one sample': (3, (1, 1), (33, 70), (8, 8), 'stretch', False, torch.float32),
    'large cells': (4, (3, 3), (700, 900), (96, 96), 'stretch', False, torch.float32),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('threshold', [0.0, 0.4])
@pytest.mark.parametrize('case', FUSED_CASES.values(), ids=FUSED_CASES)
def test_fused_label_images_equal_those_of_the_cpu(case, threshold, channels_last):
    num_classes, grid_hw, source_hw, input_hw, mode, align_corners, dtype = case
    geometry = plan_resize(source_hw, input_hw, mode)
    shape = (2, num_classes, *grid_hw)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    logits[1, num_classes // 2] = -torch.inf if num_classes > 1 else 0.0
    rules = LabelRules(
        ClassTable(tuple(f'class_{i}' for i in range(num_classes))),
        temperature=0.7,
        threshold=threshold,
    )
    made = {}
    for device in ('cpu', 'cuda'):
        sampler = GridSampler(
            grid_hw, geometry, source_hw, align_corners=align_corners, device=torch.device(device)
        )
        assert sampler.is_fused == (device == 'cuda')
        there = logits.to(device)
        if channels_last:
            there = there.contiguous(memory_format=torch.channels_last)
        made[device] = label_images(there, sampler, rules)
    assert made['cpu'].is_nan is None
    assert not made['cuda'].is_nan.any()
    expected, actual = made['cpu'], made['cuda']
    labels = (expected.labels_BYX.int(), actual.labels_BYX.cpu().int())
    assert (labels[0] == labels[1]).float().mean() >= 0.9999
    levels = (expected.confidence_BYX.int(), actual.confidence_BYX.cpu().int())
    assert (levels[0] - levels[1]).abs().max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_fused_label_images_say_where_scores_are_no_numbers():
    geometry = plan_resize((20, 20), (16, 16), 'stretch')
    sampler = GridSampler(
        (4, 4), geometry, (20, 20), align_corners=False, device=torch.device('cuda')
    )
    logits = torch.zeros(2, 40, 4, 4, device='cuda')
    rules = LabelRules(ClassTable(tuple(f'class_{i}' for i in range(40))))
    assert not label_images(logits, sampler, rules).is_nan.any()
    logits[1, 39, 3, 3] = torch.nan
    assert label_images(logits, sampler, rules).is_nan.all()
