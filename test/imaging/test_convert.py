"""Raw encodings: every one against its slow twin, views, and an error for each way to be wrong."""

from __future__ import annotations

import array
import contextlib
import dataclasses

import cv2
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import (
    EncodingError,
    ImageLayoutError,
    ImageTooLargeError,
    InputError,
)
from seg_perception.imaging import (
    ENCODINGS,
    Layout,
    check_frame,
    is_supported,
    to_bgr,
    to_rgb,
    to_uint8,
    view_chroma,
    view_frame,
)
from seg_perception.structures import Frame

# The names of sensor_msgs/image_encodings.hpp that hold unsigned colour or grey, and nv12.
EXPECTED_ENCODINGS = {
    *(f'{order}{bits}' for order in ('rgb', 'bgr', 'rgba', 'bgra', 'mono') for bits in (8, 16)),
    *(
        f'bayer_{pattern}{bits}'
        for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')
        for bits in (8, 16)
    ),
    *('8UC1', '8UC3', '8UC4', '16UC1', '16UC3', '16UC4'),
    *('uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2', 'nv12', 'nv21', 'nv24'),
}
IS_YUV = {Layout.YUV422, Layout.SEMI_PLANAR}


@st.composite
def frames(draw, encoding=None):
    """Frames of random bytes with a valid size, padded rows and either byte order."""
    name = draw(st.sampled_from(sorted(ENCODINGS))) if encoding is None else encoding
    line = ENCODINGS[name]
    multiple_y, multiple_x = line.multiple_hw
    smallest = max(line.min_side, 1)
    height = draw(st.integers(smallest, 7)) * multiple_y
    width = draw(st.integers(smallest, 7)) * multiple_x
    step = width * line.bytes_per_pixel + draw(st.integers(0, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    data = np.random.default_rng(seed).bytes(line.num_bytes(height, step))
    return Frame(data, height, width, name, step, draw(st.booleans()))


def random_frame(encoding, height=6, width=8, padding=0, is_bigendian=False, seed=0):
    step = width * ENCODINGS[encoding].bytes_per_pixel + padding
    data = np.random.default_rng(seed).bytes(ENCODINGS[encoding].num_bytes(height, step))
    return Frame(data, height, width, encoding, step, is_bigendian)


def slow_rgb(frame):
    return reference.image_to_rgb(
        bytes(frame.data), frame.height, frame.width, frame.encoding, frame.step,
        frame.is_bigendian,
    )  # fmt: skip


def test_table_has_every_encoding_a_driver_publishes():
    assert set(ENCODINGS) == EXPECTED_ENCODINGS
    assert all(name == line.name and is_supported(name) for name, line in ENCODINGS.items())
    assert not is_supported('32FC1')


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@settings(max_examples=12)
@given(data=st.data())
def test_every_encoding_equals_its_slow_twin(encoding, data):
    frame = data.draw(frames(encoding))
    rgb = to_rgb(frame)
    assert rgb.dtype == np.uint8
    assert rgb.shape == (frame.height, frame.width, 3)
    # OpenCV computes YUV in integers with coefficients of three digits.
    tolerance = 1 if ENCODINGS[encoding].layout in IS_YUV else 0
    np.testing.assert_allclose(rgb.astype(int), slow_rgb(frame).astype(int), atol=tolerance)
    np.testing.assert_array_equal(to_bgr(frame), rgb[..., ::-1])


@settings(max_examples=100)
@given(frame=frames())
def test_8_bit_pixels_are_the_same_picture_in_any_order(frame):
    rgb = to_rgb(frame)
    for prefer in (Layout.RGB, Layout.BGR):
        pixels, layout = to_uint8(frame, prefer=prefer)
        if ENCODINGS[frame.encoding].layout.is_packed:
            assert layout is ENCODINGS[frame.encoding].layout
        else:
            assert layout is prefer
        order = {'mono': (0, 0, 0), 'rgb': (0, 1, 2), 'bgr': (2, 1, 0)}[layout.value.rstrip('a')]
        channels = pixels[..., None] if pixels.ndim == 2 else pixels
        np.testing.assert_array_equal(channels[..., order], rgb)


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_scratch_is_used_where_pixels_change_and_it_is_long_enough(encoding):
    frame = random_frame(encoding)
    expected, _ = to_uint8(frame)
    scratch = np.zeros(6 * 8 * 4, np.uint8)
    for memory in (scratch, scratch[:10]):
        pixels, _ = to_uint8(frame, scratch=memory)
        np.testing.assert_array_equal(pixels, expected)
        line = ENCODINGS[encoding]
        changes = line.bits == 16 or not line.layout.is_packed
        assert np.shares_memory(pixels, scratch) == (changes and memory is scratch)


PACKED = sorted(name for name, line in ENCODINGS.items() if line.layout.is_packed)


@pytest.mark.parametrize('encoding', PACKED)
@settings(max_examples=15)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    padding=st.integers(0, 7),
    is_bigendian=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_samples_round_trip_through_a_message(
    encoding, height, width, padding, is_bigendian, seed
):
    line = ENCODINGS[encoding]
    shape = (height, width) if line.channels == 1 else (height, width, line.channels)
    samples = np.random.default_rng(seed).integers(0, 2**line.bits, shape, line.dtype)
    step = width * line.bytes_per_pixel + padding
    data = reference.rows_to_bytes(samples, step, is_bigendian)
    view = view_frame(Frame(data, height, width, encoding, step, is_bigendian))
    np.testing.assert_array_equal(view, samples)
    assert np.shares_memory(view, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', 'bgra8', 'bayer_rggb16', 'nv12', 'uyvy'])
@pytest.mark.parametrize('make', [bytes, bytearray, memoryview, lambda b: array.array('B', b)])
def test_views_share_the_bytes_of_any_buffer(encoding, make):
    frame = random_frame(encoding, padding=4)
    frame = dataclasses.replace(frame, data=make(frame.data))
    assert np.shares_memory(view_frame(frame), np.frombuffer(frame.data, np.uint8))


def test_rgb8_with_padded_rows_is_a_view_and_others_are_new():
    rgb = random_frame('rgb8', padding=5)
    assert np.shares_memory(to_rgb(rgb), np.frombuffer(rgb.data, np.uint8))
    for encoding in set(ENCODINGS) - {'rgb8'}:
        frame = random_frame(encoding)
        pixels = to_rgb(frame)
        assert pixels.flags.c_contiguous, encoding
        assert pixels.flags.writeable, encoding
        assert not np.shares_memory(pixels, np.frombuffer(frame.data, np.uint8)), encoding


@pytest.mark.parametrize(
    ('encoding', 'shape'), [('nv12', (3, 4, 2)), ('nv21', (3, 4, 2)), ('nv24', (6, 8, 2))]
)
def test_chroma_is_a_view_of_the_second_plane(encoding, shape):
    frame = random_frame(encoding, padding=3)
    chroma = view_chroma(frame)
    assert chroma.shape == shape
    data = np.frombuffer(frame.data, np.uint8)
    assert np.shares_memory(chroma, data)
    stride = frame.step * (2 if encoding == 'nv24' else 1)
    assert chroma[1, 0, 1] == data[frame.height * frame.step + stride + 1]


def test_chroma_of_other_encodings_is_refused():
    with pytest.raises(EncodingError, match='uyvy has no separate chroma plane'):
        view_chroma(random_frame('uyvy'))


@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_names_are_ros_names(bits):
    """A pure red scene through each pattern: only the red cells see light."""
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        mosaic = np.zeros((6, 8), np.uint8 if bits == 8 else np.uint16)
        row, column = divmod(pattern.index('r'), 2)
        mosaic[row::2, column::2] = np.iinfo(mosaic.dtype).max
        rgb = to_rgb(Frame.from_array(mosaic, f'bayer_{pattern}{bits}'))
        assert (rgb == (255, 0, 0)).all(), pattern


@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'rgb16'])
def test_16_bit_scale_over_all_values(encoding):
    values = np.arange(65536, dtype=np.uint16)
    samples = values if ENCODINGS[encoding].channels == 1 else np.repeat(values, 3)
    shape = (256, 256) if ENCODINGS[encoding].channels == 1 else (256, 256, 3)
    rgb = to_rgb(Frame.from_array(samples.reshape(shape), encoding))
    np.testing.assert_array_equal(rgb[..., 1].ravel(), (values.astype(int) + 128) // 257)


def test_alpha_is_dropped_not_blended():
    frame = Frame(bytes([10, 20, 30, 0]), 1, 1, 'rgba8', 4)
    assert to_rgb(frame).tolist() == [[[10, 20, 30]]]


BAD_FRAMES = {
    'unknown encoding': (
        {'encoding': 'rgb9'},
        EncodingError,
        r"encoding 'rgb9' is not one of: rgb8, bgr8, .*nv24",
    ),
    'depth': ({'encoding': '32FC1'}, EncodingError, 'not one of'),
    'no rows': ({'height': 0, 'data': b''}, ImageLayoutError, 'at least 1x1 px, got 8x0 px'),
    'no columns': ({'width': 0}, ImageLayoutError, 'at least 1x1 px, got 0x6 px'),
    'negative': ({'height': -1}, ImageLayoutError, 'at least 1x1 px, got 8x-1 px'),
    'bomb': (
        {'height': 100_000, 'width': 100_000, 'step': 300_000},
        ImageTooLargeError,
        r'claims 100000x100000 px .* more than the bound of 67108864 px',
    ),
    'step too small': (
        {'step': 23},
        ImageLayoutError,
        r'step 23 < 8 px \* 3 B \(rgb8\)',
    ),
    'step 0': ({'step': 0}, ImageLayoutError, 'step 0 < 8 px'),
    'too short': (
        {'data': bytes(143)},
        ImageLayoutError,
        r'expected 144 B of data for 6 rows of step 24 \(rgb8\), got 143 B',
    ),
    'too long': ({'data': bytes(145)}, ImageLayoutError, 'expected 144 B .* got 145 B'),
    'no data': ({'data': b''}, ImageLayoutError, 'expected 144 B .* got 0 B'),
    'not bytes': (
        {'data': [1, 2, 3]},
        ImageLayoutError,
        'one contiguous buffer of bytes, got list',
    ),
    'not contiguous': (
        {'data': np.zeros((6, 48), np.uint8)[:, ::2]},
        ImageLayoutError,
        'one contiguous buffer of bytes, got ndarray',
    ),
    'odd width': (
        {'encoding': 'uyvy', 'width': 7},
        ImageLayoutError,
        'uyvy shares chroma .* divisible by 2 .* got 7x6 px',
    ),
    'odd height': (
        {'encoding': 'nv12', 'height': 5},
        ImageLayoutError,
        'nv12 shares chroma .* height divisible by 2, got 8x5 px',
    ),
    'no chroma plane': (
        {'encoding': 'nv21', 'step': 8, 'data': bytes(48)},
        ImageLayoutError,
        r'expected 72 B of data for 6 rows of step 8 with its chroma plane \(nv21\), got 48 B',
    ),
    'tiny bayer': (
        {'encoding': 'bayer_rggb8', 'height': 2},
        ImageLayoutError,
        'at least 3x3 px to be demosaiced, got 8x2 px',
    ),
}


@pytest.mark.parametrize('kind', BAD_FRAMES)
@pytest.mark.parametrize('use', [check_frame, view_frame, to_rgb, to_bgr, to_uint8])
def test_each_bad_frame_has_its_own_error(kind, use):
    changes, error, message = BAD_FRAMES[kind]
    good = random_frame('rgb8')
    use(good)
    with pytest.raises(error, match=message):
        use(dataclasses.replace(good, **changes))


def test_the_bound_is_the_callers():
    check_frame(random_frame('rgb8'), max_pixels=48)
    with pytest.raises(ImageTooLargeError, match='bound of 47 px'):
        check_frame(random_frame('rgb8'), max_pixels=47)


def test_a_large_frame_may_pass_a_larger_bound():
    # The chroma of a semi-planar frame is viewed under the same bound.
    to_rgb(random_frame('nv12'), max_pixels=48)


@settings(max_examples=200)
@given(
    data=st.binary(max_size=64),
    height=st.integers(-1, 8),
    width=st.integers(-1, 8),
    encoding=st.sampled_from([*sorted(ENCODINGS), 'nope', '']),
    step=st.integers(-1, 20),
    is_bigendian=st.booleans(),
)
def test_whatever_the_fields_say_the_error_is_ours(
    data, height, width, encoding, step, is_bigendian
):
    frame = Frame(data, height, width, encoding, step, is_bigendian)
    with contextlib.suppress(InputError):  # anything else fails the test
        assert to_rgb(frame).shape == (height, width, 3)


def test_errors_of_opencv_do_not_leak(monkeypatch):
    def refuse(*_):
        raise cv2.error('no')

    monkeypatch.setattr(cv2, 'cvtColor', refuse)
    with pytest.raises(ImageLayoutError, match='OpenCV cannot convert 8x6 px of bgr8'):
        to_rgb(random_frame('bgr8'))
