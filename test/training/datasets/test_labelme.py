"""LabelMe's shapes become pixels, in their order, or say why they cannot."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.datasets import open_dataset

BLOCK = [[8, 4], [19, 4], [19, 9], [8, 9]]  # rows 4-9, columns 8-19, edges included
CLASSES = ['background', 'tray', 'cup']


def opened(files, **keys):
    return open_dataset({'layout': 'labelme', 'root': str(files.root), 'classes': CLASSES, **keys})


def block(value, rows=slice(4, 10), columns=slice(8, 20)):
    labels = np.zeros((24, 32), np.uint8)
    labels[rows, columns] = value
    return labels


def png(values):
    return base64.b64encode(cv2.imencode('.png', values)[1].tobytes()).decode()


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        (('tray', 'polygon', BLOCK), block(1)),
        (('tray', None, BLOCK), block(1)),
        (('tray', 'rectangle', [[19, 9], [8, 4]]), block(1)),
        (('tray', 'polygon', [[-50, -50], [99, -50], [99, 99], [-50, 99]]), np.ones((24, 32))),
        (('tray', 'polygon', [[40, 40], [50, 40], [50, 50]]), block(0)),
        (
            ('tray', 'mask', [[8, 4], [19, 9]], {'mask': png(np.ones((6, 12), np.uint8))}),
            block(1),
        ),
        (
            ('tray', 'mask', [[-4, -2], [3, 1]], {'mask': png(np.full((4, 8), 255, np.uint8))}),
            block(1, slice(0, 2), slice(0, 4)),
        ),
        (('_background_', 'polygon', BLOCK), block(0)),
        (('__ignore__', 'polygon', BLOCK), block(255)),
    ],
    ids=['polygon', 'old', 'rectangle', 'all', 'outside', 'mask', 'cut mask', 'none', 'ignore'],
)
def test_shapes_are_drawn(files, shape, expected):
    files.labelme('a', shape)
    np.testing.assert_array_equal(opened(files)[0].labels_YX, expected)


def test_circle_has_its_area(files):
    files.labelme('a', ('cup', 'circle', [[16, 12], [16, 20]]))
    labels = opened(files)[0].labels_YX
    rows, columns = np.nonzero(labels)
    assert set(np.unique(labels)) == {0, 2}
    assert abs((labels == 2).sum() - np.pi * 8**2) < np.pi * 8  # half a pixel around
    assert (rows.min(), columns.min()) == (4, 8)
    assert abs(rows.mean() - 11.5) < 0.3
    assert abs(columns.mean() - 15.5) < 0.3


def test_later_shapes_lie_on_top(files):
    wide = ('tray', 'rectangle', [[0, 0], [31, 23]])
    files.labelme('a', wide, ('cup', 'polygon', BLOCK))
    files.labelme('b', ('cup', 'polygon', BLOCK), wide)
    files.labelme('c', wide, ('_background_', 'polygon', BLOCK))
    dataset = opened(files)
    np.testing.assert_array_equal(dataset[0].labels_YX, np.where(block(1), 2, 1))
    assert (dataset[1].labels_YX == 1).all()
    np.testing.assert_array_equal(dataset[2].labels_YX, np.where(block(1), 0, 1))


def test_dropped_labels_are_not_drawn(files):
    files.labelme('a', ('tray', 'polygon', BLOCK), ('note', 'point', [[9, 9]]))
    labels = opened(files, remap={'note': 'drop'})[0].labels_YX
    np.testing.assert_array_equal(labels, block(1))


def test_unannotated_pixels_may_be_ignored(files):
    files.labelme('a', ('tray', 'polygon', BLOCK))
    dataset = opened(files, classes=['tray'], unannotated='ignore')
    np.testing.assert_array_equal(dataset[0].labels_YX, np.where(block(1), 0, 255))


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        (('tray', 'line', BLOCK[:2]), r"shape 0 \('tray'\): expected a shape with an area"),
        (('tray', 'polygon', BLOCK[:2]), 'expected 3 points'),
        (('tray', 'circle', BLOCK), 'expected 2 points'),
        (('tray', 'polygon', 'abc'), 'expected 3 points'),
        (('tray', 'polygon', [[1, 2], [3, 4], [5, 1e300]]), 'expected points near the image'),
        (('tray', 'polygon', [[1, 2], [3, 4], [5, 10**400]]), 'expected 3 points'),
        (('tray', 'mask', BLOCK[:2], {'mask': 'a'}), 'its mask is damaged'),
        (('tray', 'mask', BLOCK[::2], {'mask': png(np.ones((2, 2), np.uint8))}), 'of 12x6 px'),
        ((7, 'polygon', BLOCK), 'shape 0: expected an object with a label'),
        (('try', 'polygon', BLOCK), "unknown label try; expected one of .*'try: tray'"),
    ],
    ids=[
        'line',
        'few',
        'circle',
        'text',
        'far',
        'huge',
        'base64',
        'mask size',
        'label',
        'unknown',
    ],
)
def test_bad_shapes_are_named(files, shape, message):
    path = files.labelme('a', shape)
    dataset = opened(files)
    with pytest.raises(InputError, match=f'^{path}: .*{message}|^{path}: {message}'):
        dataset[0]


def test_a_circle_of_any_size_takes_little_memory(files):
    files.labelme('a', ('tray', 'circle', [[0, 0], [2**20, 0]]))
    assert (opened(files)[0].labels_YX == 1).all()


def test_size_is_compared_with_the_photograph(files):
    files.labelme('a', ('tray', 'polygon', BLOCK), imageHeight=48, imageWidth=64)
    files.image('a.png')
    with pytest.raises(InputError, match=r'a.json: expected the size of its image .*64x48'):
        opened(files)[0]


@pytest.mark.parametrize('is_upright', [True, False])
def test_exif_orientation_is_applied_unless_told_otherwise(files, is_upright):
    image_module = pytest.importorskip('PIL.Image', reason='Pillow is not installed')
    exif = image_module.Exif()
    exif[0x0112] = 6
    stored = image_module.fromarray(files.picture(0, height=32, width=24))
    stored.save(files.path('a.jpg'), exif=exif)  # 24 x 32 stored, 32 x 24 upright
    files.labelme('a', ('tray', 'polygon', BLOCK), imagePath='a.jpg')
    if is_upright:
        sample = opened(files)[0]
        assert sample.image_YX3.shape == (24, 32, 3)
        np.testing.assert_array_equal(sample.labels_YX, block(1))
        return
    with pytest.raises(InputError, match='orientation 6: set exif_orientation: apply'):
        opened(files, exif_orientation='ignore')[0]


def test_photographs_are_found_where_the_json_says(files):
    files.image('photos/x.png', files.picture(3))
    files.labelme('ann/a', ('tray', 'polygon', BLOCK), imagePath='..\\photos\\x.png')
    sample = opened(files, annotations='ann')[0]
    np.testing.assert_array_equal(sample.image_YX3, files.picture(3))


def test_the_copy_in_the_json_serves_where_the_photograph_is_gone(files):
    data = png(files.picture(2)[..., ::-1])
    files.labelme('a', ('tray', 'polygon', BLOCK), imagePath='gone.png', imageData=data)
    np.testing.assert_array_equal(opened(files)[0].image_YX3, files.picture(2))
    files.labelme('a', imagePath='gone.png', imageData='a')
    with pytest.raises(InputError, match=r'a.json: imageData is damaged'):
        opened(files)[0]


def test_json_without_photograph_is_an_error(files):
    files.labelme('a', imagePath='gone.png')
    with pytest.raises(InputError, match=r'no image: .*a.json'):
        opened(files)


def test_photographs_without_json_are_left_out(files):
    files.labelme('a')
    files.image('b.png')
    assert len(opened(files)) == 1


@pytest.mark.parametrize('text', ['{', '[]', '{"images": []}'])
def test_other_json_is_refused(files, text):
    files.labelme('a')
    files.text('a.json', text)
    with pytest.raises(InputError, match=r'a.json: .*JSON'):
        opened(files)[0]


def test_without_classes_the_labels_found_are_listed(files):
    files.labelme('a', ('tray', 'polygon', BLOCK), ('cup', 'polygon', BLOCK))
    with pytest.raises(ConfigurationError, match=r'order of their ids .*found: cup, tray'):
        opened(files, classes=None)


def test_background_must_be_a_class(files):
    files.labelme('a')
    with pytest.raises(ConfigurationError, match="become 'background', which is no class of tray"):
        opened(files, classes=['tray'])


def test_labels_txt_of_labelme_is_taken_as_it_is(files):
    files.labelme('a', ('tray', 'polygon', BLOCK))
    files.text('labels.txt', '__ignore__', '_background_', 'tray')
    dataset = opened(files, classes='labels.txt')
    assert dataset.classes.names == ('_background_', 'tray')
    np.testing.assert_array_equal(dataset[0].labels_YX, block(1))


def test_of_two_photographs_of_a_stem_the_named_one_is_meant(files):
    files.labelme('a', ('tray', 'polygon', BLOCK))
    files.image('a.bmp', files.picture(4))
    np.testing.assert_array_equal(opened(files)[0].image_YX3, files.picture(0))
    files.labelme('a', ('tray', 'polygon', BLOCK), imagePath='a.bmp')
    np.testing.assert_array_equal(opened(files)[0].image_YX3, files.picture(4))
