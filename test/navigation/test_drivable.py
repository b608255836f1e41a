"""The drivable mask: what each label becomes, and which names are refused."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.errors import ConfigurationError
from seg_perception.navigation import drivable_mask, drivable_table
from seg_perception.structures import ClassTable

CLASSES = ClassTable(('background', 'floor', 'road', 'person', 'car'))


def test_each_label():
    labels = np.array([[0, 1, 2], [3, 4, 255], [5, 254, 1]], np.uint8)
    mask = drivable_mask(labels, drivable_table(CLASSES, ['floor', 'road']))
    # Background means nothing in particular, 255 is unlabelled, 5 and 254 are no classes.
    assert mask.tolist() == [[127, 255, 255], [0, 0, 127], [127, 127, 255]]
    assert mask.dtype == np.uint8
    assert mask.flags.c_contiguous


def test_named_dangers_leave_the_other_classes_unknown():
    table = drivable_table(CLASSES, ['floor'], ['person'])
    assert table[:5].tolist() == [127, 255, 127, 0, 127]
    assert drivable_table(CLASSES, ['floor'], [])[:5].tolist() == [127, 255, 127, 127, 127]


def test_background_can_be_named():
    assert drivable_table(CLASSES, ['background'])[0] == 255
    assert drivable_table(CLASSES, ['floor'], ['background'])[0] == 0


def test_more_than_255_classes():
    classes = ClassTable(tuple(f'c{i}' for i in range(300)))
    labels = np.array([[0, 299, 300, 65535]], np.uint16)
    mask = drivable_mask(labels, drivable_table(classes, ['c299']))
    assert mask.tolist() == [[0, 255, 127, 127]]
    assert mask.dtype == np.uint8


@pytest.mark.parametrize('shape', [(0, 0), (0, 5), (1, 1), (7, 3)])
def test_odd_sizes(shape):
    mask = drivable_mask(np.ones(shape, np.uint8), drivable_table(CLASSES, ['floor']))
    assert mask.shape == shape
    assert (mask == 255).all()


@pytest.mark.parametrize(
    ('drivable', 'danger', 'message'),
    [
        ([], [], 'expected at least one class name, got none'),
        (['flor'], [], "drivable: no class 'flor', did you mean 'floor'.*has: background, floor"),
        (['floor'], ['zebra'], "danger: no class 'zebra'; This model has: background"),
        (['floor', 'car'], ['person', 'car'], 'got as both: car'),
    ],
)
def test_names_that_cannot_be_are_refused(drivable, danger, message):
    with pytest.raises(ConfigurationError, match=message):
        drivable_table(CLASSES, drivable, danger)
