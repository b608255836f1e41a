"""The values that travel between the stages."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.structures import ClassTable, Frame, Segmentation

CLASSES = ClassTable(('floor', 'wall', 'person'))


def segmentation(labels, classes=CLASSES):
    return Segmentation(np.asarray(labels), None, classes, {})


def test_frame_views_a_contiguous_array():
    image = np.zeros((4, 5, 3), np.uint8)
    frame = Frame.from_array(image, 'bgr8', stamp_ns=7, frame_id='cam')
    image[2, 1, 0] = 9
    assert frame.data[2 * frame.step + 3] == 9
    assert (frame.height, frame.width, frame.step) == (4, 5, 15)
    assert (frame.stamp_ns, frame.frame_id) == (7, 'cam')


@pytest.mark.parametrize('dtype', ['<u2', '>u2'])
def test_frame_says_its_byte_order(dtype):
    frame = Frame.from_array(np.array([[0x0102]], dtype), 'mono16')
    assert bytes(frame.data) == (b'\x01\x02' if frame.is_bigendian else b'\x02\x01')
    assert frame.is_bigendian == (dtype[0] == '>')


def test_frame_copies_what_is_not_contiguous():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)[:, ::2]
    assert bytes(Frame.from_array(image, 'mono8').data) == image.tobytes()


@pytest.mark.parametrize('shape', [(3,), (0, 4, 3), (1, 2, 3, 4)])
def test_frame_refuses_what_is_no_image(shape):
    with pytest.raises(InputError, match='expected an image of shape'):
        Frame.from_array(np.zeros(shape, np.uint8))


def test_class_table():
    assert CLASSES.id_of('person') == 2
    assert CLASSES.unlabeled_id == 255
    assert len(set(CLASSES.colors_rgb)) == 3
    assert CLASSES.palette_rgb().shape == (256, 3)
    assert not CLASSES.palette_rgb()[3:].any()


def test_class_table_of_many_classes():
    many = ClassTable(tuple(f'c{i}' for i in range(256)))
    assert (many.label_dtype, many.unlabeled_id) == (np.uint16, 65535)
    assert ClassTable(many.names[:255]).label_dtype == np.uint8


@pytest.mark.parametrize('names', [(), ('a', 'a'), ('a', '')])
def test_class_table_refuses_names(names):
    with pytest.raises(ConfigurationError, match='expected'):
        ClassTable(names)


def test_class_table_refuses_a_wrong_number_of_colours():
    with pytest.raises(ConfigurationError, match='expected 2 colours, one per class, got 1'):
        ClassTable(('a', 'b'), ((0, 0, 0),))


def test_masks_partition_the_labels():
    labels = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    result = segmentation(labels)
    masks = [result.mask(name) for name in CLASSES.names]
    np.testing.assert_array_equal(sum(m // 255 for m in masks), labels != 255)
    np.testing.assert_array_equal(result.mask('floor', 'person'), masks[0] | masks[2])


def test_mask_of_an_unknown_class():
    with pytest.raises(ConfigurationError, match="no class 'cat'; this model has: floor, wall"):
        segmentation(np.zeros((1, 1), np.uint8)).mask('cat')


def test_class_fractions():
    result = segmentation(np.array([[2, 2], [0, 255]], np.uint8))
    assert result.class_fractions() == {'person': 0.5, 'floor': 0.25}
    assert result.class_fractions(0.3) == {'person': 0.5}
