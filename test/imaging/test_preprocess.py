"""Geometry inverts; batches equal the slow twin on every way through; buffers live as promised."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import ConfigurationError, ImageLayoutError, ImageTooLargeError
from seg_perception.imaging import ENCODINGS, to_rgb
from seg_perception.structures import Frame

torch = pytest.importorskip('torch', reason='torch is not installed')

from seg_perception.imaging.device_resize import taps  # noqa: E402
from seg_perception.imaging.preprocess import Preprocessor  # noqa: E402
from seg_perception.imaging.quantise import Quantisation  # noqa: E402
from seg_perception.imaging.resize_plan import plan_resize  # noqa: E402

MEAN, STD = (123.0, 117.5, 104.0), (58.0, 57.0, 57.5)
MODES = ['stretch', 'letterbox', 'fit']
INTERPOLATIONS = ['bilinear', 'area', 'antialias_bilinear', 'antialias_bicubic']
sides = st.integers(1, 3000)
sizes = st.tuples(sides, sides)


def random_frame(encoding='bgr8', height=24, width=30, padding=0, seed=0):
    step = width * ENCODINGS[encoding].bytes_per_pixel + padding
    data = np.random.default_rng(seed).bytes(ENCODINGS[encoding].num_bytes(height, step))
    return Frame(data, height, width, encoding, step)


def flat_frame(rgb, height=8, width=8):
    return Frame.from_array(np.full((height, width, 3), rgb, np.uint8), 'rgb8')


@functools.cache
def slow_input(frame, geometry, is_bgr=False, interpolation='bilinear'):
    return reference.preprocess(
        to_rgb(frame), geometry.content_hw, geometry.input_hw, geometry.offset_yx, MEAN, STD,
        is_bgr, interpolation,
    )  # fmt: skip


# --- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('source_hw', 'size_hw', 'mode', 'multiple_of', 'input_hw', 'content_hw', 'offset_yx'),
    [
        ((480, 640), (513, 513), 'stretch', 1, (513, 513), (513, 513), (0, 0)),
        ((480, 640), (513, 513), 'letterbox', 1, (513, 513), (385, 513), (64, 0)),
        ((640, 480), (513, 513), 'letterbox', 1, (513, 513), (513, 385), (0, 64)),
        ((720, 1280), (512, 512), 'fit', 32, (288, 512), (288, 512), (0, 0)),
        ((720, 1280), (500, 500), 'fit', 32, (288, 480), (288, 480), (0, 0)),
        ((480, 640), (513, 513), 'fit', 1, (385, 513), (385, 513), (0, 0)),
        ((1, 1000), (64, 64), 'letterbox', 1, (64, 64), (1, 64), (31, 0)),
        ((1, 1000), (64, 64), 'fit', 32, (32, 64), (32, 64), (0, 0)),
        ((1, 1), (1, 1), 'letterbox', 1, (1, 1), (1, 1), (0, 0)),
        ((4, 4), (8, 9), 'letterbox', 1, (8, 9), (8, 8), (0, 0)),
    ],
)
def test_planned_by_hand(source_hw, size_hw, mode, multiple_of, input_hw, content_hw, offset_yx):
    plan = plan_resize(source_hw, size_hw, mode, multiple_of)
    assert (plan.source_hw, plan.input_hw) == (source_hw, input_hw)
    assert (plan.content_hw, plan.offset_yx) == (content_hw, offset_yx)
    assert plan.is_padded == (content_hw != input_hw)


@pytest.mark.parametrize(
    ('source_hw', 'size_hw', 'multiple_of', 'input_hw'),
    [
        ((480, 640), (800, 1333), 1, (800, 1066)),
        ((640, 480), (800, 1333), 1, (1066, 800)),
        ((480, 640), (800, 1333), 32, (800, 1088)),
        ((400, 1000), (800, 1333), 1, (533, 1333)),  # 533.2
        ((533, 700), (800, 1050), 1, (800, 1050)),
        ((600, 600), (513, 2052), 1, (513, 513)),
        ((1, 1000), (64, 256), 8, (8, 256)),
    ],
)
def test_by_the_shorter_side(source_hw, size_hw, multiple_of, input_hw):
    plan = plan_resize(source_hw, size_hw, 'shortest_edge', multiple_of)
    assert plan.input_hw == plan.content_hw == input_hw
    assert not plan.is_padded
    assert not plan.is_cropped


@pytest.mark.parametrize(
    ('canvas_hw', 'placement', 'offset_yx', 'seen', 'shown'),
    [
        # a content of 8 x 10
        ((6, 6), 'center', (-1, -2), (slice(1, 7), slice(2, 8)), (slice(0, 6), slice(0, 6))),
        ((5, 10), 'center', (-1, 0), (slice(1, 6), slice(0, 10)), (slice(0, 5), slice(0, 10))),
        ((11, 12), 'center', (2, 1), (slice(0, 8), slice(0, 10)), (slice(2, 10), slice(1, 11))),
        ((9, 7), 'corner', (0, 0), (slice(0, 8), slice(0, 7)), (slice(0, 8), slice(0, 7))),
    ],
)
def test_a_canvas_cuts_off_and_pads(canvas_hw, placement, offset_yx, seen, shown):
    plan = plan_resize((16, 20), (8, 10), 'stretch', 1, canvas_hw, placement)
    assert (plan.input_hw, plan.content_hw) == (canvas_hw, (8, 10))
    assert plan.offset_yx == offset_yx
    assert plan.seen_slices == seen
    assert plan.content_slices == shown
    assert plan.is_cropped == (seen != (slice(0, 8), slice(0, 10)))
    assert plan.is_padded == (shown != (slice(0, canvas_hw[0]), slice(0, canvas_hw[1])))
    # at twice the size: twice the pixels
    assert plan.seen_in((16, 20)) == tuple(slice(2 * s.start, 2 * s.stop) for s in seen)


@given(
    source_hw=sizes,
    size_hw=sizes,
    canvas_hw=sizes,
    output_hw=sizes,
    mode=st.sampled_from(['stretch', 'fit', 'shortest_edge']),
    placement=st.sampled_from(['center', 'corner']),
)
def test_pixels_are_seen_whose_centres_are_on_the_canvas(
    source_hw, size_hw, canvas_hw, output_hw, mode, placement
):
    plan = plan_resize(source_hw, size_hw, mode, 1, canvas_hw, placement)
    for axis, seen in enumerate(plan.seen_in(output_hw)):
        content, offset = plan.content_hw[axis], plan.offset_yx[axis]
        centres = (np.arange(output_hw[axis]) + 0.5) / output_hw[axis] * content + offset
        is_seen = (centres > 1e-6) & (centres < canvas_hw[axis] - 1e-6)
        marked = np.zeros(output_hw[axis], bool)
        marked[seen] = True
        on_the_edge = np.abs(centres) + 0 < 1e-6
        on_the_edge |= np.abs(centres - canvas_hw[axis]) < 1e-6
        assert (marked == is_seen)[~on_the_edge].all()


@given(source_hw=sizes, size_hw=sizes, mode=st.sampled_from(MODES), multiple_of=st.integers(1, 64))
def test_plans_keep_their_promises(source_hw, size_hw, mode, multiple_of):
    size_hw = tuple(side * multiple_of for side in size_hw)
    plan = plan_resize(source_hw, size_hw, mode, multiple_of)
    assert all(side % multiple_of == 0 for side in plan.input_hw)
    rows, columns = plan.content_slices
    for part, content, whole, limit in zip(
        (rows, columns), plan.content_hw, plan.input_hw, size_hw, strict=True
    ):
        assert part.start >= 0
        assert part.stop <= whole <= limit
        assert part.stop - part.start == content >= 1
        assert abs(part.start - (whole - part.stop)) <= 1  # centred
    if mode != 'fit':
        assert plan.input_hw == size_hw
    if mode != 'stretch':
        scale = min(size / source for size, source in zip(size_hw, source_hw, strict=True))
        unit = multiple_of if mode == 'fit' else 1
        for content, source in zip(plan.content_hw, source_hw, strict=True):
            assert abs(content - max(source * scale, unit)) <= unit / 2 + 1e-6


@given(
    source_hw=sizes,
    size_hw=sizes,
    mode=st.sampled_from(MODES),
    points=st.lists(st.tuples(st.floats(-10, 4000), st.floats(-10, 4000)), max_size=5),
)
def test_geometry_inverts(source_hw, size_hw, mode, points):
    plan = plan_resize(source_hw, size_hw, mode)
    points = np.array(points).reshape(-1, 2)
    there = plan.source_to_input_xy(points)
    # Rounding grows with the factor that the way back magnifies by.
    tolerance = 1e-11 * max(*source_hw, *size_hw) ** 2
    np.testing.assert_allclose(plan.input_to_source_xy(there), points, atol=max(tolerance, 1e-9))


@given(source_hw=sizes, size_hw=sizes, mode=st.sampled_from(MODES))
def test_edges_map_onto_edges(source_hw, size_hw, mode):
    plan = plan_resize(source_hw, size_hw, mode)
    (height, width), (rows, columns) = source_hw, plan.content_slices
    corners = plan.source_to_input_xy([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    expected = [
        [columns.start - 0.5, rows.start - 0.5],
        [columns.stop - 0.5, rows.stop - 0.5],
    ]
    np.testing.assert_allclose(corners, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (((4, 4), (8, 8), 'crop'), "stretch, letterbox, fit, shortest_edge, got 'crop'"),
        (((4, 4), (8, 8), 'stretch', 1, (8, 0)), 'sizes of at least 1'),
        (((4, 4), (8, 8), 'stretch', 1, (8, 8), 'left'), "center, corner, got 'left'"),
        (((0, 4), (8, 8), 'fit'), 'sizes of at least 1'),
        (((4, 4), (8, 0), 'stretch'), 'sizes of at least 1'),
        (((4, 4), (8, 8), 'fit', 0), 'sizes of at least 1'),
        (((4, 4), (8, 10), 'stretch', 4), r'multiples of 4, got \(8, 10\)'),
        (((4, 4), (10, 8), 'letterbox', 4), r'multiples of 4, got \(10, 8\)'),
    ],
)
def test_impossible_plans(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        plan_resize(*arguments)


@given(
    num_source=st.integers(1, 200),
    num_target=st.integers(1, 200),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_taps_weigh_one_and_stay_inside(num_source, num_target, interpolation):
    if interpolation == 'area' and num_target > num_source:
        return
    index, weight = taps(num_source, num_target, interpolation)
    assert index.shape == weight.shape
    assert len(index) == num_target
    assert index.min() >= 0
    assert index.max() < num_source
    assert (weight >= 0).all() or interpolation == 'antialias_bicubic'
    np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-5)
    if interpolation == 'area':  # every source pixel counts as much as any other
        totals = np.bincount(index.ravel(), weight.ravel(), minlength=num_source)
        np.testing.assert_allclose(totals, num_target / num_source, rtol=1e-4)


# --- batches -------------------------------------------------------------------------------------


FRAME = random_frame('bgra8', 8, 10, padding=5)


def check_against_slow_twin(preprocess, tolerance, frame=FRAME):
    [(batch, indices, [geometry])] = preprocess([frame])
    assert indices == [0]
    assert geometry == preprocess.plan((frame.height, frame.width))
    assert batch.shape == (1, 3, *geometry.input_hw)
    assert batch.dtype == torch.float32
    assert batch.device.type == preprocess.device.type
    layout = torch.channels_last if preprocess.channels_last else torch.contiguous_format
    assert batch.is_contiguous(memory_format=layout)
    interpolation = preprocess.interpolation
    if interpolation == 'area' and max(geometry.scale_yx) > 1:
        interpolation = 'bilinear'
    expected = slow_input(frame, geometry, preprocess.channel_order == 'bgr', interpolation)
    grey_levels = np.abs(batch[0].cpu().numpy() - expected) * np.array(STD)[:, None, None]
    assert grey_levels.max() <= tolerance


SIZES_AND_MODES = [
    pytest.mark.parametrize('size_hw', [(5, 7), (14, 11), (8, 10), (1, 1), (7, 12)]),
    pytest.mark.parametrize('mode', MODES),
    pytest.mark.parametrize('channel_order', ['rgb', 'bgr']),
    pytest.mark.parametrize('channels_last', [False, True]),
    pytest.mark.parametrize('interpolation', INTERPOLATIONS),
]


def for_all_sizes_and_modes(test):
    for mark in SIZES_AND_MODES:
        test = mark(test)
    return test


@for_all_sizes_and_modes
@pytest.mark.parametrize('on_device', [False, True])
def test_batches_equal_the_slow_twin(
    size_hw, mode, channel_order, channels_last, interpolation, on_device
):
    preprocess = Preprocessor(
        size_hw, mode, MEAN, STD, channel_order,
        channels_last=channels_last, interpolation=interpolation,
    )  # fmt: skip
    preprocess._resizes_on_device = on_device
    # On the device nothing is rounded; on the CPU each axis is, to whole grey levels.
    tolerance = 2.0 if interpolation.startswith('antialias') else 1.0
    check_against_slow_twin(preprocess, 1e-2 if on_device else tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_cuda_batches_equal_the_slow_twin():
    for size_hw, mode, order, channels_last, interpolation in itertools.product(
        [(5, 7), (14, 11), (8, 10), (1, 1)], MODES, ['rgb', 'bgr'], [False, True],
        INTERPOLATIONS,
    ):  # fmt: skip
        preprocess = Preprocessor(
            size_hw, mode, MEAN, STD, order,
            device='cuda', channels_last=channels_last, interpolation=interpolation,
        )  # fmt: skip
        for _ in range(3):  # through every staging buffer and back to the first
            check_against_slow_twin(preprocess, 1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_cuda_reads_every_encoding(encoding):
    for height, width in ((24, 30), (6, 8)):
        frame = random_frame(encoding, height, width, padding=3)
        for order, interpolation in (('rgb', 'area'), ('bgr', 'bilinear')):
            preprocess = Preprocessor(
                (11, 17), 'letterbox', MEAN, STD, order,
                device='cuda', interpolation=interpolation,
            )  # fmt: skip
            check_against_slow_twin(preprocess, 1e-2, frame)


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@pytest.mark.parametrize('on_device', [False, True])
def test_every_encoding_in_both_orders(encoding, on_device):
    frame = random_frame(encoding, 24, 30, padding=3)
    for order in ('rgb', 'bgr'):
        preprocess = Preprocessor((11, 17), 'letterbox', MEAN, STD, order)
        preprocess._resizes_on_device = on_device
        [(batch, _, [geometry])] = preprocess([frame])
        expected = slow_input(frame, geometry, order == 'bgr')
        grey_levels = np.abs(batch[0].numpy() - expected) * np.array(STD)[:, None, None]
        assert grey_levels.max() <= 1.0, order


@settings(max_examples=60)
@given(
    source_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(MODES),
    channels_last=st.booleans(),
    interpolation=st.sampled_from(INTERPOLATIONS),
    encoding=st.sampled_from(['rgb8', 'mono8', 'rgb16']),
)
def test_both_ways_agree_to_one_grey_level(
    source_hw, size_hw, mode, channels_last, interpolation, encoding
):
    frame = random_frame(encoding, *source_hw)
    preprocess = Preprocessor(
        size_hw, mode, channels_last=channels_last, interpolation=interpolation
    )
    [(by_opencv, _, _)] = preprocess([frame])
    preprocess._resizes_on_device = True
    [(by_torch, _, _)] = preprocess([frame])
    assert by_opencv.data_ptr() != by_torch.data_ptr()
    assert (by_opencv - by_torch).abs().max() <= (2.0 if 'antialias' in interpolation else 1.0)


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('canvas_hw', [(5, 6), (14, 9), (11, 17)])
@pytest.mark.parametrize('placement', ['center', 'corner'])
def test_canvases_equal_the_slow_twin(on_device, canvas_hw, placement):
    black = tuple(-m / s for m, s in zip(MEAN, STD, strict=True))
    for mode, pad in (('stretch', None), ('shortest_edge', (0, 0, 0))):
        preprocess = Preprocessor(
            (8, 13), mode, MEAN, STD, 'rgb', interpolation='antialias_bilinear',
            canvas_hw=canvas_hw, placement=placement, pad_C=pad,
        )  # fmt: skip
        preprocess._resizes_on_device = on_device
        frame = random_frame('bgr8', 9, 12)
        [(batch, _, [geometry])] = preprocess([frame])
        assert batch.shape == (1, 3, *canvas_hw)
        expected = slow_input(frame, geometry, False, 'antialias_bilinear').copy()
        is_padding = np.ones(canvas_hw, bool)
        is_padding[geometry.content_slices] = False
        if pad is not None:
            expected[:, is_padding] = np.array(black)[:, None]
        grey_levels = np.abs(batch[0].numpy() - expected) * np.array(STD)[:, None, None]
        assert grey_levels.max() <= (1e-2 if on_device else 2.0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('mode', MODES)
def test_half_precision_is_the_rounded_single(dtype, on_device, channels_last, mode):
    frame = random_frame()
    options = {'mean_C': MEAN, 'std_C': STD, 'channels_last': channels_last}
    batches = []
    for kind in (torch.float32, dtype):
        preprocess = Preprocessor((13, 14), mode, dtype=kind, **options)
        preprocess._resizes_on_device = on_device
        [(batch, _, _)] = preprocess([frame])
        batches.append(batch)
    assert batches[1].dtype == dtype
    assert torch.equal(batches[0].to(dtype), batches[1])


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'mono16'])
@pytest.mark.parametrize('on_device', [False, True])
def test_an_image_of_the_right_size_keeps_its_pixels(encoding, on_device):
    frame = random_frame(encoding, 6, 7, padding=2)
    for channels_last in (False, True):
        preprocess = Preprocessor((6, 7), channels_last=channels_last)
        preprocess._resizes_on_device = on_device
        [(batch, _, _)] = preprocess([frame])
        np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), to_rgb(frame))


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('channels_last', [False, True])
def test_padding_is_the_mean_also_in_a_used_buffer(on_device, channels_last):
    preprocess = Preprocessor((8, 8), 'letterbox', MEAN, STD, channels_last=channels_last)
    preprocess._resizes_on_device = on_device
    for _ in range(2):  # both buffers are full of something else
        preprocess([flat_frame((200, 200, 200))])
    [(batch, _, [geometry])] = preprocess([flat_frame((200, 200, 200), 8, 2)])
    rows, columns = geometry.content_slices
    assert (rows, columns) == (slice(0, 8), slice(3, 5))
    assert (batch[..., :3] == 0).all()
    assert (batch[..., 5:] == 0).all()
    assert (batch[..., columns] > 0).all()


@pytest.mark.parametrize('on_device', [False, True])
def test_padding_can_be_a_colour(on_device):
    preprocess = Preprocessor((8, 8), 'letterbox', MEAN, STD, pad_C=(114, 0, 255))
    preprocess._resizes_on_device = on_device
    [(batch, _, [geometry])] = preprocess([flat_frame((114, 0, 255), 8, 2)])
    assert geometry.is_padded
    expected = (torch.tensor((114.0, 0.0, 255.0)) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(batch, expected[None, :, None, None].expand(1, 3, 8, 8))


def test_frames_are_grouped_by_input_size():
    preprocess = Preprocessor((16, 16), 'fit')
    frames = [
        flat_frame((1, 1, 1), 8, 8), flat_frame((2, 2, 2), 8, 4), flat_frame((3, 3, 3), 32, 32),
        flat_frame((4, 4, 4), 4, 8), flat_frame((5, 5, 5), 16, 8),
    ]  # fmt: skip
    groups = preprocess(frames)
    assert [indices for _, indices, _ in groups] == [[0, 2], [1, 4], [3]]
    for batch, indices, geometries in groups:
        assert len(batch) == len(indices) == len(geometries)
        for image, index, geometry in zip(batch, indices, geometries, strict=True):
            assert (image == index + 1).all()
            assert geometry.source_hw == (frames[index].height, frames[index].width)


def test_no_frames_no_batches():
    assert Preprocessor((4, 4))([]) == []


def test_a_batch_stays_until_the_second_call_after_it():
    preprocess = Preprocessor((4, 4))
    [(first, _, _)] = preprocess([flat_frame((1, 1, 1))])
    [(second, _, _)] = preprocess([flat_frame((2, 2, 2))])
    assert (first == 1).all()
    assert (second == 2).all()
    [(third, _, _)] = preprocess([flat_frame((3, 3, 3))])
    assert third.data_ptr() == first.data_ptr()  # reused, not allocated
    assert (second == 2).all()
    assert (third == 3).all()


def test_a_batch_survives_a_larger_one():
    preprocess = Preprocessor((4, 4))
    [(first, _, _)] = preprocess([flat_frame((1, 1, 1))])
    [(second, _, _)] = preprocess([flat_frame((2, 2, 2))] * 3)
    assert second.shape == (3, 3, 4, 4)
    assert (first == 1).all()


@pytest.mark.parametrize('on_device', [False, True])
def test_inference_mode_may_come_and_go(on_device):
    preprocess = Preprocessor((8, 8), 'letterbox')
    preprocess._resizes_on_device = on_device
    with torch.inference_mode():
        preprocess([flat_frame((1, 1, 1), 8, 4)])
        preprocess([flat_frame((1, 1, 1), 8, 4)])
    [(batch, _, _)] = preprocess([flat_frame((2, 2, 2), 8, 4)])
    assert batch.sum() == 2 * 3 * 32


def test_buffers_are_bounded():
    preprocess = Preprocessor((64, 64), 'fit')
    for height in range(1, 40):
        preprocess([flat_frame((1, 1, 1), height, 40)])
    assert len(preprocess._buffers) <= 8
    frames = [flat_frame((height,) * 3, height, 40) for height in range(1, 40)]
    for batch, indices, _ in preprocess(frames):  # more sizes in one call than are kept
        assert (batch[:, 0, 0, 0] == torch.tensor(indices) + 1).all()


def test_bad_frames_raise_and_the_next_call_works():
    preprocess = Preprocessor((4, 4), max_pixels=64)
    good = flat_frame((9, 9, 9))
    with pytest.raises(ImageLayoutError, match='step 3 < 8 px'):
        preprocess([good, dataclasses.replace(good, step=3)])
    with pytest.raises(ImageLayoutError, match='at least 1x1 px, got 8x0 px'):
        preprocess([dataclasses.replace(good, height=0)])
    with pytest.raises(ImageTooLargeError, match='bound of 64 px'):
        preprocess([flat_frame((1, 1, 1), 9, 8)])
    [(batch, _, _)] = preprocess([good])
    assert (batch == 9).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'mode': 'crop'}, "got 'crop'"),
        ({'mean_C': (0.0,)}, 'for each of 3 channels'),
        ({'pad_C': (114.0,)}, 'pad of 3 channels'),
        ({'std_C': (1.0, 0.0, 1.0)}, 'non-zero std'),
        ({'channel_order': 'hsv'}, "channel_order 'rgb' or 'bgr', got 'hsv'"),
        ({'dtype': torch.float64}, 'got torch.float64'),
        ({'interpolation': 'cubic'}, "antialias_bicubic, got 'cubic'"),
        ({'multiple_of': 3}, 'multiples of 3'),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigurationError, match=message):
        Preprocessor((8, 8), **options)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(
    'quantisation',
    [
        Quantisation('int8', 0.0173, -11),
        Quantisation('uint8', 1 / 57.5, 117),
        Quantisation('uint8', 0.0, 3),
    ],
)
def test_quantised_batches_are_the_stored_single_ones(quantisation, mode, channels_last):
    arguments = ((21, 21), mode, MEAN, STD, 'rgb', 1, 'cpu', torch.float32, channels_last)
    stored = Preprocessor(*arguments, quantisation=quantisation, pad_C=(9.0, 200.0, 80.0))
    single = Preprocessor(*arguments, pad_C=(9.0, 200.0, 80.0))
    for frame in (random_frame(), random_frame('mono8', 40, 21)):
        [(expected_B3HW, _, _)] = single([frame])
        [(batch_B3HW, _, _)] = stored([frame])
        assert batch_B3HW.dtype == getattr(torch, quantisation.dtype)
        expected = quantisation.stored(expected_B3HW.numpy())
        # a value that is half-way between two integers may round either way
        difference = batch_B3HW.numpy().astype(int) - expected
        assert np.abs(difference).max() <= 1
        assert np.count_nonzero(difference) <= 0.001 * difference.size


def test_pixels_that_are_the_integers_are_only_copied():
    quantisation = Quantisation('uint8', 1 / 127.5, 127)
    frame = random_frame('rgb8', 12, 18)
    preprocess = Preprocessor(
        (12, 18), 'stretch', (127.0,) * 3, (127.5,) * 3, quantisation=quantisation
    )
    [(batch_B3HW, _, _)] = preprocess([frame])
    assert np.array_equal(batch_B3HW[0].permute(1, 2, 0).numpy(), to_rgb(frame))
    with pytest.raises(ConfigurationError, match='device cpu'):
        Preprocessor((12, 18), device='cuda', quantisation=quantisation)
