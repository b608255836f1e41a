"""The picture people look at."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.errors import InputError
from seg_perception.postprocess import draw_overlay
from seg_perception.structures import ClassTable

CLASSES = ClassTable(('background', 'person', 'cat'), ((0, 0, 0), (200, 0, 0), (0, 100, 0)))
IMAGE = np.full((60, 80, 3), 100, np.uint8)


def labels_with(class_id, dtype=np.uint8):
    labels = np.zeros((60, 80), dtype)
    labels[20:40, 20:60] = class_id
    return labels


def test_blends_class_colours_and_leaves_background():
    overlay = draw_overlay(IMAGE, labels_with(1), CLASSES, opacity=0.5, draw_names=False)
    np.testing.assert_array_equal(overlay[25, 30], [150, 50, 50])
    np.testing.assert_array_equal(overlay[5, 5], IMAGE[5, 5])
    np.testing.assert_array_equal(overlay[20, 30], [200, 0, 0])  # the outline is solid
    assert IMAGE[25, 30, 0] == 100  # the input is left alone


def test_unlabelled_pixels_stay_as_they_are():
    overlay = draw_overlay(IMAGE, labels_with(255), CLASSES)
    np.testing.assert_array_equal(overlay, IMAGE)


def test_names_are_written_where_there_is_room():
    plain = draw_overlay(IMAGE, labels_with(2), CLASSES, draw_names=False)
    named = draw_overlay(IMAGE, labels_with(2), CLASSES)
    assert (plain != named).any()
    speck = np.zeros((60, 80), np.uint8)
    speck[30, 40] = 2
    np.testing.assert_array_equal(
        draw_overlay(IMAGE, speck, CLASSES), draw_overlay(IMAGE, speck, CLASSES, draw_names=False)
    )


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (7, 3)])
def test_small_images_full_of_one_class(shape):
    labels = np.ones(shape, np.uint8)
    assert draw_overlay(np.zeros((*shape, 3), np.uint8), labels, CLASSES).shape == (*shape, 3)


def test_labels_of_another_size_and_16_bits():
    overlay = draw_overlay(IMAGE[:30, :40], labels_with(1, np.uint16), CLASSES, draw_names=False)
    assert overlay.shape == (60, 80, 3)
    np.testing.assert_array_equal(overlay[25, 30], [150, 50, 50])


@pytest.mark.parametrize(('image', 'opacity'), [(IMAGE[..., 0], 0.5), (IMAGE, 1.5)])
def test_refuses_what_cannot_be_drawn(image, opacity):
    with pytest.raises(InputError, match='expected an RGB image and an opacity'):
        draw_overlay(image, labels_with(1), CLASSES, opacity=opacity)
