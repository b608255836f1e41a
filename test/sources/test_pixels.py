"""What is written in an encoding reads back as what was written."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.convert import check_frame, to_rgb
from seg_perception.imaging.encodings import ENCODINGS
from seg_perception.sources.pixels import ENCODERS, encode_rgb
from seg_perception.sources.shaping import check_shape, shape_frame
from seg_perception.structures import Frame

Y, X = np.mgrid[:16, :24]
SMOOTH = np.stack([X * 10, Y * 15, 255 - X * 10], axis=-1).astype(np.uint8)
"""Smooth, so that what shares or interpolates colour between pixels stays near it."""

EXACT = {'rgb8', 'bgr8', 'rgba8', 'bgra8'}


@pytest.mark.parametrize('encoding', ENCODERS)
def test_round_trip_through_imaging(encoding):
    frame = encode_rgb(SMOOTH, encoding)
    check_frame(frame)
    assert (frame.height, frame.width, frame.encoding) == (16, 24, encoding)
    read = to_rgb(frame).astype(int)
    expected = SMOOTH.astype(int)
    if encoding.startswith('mono'):
        gray = (SMOOTH @ np.array([0.299, 0.587, 0.114])).round()
        expected = np.repeat(gray[..., None], 3, axis=2)
    difference = np.abs(read - expected)[2:-2, 2:-2]
    assert difference.max() <= (0 if encoding in EXACT else 1 if 'mono' in encoding else 14)


def test_every_encoding_written_can_be_read():
    assert set(ENCODERS) <= set(ENCODINGS)


def test_known_bytes():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    # BT.601, limited range: Y = 16 + 65.48, U = 128 - 37.80, V = 128 + 112 for pure red.
    assert bytes(encode_rgb(red, 'yuv422').data) == bytes([90, 81, 240, 81] * 2)
    assert bytes(encode_rgb(red, 'yuv422_yuy2').data) == bytes([81, 90, 81, 240] * 2)
    assert bytes(encode_rgb(red, 'nv12').data) == bytes([81] * 4 + [90, 240])
    assert bytes(encode_rgb(red, 'nv21').data) == bytes([81] * 4 + [240, 90])
    assert bytes(encode_rgb(red, 'bgr8').data) == bytes([0, 0, 255] * 4)
    assert bytes(encode_rgb(red, 'bayer_rggb8').data) == bytes([255, 0, 0, 0])
    assert bytes(encode_rgb(red, 'bayer_gbrg8').data) == bytes([0, 0, 255, 0])


@pytest.mark.parametrize(
    ('encoding', 'size_hw'), [('yuv422', (4, 3)), ('nv12', (3, 4)), ('nv21', (4, 5))]
)
def test_shared_colour_needs_even_sizes(encoding, size_hw):
    with pytest.raises(ConfigurationError, match='expected an even size'):
        encode_rgb(np.zeros((*size_hw, 3), np.uint8), encoding)


def test_unknown_encoding_lists_the_known():
    with pytest.raises(ConfigurationError, match='rgb8, bgr8'):
        encode_rgb(SMOOTH, 'rgb9')


def test_shaping_leaves_alone_what_fits():
    frame = Frame.from_array(SMOOTH, 'rgb8', stamp_ns=5, frame_id='left')
    assert shape_frame(frame) is frame
    assert shape_frame(frame, (24, 16), 'rgb8') is frame


def test_shaping_resizes_and_keeps_stamp_and_frame():
    frame = Frame.from_array(SMOOTH, 'rgb8', stamp_ns=5, frame_id='left')
    small = shape_frame(frame, (12, 8), 'bgr8')
    assert (small.width, small.height, small.encoding) == (12, 8, 'bgr8')
    assert (small.stamp_ns, small.frame_id) == (5, 'left')
    means = SMOOTH.reshape(8, 2, 12, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(to_rgb(small) - means).max() <= 1


def test_shaping_cannot_rewrite_what_it_cannot_write():
    frame = Frame.from_array(np.zeros((4, 4), np.uint16), 'bayer_rggb16')
    with pytest.raises(ConfigurationError, match='bayer_rggb16 cannot be resized'):
        shape_frame(frame, (2, 2))
    assert shape_frame(frame, (2, 2), 'mono8').encoding == 'mono8'


@pytest.mark.parametrize('size_wh', [(640, 0), (0, 480), (-1, 5)])
def test_half_a_size_is_refused(size_wh):
    with pytest.raises(ConfigurationError, match='both 0 or both positive'):
        check_shape(size_wh, 'keep')
