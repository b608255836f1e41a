"""Classes of the annotations become classes of the model, or say why not."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.errors import ConfigurationError
from seg_perception.training.datasets import open_dataset
from seg_perception.training.datasets.remapping import format_ids


@pytest.fixture
def camvid(files):
    """sky, road / pavement, car on one image."""
    files.image('train/images/a.png')
    files.mask('train/labels/a.png', files.quarters(0, 3, 4, 8))

    def opened(**keys):
        return open_dataset(
            {'layout': 'camvid', 'root': str(files.root), 'split': 'train', **keys}
        )

    return opened


@pytest.mark.parametrize(
    ('keys', 'expected'),
    [
        ({}, (0, 3, 4, 8)),
        ({'classes': ['car', 'road'], 'remap': {'*': 'ignore'}}, (255, 1, 255, 0)),
        (
            {'classes': ['car', 'road'], 'remap': {'*': 'ignore', 'pavement': 'road'}},
            (255, 1, 1, 0),
        ),
        (
            {'classes': ['other', 'drivable'], 'remap': {'*': 'other', 'road': 'drivable'}},
            (0, 1, 0, 0),
        ),
        ({'remap': {'car': 'ignore'}}, (0, 3, 4, 255)),
        ({'remap': {'car': 'drop'}, 'unannotated': 'road'}, (0, 3, 4, 3)),
        ({'void_ids': [11, 4]}, (0, 3, 255, 8)),
    ],
    ids=['own', 'any other', 'merged', 'rest is a class', 'ignore', 'drop', 'void'],
)
def test_names_are_mapped(camvid, files, keys, expected):
    np.testing.assert_array_equal(camvid(**keys)[0].labels_YX, files.quarters(*expected))


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'classes': ['car', 'road']}, r"9 classes of the annotations .*sky.*'\*': ignore"),
        ({'remap': {'cat': 'car'}}, "the annotations have no class 'cat'"),
        ({'remap': {'car': 'cart'}}, "remap.car: expected ignore, drop or a class .*got 'cart'"),
        ({'remap': {'car': 'drop'}}, 'remap.car: drop needs to know'),
        ({'unannotated': 'background'}, "unannotated: pixels .*become 'background', which is no"),
    ],
)
def test_impossible_maps_are_refused_at_opening(camvid, keys, message):
    with pytest.raises(ConfigurationError, match=message):
        camvid(**keys)


def test_colors_come_from_the_layout_or_the_configuration(camvid):
    assert camvid().classes.colors_rgb[3] == (128, 64, 128)
    subset = camvid(classes=['road', 'car'], remap={'*': 'ignore'})
    assert subset.classes.colors_rgb == ((128, 64, 128), (64, 0, 128))
    own = camvid(classes={'road': [1, 2, 3], 'car': [4, 5, 6]}, remap={'*': 'ignore'})
    assert own.classes.colors_rgb == ((1, 2, 3), (4, 5, 6))
    made_up = camvid(classes=['road', 'vehicle'], remap={'*': 'ignore'})
    assert len(set(made_up.classes.colors_rgb)) == 2


def test_source_classes_name_the_values_of_masks(files):
    files.image('images/a.png')
    files.mask('masks/a.png', files.quarters(10, 20, 30, 10))
    dataset = open_dataset(
        {
            'layout': 'folders',
            'root': str(files.root),
            'classes': ['lane', 'rest'],
            'source_classes': {10: 'asphalt', 20: 'lane', 30: 'sky'},
            'remap': {'asphalt': 'rest', 'sky': 'ignore'},
        }
    )
    np.testing.assert_array_equal(dataset[0].labels_YX, files.quarters(1, 0, 255, 1))


def test_cityscapes_may_use_what_is_not_evaluated(files):
    files.image('leftImg8bit/val/ulm/ulm_0_leftImg8bit.png')
    files.mask('gtFine/val/ulm/ulm_0_gtFine_labelIds.png', files.quarters(7, 9, 26, 0))
    dataset = open_dataset(
        {
            'layout': 'cityscapes',
            'root': str(files.root),
            'split': 'val',
            'classes': ['road', 'car'],
            'remap': {'parking': 'road', '*': 'ignore'},
        }
    )
    np.testing.assert_array_equal(dataset[0].labels_YX, files.quarters(0, 0, 1, 255))


def test_ade_other_can_be_a_class(files):
    files.image('images/training/a.png')
    files.mask('annotations/training/a.png', files.quarters(0, 1, 4, 150))
    dataset = open_dataset(
        {
            'layout': 'ade20k',
            'root': str(files.root),
            'split': 'training',
            'classes': ['other', 'wall', 'floor'],
            'remap': {'*': 'other'},
        }
    )
    np.testing.assert_array_equal(dataset[0].labels_YX, files.quarters(0, 1, 2, 0))


def test_format_ids():
    assert format_ids([255, 0, 1, 2, 4]) == '0-2, 4, 255'
    assert format_ids([]) == ''
