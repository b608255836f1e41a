"""The slow twins themselves, on values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import reference


@pytest.mark.parametrize(
    ('yuv', 'rgb'),
    [
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((126, 128, 128), (128, 128, 128)),
        # The 100% colour bars of BT.601 in 8-bit studio levels.
        ((81, 90, 240), (255, 0, 0)),
        ((145, 54, 34), (0, 255, 0)),
        ((41, 240, 110), (0, 0, 255)),
        ((0, 128, 128), (0, 0, 0)),  # below black is black
        ((255, 128, 128), (255, 255, 255)),  # above white is white
    ],
)
def test_yuv_to_rgb(yuv, rgb):
    # The bars' levels are themselves rounded to whole numbers.
    np.testing.assert_allclose(reference.yuv_to_rgb(*yuv), rgb, atol=1)


@pytest.mark.parametrize(
    ('encoding', 'is_bigendian', 'data', 'rgb'),
    [
        ('rgb8', False, [1, 2, 3], (1, 2, 3)),
        ('bgr8', False, [1, 2, 3], (3, 2, 1)),
        ('rgba8', False, [1, 2, 3, 99], (1, 2, 3)),
        ('bgra8', False, [1, 2, 3, 99], (3, 2, 1)),
        ('mono8', False, [7], (7, 7, 7)),
        # 0x0101 = 257 is 1, 0x00ff = 255 is 0.99, 0xff00 = 65280 is 254.01.
        ('mono16', False, [0x01, 0x01], (1, 1, 1)),
        ('mono16', False, [0x00, 0xFF], (254, 254, 254)),
        ('mono16', True, [0x00, 0xFF], (1, 1, 1)),
        ('rgb16', False, [0, 0, 0xFF, 0xFF, 0, 0x80], (0, 255, 128)),
        ('bgr16', True, [0, 0, 0xFF, 0xFF, 0x80, 0], (128, 255, 0)),
    ],
)
def test_one_pixel(encoding, is_bigendian, data, rgb):
    image = reference.image_to_rgb(bytes(data), 1, 1, encoding, len(data), is_bigendian)
    assert tuple(image[0, 0]) == rgb


@pytest.mark.parametrize(
    ('encoding', 'data'),
    [
        ('uyvy', [90, 81, 240, 235]),
        ('yuv422', [90, 81, 240, 235]),
        ('yuyv', [81, 90, 235, 240]),
        ('yuv422_yuy2', [81, 90, 235, 240]),
    ],
)
def test_422_shares_chroma_between_two_pixels(encoding, data):
    image = reference.image_to_rgb(bytes(data), 1, 2, encoding, 4)
    np.testing.assert_allclose(image[0, 0], (255, 0, 0), atol=1)
    assert image[0, 1, 0] == 255
    assert image[0, 1, 1] > 100


@pytest.mark.parametrize(
    ('encoding', 'chroma'), [('nv12', [90, 240]), ('nv21', [240, 90]), ('nv24', [90, 240] * 4)]
)
def test_semi_planar(encoding, chroma):
    image = reference.image_to_rgb(bytes([81] * 4 + chroma), 2, 2, encoding, 2)
    np.testing.assert_allclose(image.reshape(-1, 3), [(255, 0, 0)] * 4, atol=1)


def test_nv24_chroma_rows_are_twice_the_step():
    luma = [81, 0xAA, 81, 0xAA]
    chroma = [90, 240, 0xAA, 0xAA, 240, 110, 0xAA, 0xAA]
    image = reference.image_to_rgb(bytes(luma + chroma), 2, 1, 'nv24', 2)
    assert image[0, 0].argmax() == 0
    assert image[1, 0].argmax() == 2


@pytest.mark.parametrize(
    ('pattern', 'rgb'),
    [
        # 10 20 10 / 30 40 30 / 10 20 10: the centre is 40, its row has 30, its column 20, its
        # corners 10. Green is the two crosses' mean, 25.
        ('rggb', (10, 25, 40)),
        ('bggr', (40, 25, 10)),
        ('gbrg', (30, 40, 20)),
        ('grbg', (20, 40, 30)),
    ],
)
def test_demosaic(pattern, rgb):
    mosaic = [[10, 20, 10], [30, 40, 30], [10, 20, 10]]
    for y in range(3):
        for x in range(3):
            assert reference.demosaic_pixel(mosaic, pattern, y, x) == rgb


def test_rows_to_bytes():
    samples = np.array([[0x0102, 0x0304], [0x0506, 0x0708]], np.uint16)
    assert reference.rows_to_bytes(samples, 5, True) == bytes.fromhex('01020304aa 05060708aa')
    assert reference.rows_to_bytes(samples, 4, False) == bytes.fromhex('02010403 06050807')


def test_resize_bilinear():
    image = np.array([[0, 100]], np.uint8)[..., None]
    # Centres at -0.25, 0.25, 0.75, 1.25 of the source.
    assert reference.resize_bilinear(image, 1, 4).ravel().tolist() == [0, 25, 75, 100]
    assert reference.resize_bilinear(image, 1, 1).ravel().tolist() == [50]


def test_resize_area():
    image = np.array([[0, 90, 30]], np.uint8)[..., None]
    assert reference.resize_area(image, 1, 1).ravel().tolist() == pytest.approx([40])
    # Two pixels of 1.5 each: (0 + 45) / 1.5 and (45 + 30) / 1.5.
    assert reference.resize_area(image, 1, 2).ravel().tolist() == pytest.approx([30, 50])


def test_resize_antialias():
    image = np.array([[[0], [20], [60], [80]]])
    bilinear = reference.resize_antialias(image, 1, 2, is_bicubic=False).ravel()
    # centre 1, width 2: weights .75 .75 .25 of 0, 20, 60; and mirrored
    assert bilinear.tolist() == pytest.approx([30 / 1.75, 80 - 30 / 1.75])
    step = np.array([[[0], [0], [255], [255]]])
    bicubic = reference.resize_antialias(step, 1, 8, is_bicubic=True).ravel()
    assert (bicubic[0], bicubic[-1]) == (0, 255)  # beyond both ends, clipped
    assert bicubic[3] == pytest.approx(255 - bicubic[4])
    same = reference.resize_antialias(image, 1, 4, is_bicubic=True).ravel()
    assert same.tolist() == pytest.approx([0, 20, 60, 80])


def test_preprocess():
    rgb = np.array([[[10, 20, 30]]], np.uint8)
    result = reference.preprocess(
        rgb, (1, 1), (1, 3), (0, 1), (10, 10, 10), (1, 2, 4), is_bgr=True
    )
    assert result.tolist() == [[[0, 20, 0]], [[0, 5, 0]], [[0, 0, 0]]]


def test_sample_grid_of_half_pixel_centres():
    grid = np.array([[0.0, 4.0]])
    # Four pixels over two cells: centres at -0.25, 0.25, 0.75, 1.25 of the grid, edges clamped.
    sampled = reference.sample_grid(grid, (1, 4), (1, 4), (0, 0), (1, 4), False)
    np.testing.assert_allclose(sampled, [[0.0, 1.0, 3.0, 4.0]])


def test_sample_grid_of_aligned_corners():
    grid = np.array([[0.0, 6.0]])
    sampled = reference.sample_grid(grid, (1, 4), (1, 4), (0, 0), (1, 4), True)
    np.testing.assert_allclose(sampled, [[0.0, 2.0, 4.0, 6.0]])


def test_sample_grid_leaves_padding_out():
    # The image fills columns 2 and 3 of the input, which are the right cell of the grid.
    grid = np.array([[0.0, 4.0]])
    sampled = reference.sample_grid(grid, (1, 4), (1, 2), (0, 2), (1, 2), False)
    np.testing.assert_allclose(sampled, [[3.0, 4.0]])


def test_mean_iou():
    labels, truth = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert reference.mean_iou(labels, truth, [0, 1, 2]) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_own_pixels():
    # Two masks over a row of four pixels; the second is surer, its box spares the last pixel.
    masks = np.array([[[1.0, 1.0, 1.0, -1.0]], [[-1.0, 1.0, 1.0, 1.0]]])
    boxes = [(0.0, 0.0, 4.0, 1.0), (0.0, 0.0, 3.0, 1.0)]
    view = ((1, 4), (1, 4), (0, 0), (1, 4))
    assert reference.own_pixels(masks, [0.5, 0.6], None, *view).tolist() == [[1, 2, 2, 2]]
    assert reference.own_pixels(masks, [0.6, 0.5], None, *view).tolist() == [[1, 1, 1, 2]]
    assert reference.own_pixels(masks, [0.5, 0.6], boxes, *view).tolist() == [[1, 2, 2, 0]]
    # A mask of two samples tiles the middle two pixels.
    tiled = reference.own_pixels(
        np.array([[[1.0, -1.0]]]), [0.5], [(1.0, 0.0, 3.0, 1.0)], *view, masks_tile_boxes=True
    )
    assert tiled.tolist() == [[0, 1, 0, 0]]


def test_pasted_mask():
    # Two samples, 1 and 0.6, over pixels 1 to 4 of a row of six: 0.75, 0.9, 0.7 and 0.45.
    mask = np.array([[1.0, 0.6]])
    pasted = reference.pasted_mask(mask, (1.0, -1.0, 5.0, 2.0), (1, 6))
    assert pasted.tolist() == [[False, True, True, True, False, False]]


def test_share_pixels():
    # Sigmoids of 0 and of +-9 are one half and nearly 1 and 0.
    masks = np.array([[[9.0, 9.0, -9.0, -9.0]], [[-9.0, 9.0, 9.0, 0.0]]])
    view = ((1, 4), (1, 4), (0, 0), (1, 4))
    # The first keeps one of its two pixels.
    assert reference.share_pixels(masks, [0.8, 0.9], 0.4, *view).tolist() == [[1, 2, 2, 2]]
    assert reference.share_pixels(masks, [0.8, 0.9], 0.5, *view).tolist() == [[0, 2, 2, 2]]


def test_suppress():
    boxes = np.array([[0, 0, 4, 1], [1, 0, 5, 1], [0, 0, 4, 1], [8, 0, 9, 1]])
    scores, class_ids = np.array([0.5, 0.9, 0.8, 0.7]), np.array([0, 0, 1, 0])
    assert reference.box_iou(boxes[0], boxes[1]) == pytest.approx(3 / 5)
    assert reference.suppress(boxes, scores, class_ids, 0.59) == [1, 2, 3]
    assert reference.suppress(boxes, scores, class_ids, 0.61) == [1, 2, 3, 0]


def test_paint():
    image = np.full((3, 4, 3), 10, np.uint8)
    labels = np.array([[1, 1, 1, 0]] * 3)
    palette = np.array([[0, 0, 0], [21, 0, 0]])
    painted = reference.paint(image, labels, palette, np.array([False, True]), 0.5)
    assert painted[1].tolist() == [[21, 0, 0], [16, 5, 5], [21, 0, 0], [10, 10, 10]]
    assert painted[0, 1].tolist() == [21, 0, 0]


def test_largest_square_side():
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], bool)
    assert reference.largest_square_side(mask) == 2
    assert reference.largest_square_side(mask[:0]) == 0
