"""Index masks keep their indices; photographs turn as EXIF says, or not."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

from seg_perception.errors import ImageTooLargeError, InputError
from seg_perception.imaging.picture_files import (
    decode_color_png,
    decode_image,
    decode_index_mask,
    exif_orientation,
    read_bytes,
)

Image = pytest.importorskip('PIL.Image', reason='Pillow, the independent reader, is missing')
from PIL import ImageOps  # noqa: E402

MAX_PIXELS = 10_000


def saved(image, kind='PNG', **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def random_values(num_values, dtype=np.uint8, shape=(5, 7)):
    return np.random.default_rng(0).integers(0, num_values, shape).astype(dtype)


def mask_of(data):
    return decode_index_mask(data, 'mask.png', max_pixels=MAX_PIXELS)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_palette_indices_survive_repeated_colors(bits):
    values = random_values(2**bits)
    image = Image.fromarray(values)
    image.putpalette([10, 20, 30] * 2**bits)  # one colour for all: only indices tell them apart
    data = saved(image, bits=bits)
    assert data[24:26] == bytes([bits, 3])
    np.testing.assert_array_equal(mask_of(data), values)


def test_transparent_palette_entry_is_an_index_like_any_other():
    values = random_values(4)
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    np.testing.assert_array_equal(mask_of(saved(image, transparency=0)), values)


def test_grey_of_one_bit_is_0_and_1():
    values = random_values(2)
    data = saved(Image.fromarray(values.astype(bool)))
    assert data[24:26] == bytes([1, 0])
    np.testing.assert_array_equal(mask_of(data), values)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_grey_of_8_and_16_bits(dtype, suffix):
    values = random_values(np.iinfo(dtype).max, dtype)
    data = cv2.imencode(suffix, values)[1].tobytes()
    result = mask_of(data)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (
            lambda: saved(Image.fromarray(random_values(9, shape=(5, 7, 3)))),
            '35 colours|3. colours',
        ),
        (lambda: saved(Image.fromarray(random_values(9)).convert('RGB')), 'channels are equal'),
        (lambda: saved(Image.fromarray(random_values(9)).convert('LA')), r'grey \+ alpha'),
        (lambda: saved(Image.fromarray(random_values(9)), 'JPEG'), 'JPEG, whose losses'),
        (lambda: saved(Image.fromarray(random_values(9)))[:-20], 'truncated PNG'),
        (lambda: b'', 'cannot be decoded'),
        (lambda: b'not an image', 'cannot be decoded'),
    ],
    ids=['rgb', 'equal channels', 'alpha', 'jpeg', 'truncated', 'empty', 'text'],
)
def test_what_is_no_index_mask_says_so_with_its_name(data, message):
    with pytest.raises(InputError, match=f'^mask.png: .*({message})'):
        mask_of(data())


def test_size_is_bounded():
    data = cv2.imencode('.png', np.zeros((200, 100), np.uint8))[1].tobytes()
    with pytest.raises(ImageTooLargeError, match=r'^mask.png: .*100x200'):
        mask_of(data)
    bmp = cv2.imencode('.bmp', np.zeros((200, 100, 3), np.uint8))[1].tobytes()
    with pytest.raises(ImageTooLargeError, match=r'^a.bmp: .*100x200'):
        decode_image(bmp, 'a.bmp', is_upright=False, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_photographs_turn_as_pillow_turns_them(orientation):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255  # blocks of JPEG's size: what is white stays white
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(pixels), 'JPEG', exif=exif, quality=95)
    assert exif_orientation(data) == orientation
    stored = decode_image(data, 'a.jpg', is_upright=False, max_pixels=MAX_PIXELS)
    upright = decode_image(data, 'a.jpg', is_upright=True, max_pixels=MAX_PIXELS)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert stored.shape == (16, 32, 3)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).max() < 8
    assert upright.flags.c_contiguous


def test_damaged_exif_counts_as_upright():
    data = saved(Image.fromarray(random_values(9)), 'JPEG')
    marker = b'\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff'
    assert exif_orientation(data[:2] + marker + data[2:]) == 1
    assert exif_orientation(data[:3]) == 1


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.webp'])
def test_photographs_of_every_kind_are_rgb(suffix):
    bgr = np.full((4, 6, 3), (200, 100, 0), np.uint8)
    data = cv2.imencode(suffix, bgr)[1].tobytes()
    rgb = decode_image(data, f'a{suffix}', is_upright=False, max_pixels=MAX_PIXELS)
    assert np.abs(rgb.reshape(-1, 3).astype(int) - (0, 100, 200)).max() < 4


def test_other_png_is_no_panoptic_mask():
    with pytest.raises(InputError, match=r'a.png: expected an RGB PNG'):
        decode_color_png(saved(Image.fromarray(random_values(9))), 'a.png', max_pixels=MAX_PIXELS)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'gone.png: cannot be read: No such file'):
        read_bytes(tmp_path / 'gone.png')
