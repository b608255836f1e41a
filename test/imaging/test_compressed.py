"""JPEG and PNG: what is decoded, what is refused, and that bombs are refused before decoding."""

from __future__ import annotations

import contextlib
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import (
    CompressedImageError,
    ConfigurationError,
    EncodingError,
    ImageTooLargeError,
    InputError,
)
from seg_perception.imaging import ENCODINGS, check_compressed, decode, encode, to_bgr, to_rgb
from seg_perception.structures import CompressedFrame, Frame

HEIGHT, WIDTH = 24, 32


def smooth_bgr(height=HEIGHT, width=WIDTH):
    """A picture JPEG keeps well: a gradient of another direction per channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5, y * 8, 255 - (x + y) * 4], axis=-1).clip(0, 255).astype(np.uint8)


def imencode(extension, image, *parameters):
    return cv2.imencode(extension, image, list(parameters))[1].tobytes()


def chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


def png_with_size(width, height, rest=b''):
    return b'\x89PNG\r\n\x1a\n' + chunk(
        b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    ) + rest  # fmt: skip


def jpeg_with_size(width, height):
    """A real JPEG whose frame header claims another size."""
    position = JPEG.index(b'\xff\xc0') + 5
    return JPEG[:position] + struct.pack('>HH', height, width) + JPEG[position + 4 :]


def with_exif_orientation(jpeg, orientation):
    tiff = b'MM\x00*\x00\x00\x00\x08\x00\x01' + struct.pack('>HHIHH', 0x112, 3, 1, orientation, 0)
    exif = b'Exif\x00\x00' + tiff + bytes(4)
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]


JPEG = imencode('.jpg', smooth_bgr(), cv2.IMWRITE_JPEG_QUALITY, 95)
PNG = imencode('.png', smooth_bgr())
KINDS = {
    'baseline': JPEG,
    'progressive': imencode('.jpg', smooth_bgr(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'restart markers': imencode('.jpg', smooth_bgr(), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    'optimised': imencode('.jpg', smooth_bgr(), cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    'grey jpeg': imencode('.jpg', smooth_bgr()[..., 0]),
    'png': PNG,
    'grey png': imencode('.png', smooth_bgr()[..., 0]),
}


@pytest.mark.parametrize('kind', KINDS)
def test_size_and_pixels(kind):
    compressed = CompressedFrame(KINDS[kind], '', stamp_ns=7, frame_id='optical', camera='front')
    assert check_compressed(compressed) == (HEIGHT, WIDTH)
    frame = decode(compressed)
    assert (frame.height, frame.width) == (HEIGHT, WIDTH)
    assert (frame.stamp_ns, frame.frame_id, frame.camera) == (7, 'optical', 'front')
    assert frame.encoding == ('mono8' if 'grey' in kind else 'bgr8')
    expected = smooth_bgr()
    if 'grey' in kind:
        expected = np.repeat(expected[..., :1], 3, axis=-1)
    tolerance = 0 if 'png' in kind else 12
    np.testing.assert_allclose(to_bgr(frame).astype(int), expected.astype(int), atol=tolerance)


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bit_png_keeps_its_depth(channels):
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    pixels = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    frame = decode(CompressedFrame(imencode('.png', pixels), 'png'))
    assert frame.encoding == {1: 'mono16', 3: 'bgr16', 4: 'bgra16'}[channels]
    np.testing.assert_array_equal(np.frombuffer(frame.data, np.uint16).reshape(shape), pixels)


def test_palette_png_is_expanded():
    rows = zlib.compress(b'\x00\x00\x01')
    palette = bytes([255, 0, 0, 0, 0, 255])
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', 2, 1, 8, 3, 0, 0, 0))
    png = b'\x89PNG\r\n\x1a\n' + header + chunk(b'PLTE', palette) + chunk(b'IDAT', rows)
    frame = decode(CompressedFrame(png + chunk(b'IEND', b''), 'png'))
    assert to_rgb(frame).tolist() == [[[255, 0, 0], [0, 0, 255]]]


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_is_ignored(orientation):
    turned = CompressedFrame(with_exif_orientation(JPEG, orientation), 'jpeg')
    assert check_compressed(turned) == (HEIGHT, WIDTH)
    plain = decode(CompressedFrame(JPEG, 'jpeg'))
    np.testing.assert_array_equal(to_bgr(decode(turned)), to_bgr(plain))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('padding', [b'\x00' * 500, b'\xff' * 9, b'\xff\xd9', b'garbage', JPEG])
def test_bytes_after_the_end_are_ignored(kind, padding):
    padded = CompressedFrame(KINDS[kind] + padding, '')
    np.testing.assert_array_equal(
        to_bgr(decode(padded)), to_bgr(decode(CompressedFrame(KINDS[kind], '')))
    )


@pytest.mark.parametrize('kind', KINDS)
def test_every_truncation_is_an_error(kind):
    data = KINDS[kind]
    for length in range(len(data)):
        with pytest.raises(CompressedImageError):
            check_compressed(CompressedFrame(data[:length], ''))


@pytest.mark.parametrize('filler', [b'\x00', b'\x80', b'\xff'])
@pytest.mark.parametrize('data', [JPEG, PNG], ids=['jpeg', 'png'])
def test_a_lost_tail_in_a_full_buffer_is_still_truncated(data, filler):
    half = len(data) * 3 // 4
    with pytest.raises(CompressedImageError, match=r'truncated|corrupt'):
        check_compressed(CompressedFrame(data[:half] + filler * (len(data) - half), ''))


BAD_IMAGES = {
    'nothing': (b'', '', CompressedImageError, 'got 0 B that start with nothing'),
    'text': (b'hello world', 'jpeg', CompressedImageError, '11 B that start with 68 65 6c 6c'),
    'bmp': (imencode('.bmp', smooth_bgr()), 'jpeg', CompressedImageError, 'start with 42 4d'),
    'jpeg cut': (JPEG[:-2], 'jpeg', CompressedImageError, 'truncated JPEG: .* end marker'),
    'jpeg head': (JPEG[:30], 'jpeg', CompressedImageError, 'truncated JPEG: .* 30 B, before a s'),
    'png cut': (PNG[:-1], 'png', CompressedImageError, 'truncated PNG: .*IEND'),
    'png half': (
        PNG[: len(PNG) // 2], 'png', CompressedImageError, "truncated PNG: .* a b'IDAT' chunk",
    ),
    'png bit flip': (
        PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:],
        'png', CompressedImageError, "checksum of the b'IDAT' chunk",
    ),
    'png without header': (
        PNG[:8] + chunk(b'IEND', b''), 'png', CompressedImageError, 'expected an IHDR chunk',
    ),
    'png without pixels': (
        png_with_size(2, 2, chunk(b'IEND', b'')), 'png', CompressedImageError, 'before any pixels',
    ),
    'png of another size': (
        png_with_size(2, 2, chunk(b'IDAT', b'') + chunk(b'IEND', b'')),
        'png', CompressedImageError, 'cannot be decoded|corrupt',
    ),
    'jpeg without pixels': (b'\xff\xd8\xff\xd9', '', CompressedImageError, 'before any pixels'),
    'jpeg scan first': (
        b'\xff\xd8\xff\xda\x00\x02\xff\xd9', '', CompressedImageError, 'no size before its pixels',
    ),
    'jpeg of scans': (
        JPEG[:-2] + b'\xff\xda\x00\x02' * 200 + b'\xff\xd9',
        'jpeg', CompressedImageError, 'too many scans',
    ),
    'jpeg no marker': (b'\xff\xd8\x12\x34', '', CompressedImageError, r'expected a marker .* 12'),
    'jpeg empty segment': (
        b'\xff\xd8\xff\xe0\x00\x01' + JPEG, '', CompressedImageError, 'marker e0 with length 1',
    ),
    'jpeg of no rows': (jpeg_with_size(32, 0), '', CompressedImageError, 'says 32x0 px'),
    'png of no columns': (png_with_size(0, 5), '', CompressedImageError, 'says 0x5 px'),
    'png bomb': (
        png_with_size(100_000, 100_000), 'png', ImageTooLargeError, 'claims 100000x100000 px',
    ),
    'jpeg bomb': (
        jpeg_with_size(65_500, 65_500), 'jpeg', ImageTooLargeError, 'claims 65500x65500 px',
    ),
    'says png': (JPEG, 'png', CompressedImageError, "format 'png' says png, the data is a jpeg"),
    'says jpeg': (
        PNG, 'rgb8; jpeg compressed bgr8', CompressedImageError, 'says jpeg, the data is a png',
    ),
    'says tiff': (JPEG, 'rgb8; tiff compressed bgr8', EncodingError, 'expected a jpeg or png'),
    'says h264': (JPEG, 'h264', EncodingError, "got format 'h264'"),
    'depth': (PNG, '16UC1; compressedDepth png', EncodingError, 'compressedDepth png'),
    'not bytes': ([1, 2], 'jpeg', CompressedImageError, 'buffer of bytes, got list'),
}  # fmt: skip


@pytest.mark.parametrize('kind', BAD_IMAGES)
def test_each_bad_image_has_its_own_error(kind):
    data, format_string, error, message = BAD_IMAGES[kind]
    with pytest.raises(error, match=message):
        decode(CompressedFrame(data, format_string))


@pytest.mark.parametrize('data', [JPEG, PNG], ids=['jpeg', 'png'])
def test_the_bound_is_the_callers_and_comes_before_decoding(data, monkeypatch):
    compressed = CompressedFrame(data, '')
    assert decode(compressed, max_pixels=HEIGHT * WIDTH).height == HEIGHT
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded a bomb'))
    with pytest.raises(ImageTooLargeError):
        decode(compressed, max_pixels=HEIGHT * WIDTH - 1)


def test_a_second_frame_header_cannot_hide_a_bomb():
    """libjpeg takes the first frame header; whichever is larger must be within bounds."""
    start = JPEG.index(b'\xff\xc0')
    (length,) = struct.unpack_from('>H', JPEG, start + 2)
    header = JPEG[start : start + 2 + length]
    large = header[:5] + struct.pack('>HH', 65_000, 65_000) + header[9:]
    for first, second in ((header, large), (large, header)):
        data = JPEG[:start] + first + second + JPEG[start + len(header) :]
        with pytest.raises(ImageTooLargeError):
            decode(CompressedFrame(data, 'jpeg'))


@pytest.mark.parametrize(
    ('format_string', 'encoding'),
    [
        ('', 'bgr8'),
        ('jpeg', 'bgr8'),
        ('JPEG', 'bgr8'),
        ('jpg', 'bgr8'),
        ('rgb8; jpeg compressed bgr8', 'bgr8'),
        ('bgr8; jpeg compressed bgr8', 'bgr8'),
        ('rgb8; jpeg compressed ', 'bgr8'),
        # The encoder was fed red first: what decodes as "BGR" is RGB.
        ('rgb8; jpeg compressed rgb8', 'rgb8'),
        ('bayer_rggb8; jpeg compressed bgr8', 'bgr8'),
    ],
)
def test_format_string_says_the_stored_order(format_string, encoding):
    frame = decode(CompressedFrame(JPEG, format_string))
    assert frame.encoding == encoding
    plain = to_rgb(decode(CompressedFrame(JPEG, '')))
    expected = plain[..., ::-1] if encoding == 'rgb8' else plain
    np.testing.assert_array_equal(to_rgb(frame), expected)


@pytest.mark.parametrize(
    ('format_string', 'encoding'),
    [
        ('bayer_grbg8; png compressed ', 'bayer_grbg8'),  # the mosaic itself
        ('bayer_grbg8; png compressed mono8', 'mono8'),  # made grey first
        ('bayer_grbg16; png compressed ', 'mono8'),  # not a mosaic of 16 bits
        ('mono8; png compressed ', 'mono8'),
        ('8UC1; png compressed', 'mono8'),
    ],
)
def test_format_string_says_a_mosaic_was_stored(format_string, encoding):
    assert decode(CompressedFrame(KINDS['grey png'], format_string)).encoding == encoding


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
@pytest.mark.parametrize('is_bigendian', [False, True])
def test_png_round_trip_loses_nothing(encoding, is_bigendian):
    line = ENCODINGS[encoding]
    step = 8 * line.bytes_per_pixel + 3
    data = np.random.default_rng(1).bytes(line.num_bytes(6, step))
    frame = Frame(data, 6, 8, encoding, step, is_bigendian)
    again = decode(CompressedFrame(encode(frame, 'png'), 'png'))
    np.testing.assert_array_equal(to_rgb(again), to_rgb(frame))
    bits = line.bits if line.layout.is_packed else 8
    assert ENCODINGS[again.encoding].bits == bits
    assert ENCODINGS[again.encoding].channels == (line.channels if line.layout.is_packed else 3)


def test_jpeg_encoder():
    bgr = smooth_bgr()
    for frame in (Frame.from_array(bgr, 'bgr8'), Frame.from_array(bgr[..., ::-1], 'rgb8')):
        again = decode(CompressedFrame(encode(frame), 'jpeg'))
        np.testing.assert_allclose(to_bgr(again).astype(int), bgr.astype(int), atol=12)
    grey = decode(CompressedFrame(encode(Frame.from_array(bgr[..., 0], 'mono8')), 'jpeg'))
    assert grey.encoding == 'mono8'
    best, worst = (encode(Frame.from_array(bgr, 'bgr8'), 'jpeg', q) for q in (100, 1))
    assert len(best) > len(worst)


@pytest.mark.parametrize(('format_name', 'quality'), [('gif', 95), ('jpeg', 0), ('jpeg', 101)])
def test_encoder_options_are_checked(format_name, quality):
    with pytest.raises(ConfigurationError, match=r'expected (format|a JPEG quality)'):
        encode(Frame.from_array(smooth_bgr(), 'bgr8'), format_name, quality)


@settings(max_examples=300)
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(KINDS)),
    format_string=st.sampled_from(['', 'jpeg', 'png', ';', '; ;', 'rgb8; jpeg']),
)
def test_whatever_the_bytes_are_the_error_is_ours(data, kind, format_string):
    damaged = bytearray(KINDS[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    compressed = CompressedFrame(damaged, format_string)
    with contextlib.suppress(InputError):  # anything else fails the test
        frame = decode(compressed, max_pixels=2**16)
        assert check_compressed(compressed) == (frame.height, frame.width)
