"""Depth images to metres, and the check that they belong to the colour image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rgbd_scene
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seg_perception.errors import EncodingError, GeometryError, ImageLayoutError
from seg_perception.geometry import check_registered, depth_samples, depth_to_m
from seg_perception.structures import Frame

NAN = float('nan')


def padded_frame(samples: np.ndarray, encoding: str, padding: int, is_bigendian: bool) -> Frame:
    """A frame whose rows end in bytes of 0xff that are no pixels."""
    rows = samples.astype(samples.dtype.newbyteorder('>' if is_bigendian else '<'))
    data = b''.join(row.tobytes() + b'\xff' * padding for row in rows)
    height, width = samples.shape
    step = width * samples.itemsize + padding
    return Frame(data, height, width, encoding, step, is_bigendian)


@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
def test_millimetres(encoding):
    frame = Frame(bytes([0, 0, 1, 0, 0xE8, 0x03, 0xFF, 0xFF]), 2, 2, encoding, 4)
    np.testing.assert_allclose(depth_to_m(frame), [[NAN, 0.001], [1.0, 65.535]], rtol=1e-6)


def test_metres():
    samples = np.array([[NAN, np.inf, -np.inf], [0.0, -1.0, 2.5]], np.float32)
    depth_m = depth_to_m(Frame.from_array(samples, '32FC1'))
    np.testing.assert_array_equal(depth_m, np.float32([[NAN, NAN, NAN], [NAN, NAN, 2.5]]))
    assert depth_m.dtype == np.float32


def test_nan_of_the_signalling_kind_is_no_trouble():
    bits = np.array([[0x7F800001, 0x3F800000]], np.uint32)
    np.testing.assert_array_equal(
        depth_to_m(Frame.from_array(bits.view(np.float32), '32FC1')), [[NAN, 1.0]]
    )


@given(
    st.sampled_from([('16UC1', np.uint16), ('32FC1', np.float32)]),
    st.integers(0, 5),
    st.booleans(),
    st.data(),
)
def test_padding_and_byte_order_do_not_matter(encoding, padding, is_bigendian, data):
    name, dtype = encoding
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=4))
    samples = data.draw(hnp.arrays(dtype, shape))
    depth_m = depth_to_m(padded_frame(samples, name, padding, is_bigendian))
    for actual, sample in zip(depth_m.flat, samples.flat, strict=True):
        meters = float(sample) / 1000 if name == '16UC1' else float(sample)
        if 0 < meters < np.inf:
            assert actual == pytest.approx(meters, rel=1e-6)
        else:
            assert np.isnan(actual)


def test_samples_are_the_frames_own_and_stay_as_they_are():
    samples = np.array([[0, 1], [2, 3]], '>u2')
    frame = Frame.from_array(samples, '16UC1')
    assert depth_to_m(frame)[1, 1] == pytest.approx(0.003)
    np.testing.assert_array_equal(samples, [[0, 1], [2, 3]])
    view = depth_samples(frame)
    np.testing.assert_array_equal(view, samples)
    assert np.shares_memory(view, samples)


def test_refuses_what_is_no_depth():
    with pytest.raises(EncodingError, match='one of 16UC1, mono16, 32FC1 '):
        depth_to_m(Frame(bytes(12), 2, 2, 'rgb8', 6))


@pytest.mark.parametrize(
    ('height', 'width', 'step', 'num_bytes'),
    [(2, 2, 4, 7), (2, 2, 4, 9), (2, 2, 3, 6), (0, 2, 4, 0), (2, 0, 4, 8)],
)
def test_refuses_sizes_that_contradict_each_other(height, width, step, num_bytes):
    with pytest.raises(ImageLayoutError, match=rf'{height} rows of {width} px \* 2 B'):
        depth_to_m(Frame(bytes(num_bytes), height, width, '16UC1', step))


# --- registered to the colour image --------------------------------------------------------------

COLOR = rgbd_scene.camera((640, 480), center_offset_px=(10.0, -20.0))


@pytest.mark.parametrize('size_wh', [(640, 480), (320, 240), (1280, 960), (212, 159), (1, 1)])
@pytest.mark.parametrize('is_rectified', [False, True])
def test_any_resolution_of_the_same_view_is_registered(size_wh, is_rectified):
    depth_hw = size_wh[::-1]
    check_registered(COLOR, COLOR.resized(size_wh), depth_hw, is_rectified=is_rectified)
    check_registered(COLOR, None, depth_hw, is_rectified=is_rectified)


def test_drivers_that_scale_without_the_half_pixel_are_registered():
    k = np.array(COLOR.k) / 2
    k[8] = 1.0
    check_registered(COLOR, dataclasses.replace(COLOR.resized((320, 240)), k=tuple(k)), (240, 320))


@pytest.mark.parametrize('height', [360, 479])
def test_another_aspect_is_not(height):
    with pytest.raises(GeometryError, match=f'of the aspect of 640x480, got 640x{height}: take'):
        check_registered(COLOR, None, (height, 640))


def test_another_size_than_its_calibration_says_is_not():
    with pytest.raises(GeometryError, match='expected depth of 640x480 as its camera_info says'):
        check_registered(COLOR, COLOR, (240, 320))


@pytest.mark.parametrize('is_rectified', [False, True])
def test_another_focal_length_is_not(is_rectified):
    # 4 % wider: the corner farthest from the principal point, 329.5 px away, moves by 13.2 px.
    k, p = list(COLOR.k), list(COLOR.p)
    k[0] *= 0.96
    p[0] *= 0.96
    wider = dataclasses.replace(COLOR, **({'p': tuple(p)} if is_rectified else {'k': tuple(k)}))
    with pytest.raises(GeometryError, match=r'13\.\d px apart at a corner'):
        check_registered(COLOR, wider, (480, 640), is_rectified=is_rectified)
    check_registered(COLOR, wider, (480, 640), is_rectified=not is_rectified)
    check_registered(COLOR, wider, (480, 640), is_rectified=is_rectified, tolerance_px=14)


def test_a_camera_without_calibration_is_not():
    zeros = dataclasses.replace(COLOR, k=(0.0,) * 9)
    for color, depth in ((zeros, COLOR), (COLOR, zeros)):
        with pytest.raises(GeometryError, match='expected a calibrated camera, got K'):
            check_registered(color, depth, (480, 640))
