"""The picture people look at."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.errors import InputError
from seg_perception.postprocess import draw_overlay, find_objects
from seg_perception.structures import ClassTable, Frame, Segmentation

CLASSES = ClassTable(('background', 'person', 'cat'), ((0, 0, 0), (200, 0, 0), (0, 100, 0)))
IMAGE = np.full((60, 80, 3), 100, np.uint8)
FRAME = Frame.from_array(IMAGE)


def black(height, width):
    return Frame.from_array(np.zeros((height, width, 3), np.uint8))


def labels_with(class_id, dtype=np.uint8):
    labels = np.zeros((60, 80), dtype)
    labels[20:40, 20:60] = class_id
    return labels


def test_blends_class_colours_and_leaves_background():
    overlay = draw_overlay(FRAME, labels_with(1), CLASSES, opacity=0.5, draw_names=False)
    np.testing.assert_array_equal(overlay[25, 30], [150, 50, 50])
    np.testing.assert_array_equal(overlay[5, 5], IMAGE[5, 5])
    np.testing.assert_array_equal(overlay[20, 30], [200, 0, 0])  # the outline is solid
    assert IMAGE[25, 30, 0] == 100  # the input is left alone


def test_draws_where_it_is_told_to():
    out = np.zeros_like(IMAGE)
    assert draw_overlay(FRAME, labels_with(1), CLASSES, out=out) is out
    np.testing.assert_array_equal(out, draw_overlay(FRAME, labels_with(1), CLASSES))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_outlines_are_where_a_neighbour_differs(dtype):
    labels = np.random.default_rng(5).integers(0, 3, (12, 17)).astype(dtype)
    labels[2:9, 3:12] = 1
    overlay = draw_overlay(black(12, 17), labels, CLASSES, draw_names=False)
    for y in range(12):
        for x in range(17):
            neighbours = [
                labels[row, column] if 0 <= row < 12 and 0 <= column < 17 else -1
                for row, column in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            ]
            is_edge = any(neighbour != labels[y, x] for neighbour in neighbours)
            color = np.array(CLASSES.colors_rgb[labels[y, x]])
            np.testing.assert_array_equal(overlay[y, x], color if is_edge else color // 2)


def test_unlabelled_pixels_stay_as_they_are():
    overlay = draw_overlay(FRAME, labels_with(255), CLASSES)
    np.testing.assert_array_equal(overlay, IMAGE)


def test_names_are_written_where_there_is_room():
    plain = draw_overlay(FRAME, labels_with(2), CLASSES, draw_names=False)
    named = draw_overlay(FRAME, labels_with(2), CLASSES)
    assert (plain != named).any()
    speck = np.zeros((60, 80), np.uint8)
    speck[30, 40] = 2
    np.testing.assert_array_equal(
        draw_overlay(FRAME, speck, CLASSES), draw_overlay(FRAME, speck, CLASSES, draw_names=False)
    )


def test_objects_have_boxes_and_names():
    labels = labels_with(1)
    labels[:20, 70:] = 2
    objects = find_objects(Segmentation(labels, None, CLASSES, {}), [1], min_area_px=1)
    plain = draw_overlay(FRAME, labels, CLASSES, draw_names=False)
    boxed = draw_overlay(FRAME, labels, CLASSES, objects=objects, draw_names=False)
    ys, xs = np.nonzero((plain != boxed).any(axis=2))
    # A frame of two pixels' width around rows 20 to 39 and columns 20 to 59, and nothing else.
    assert set(map(tuple, boxed[[20, 39, 30, 30], [40, 40, 20, 59]].tolist())) == {(200, 0, 0)}
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (19, 40, 19, 60)
    assert not (plain != boxed)[22:37, 22:57].any()
    # The name stands at the top of the box, not in the middle of the region.
    named = draw_overlay(FRAME, labels, CLASSES, objects=objects)
    assert (named != boxed)[10:20, 20:60].any()
    assert not (named != boxed)[26:40, 20:60].any()
    # A class without objects keeps the name on its region.
    assert (named != boxed)[:20, 70:].any()


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (7, 3)])
def test_small_images_full_of_one_class(shape):
    labels = np.ones(shape, np.uint8)
    assert draw_overlay(black(*shape), labels, CLASSES).shape == (*shape, 3)


def test_labels_of_another_size_and_16_bits():
    small = Frame.from_array(IMAGE[:30, :40])
    overlay = draw_overlay(small, labels_with(1, np.uint16), CLASSES, draw_names=False)
    assert overlay.shape == (60, 80, 3)
    np.testing.assert_array_equal(overlay[25, 30], [150, 50, 50])


def test_the_frame_says_the_order_of_its_channels():
    image_rgb = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)
    expected = draw_overlay(Frame.from_array(image_rgb, 'rgb8'), labels_with(1), CLASSES)
    bgr = Frame.from_array(image_rgb[..., ::-1], 'bgr8')
    np.testing.assert_array_equal(draw_overlay(bgr, labels_with(1), CLASSES), expected)
    gray = draw_overlay(Frame.from_array(IMAGE[..., 0], 'mono8'), labels_with(1), CLASSES)
    np.testing.assert_array_equal(gray, draw_overlay(FRAME, labels_with(1), CLASSES))


@pytest.mark.parametrize(
    ('frame', 'opacity', 'text'),
    [
        (FRAME, 1.5, r'expected an opacity in \[0, 1\], got 1.5'),
        (IMAGE, 0.5, 'expected a Frame, got ndarray; Frame.from_array'),
        (Frame.from_array(IMAGE, 'rgba8'), 0.5, 'rgba8'),
    ],
)
def test_refuses_what_cannot_be_drawn(frame, opacity, text):
    with pytest.raises(InputError, match=text):
        draw_overlay(frame, labels_with(1), CLASSES, opacity=opacity)
