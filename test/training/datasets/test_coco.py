"""COCO's object instances and what can be wrong with its JSON."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from seg_perception.errors import InputError, MissingExtraError
from seg_perception.training.datasets import open_dataset

# pycocotools 2.0.11 on NumPy 2; silent outside of tests.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

LEFT_HALF = [0, 0, 16, 0, 16, 24, 0, 24]
TOP_LEFT = [0, 0, 16, 0, 16, 12, 0, 12]


def instances(files, *annotations, **fields):
    files.image('images/a.png')
    files.json(
        'instances.json',
        {
            'images': [{'id': 1, 'file_name': 'a.png', 'height': 24, 'width': 32}],
            'categories': [{'id': 3, 'name': 'cup'}, {'id': 60, 'name': 'table'}],
            'annotations': [
                {'id': i, 'image_id': 1, 'iscrowd': 0, **annotation}
                for i, annotation in enumerate(annotations)
            ],
        }
        | fields,
    )
    return {'layout': 'coco', 'root': str(files.root), 'annotations': 'instances.json'}


@pytest.fixture
def codec():
    return pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_small_objects_lie_on_large_ones(files, codec, order):
    table = {'category_id': 60, 'segmentation': [LEFT_HALF]}
    cup = {'category_id': 3, 'segmentation': [TOP_LEFT]}
    config = instances(files, *[(table, cup)[i] for i in order])
    dataset = open_dataset(config)
    assert dataset.classes.names == ('background', 'cup', 'table')
    for each in (dataset, pickle.loads(pickle.dumps(dataset))):
        np.testing.assert_array_equal(each[0].labels_YX, files.quarters(1, 0, 2, 0))


def test_run_lengths_of_both_kinds(files, codec):
    mask = np.asfortranarray(files.quarters(1, 0, 0, 0))
    packed = codec.encode(mask)
    packed['counts'] = packed['counts'].decode()
    runs = [0, *[12, 12] * 15, 12, 12 + 16 * 24]  # column by column, zeros first
    assert sum(runs) == mask.size
    for segmentation in (packed, {'size': [24, 32], 'counts': runs}):
        config = instances(files, {'category_id': 60, 'segmentation': segmentation, 'iscrowd': 1})
        np.testing.assert_array_equal(
            open_dataset(config)[0].labels_YX, files.quarters(2, 0, 0, 0)
        )


def test_images_without_objects_are_background_or_ignored(files, codec):
    config = instances(files)
    assert not open_dataset(config)[0].labels_YX.any()
    ignored = open_dataset({**config, 'unannotated': 'ignore', 'classes': ['cup', 'table']})
    assert (ignored[0].labels_YX == 255).all()


def test_dropped_objects_show_what_is_below(files, codec):
    table = {'category_id': 60, 'segmentation': [LEFT_HALF]}
    cup = {'category_id': 3, 'segmentation': [TOP_LEFT]}
    config = {**instances(files, table, cup), 'classes': ['background', 'table']}
    dropped = open_dataset({**config, 'remap': {'cup': 'drop'}})
    np.testing.assert_array_equal(dropped[0].labels_YX, files.quarters(1, 0, 1, 0))
    ignored = open_dataset({**config, 'remap': {'cup': 'ignore'}})
    np.testing.assert_array_equal(ignored[0].labels_YX, files.quarters(255, 0, 1, 0))


@pytest.mark.parametrize(
    ('annotation', 'message'),
    [
        (
            {'category_id': 7, 'segmentation': [TOP_LEFT]},
            r'instances.json: unknown label category 7; expected .*correct the file',
        ),
        (
            {'category_id': 3, 'segmentation': [[0, 0, 5, 5]]},
            r'annotation 0 of a.png: expected polygons of at least three points',
        ),
        (
            {'category_id': 3, 'segmentation': {'size': [9, 9], 'counts': [81]}},
            r'annotation 0 of a.png: expected run lengths of 24x32 .*got \[9, 9\]',
        ),
        (
            {'category_id': 3, 'segmentation': None},
            r'annotation 0 of a.png: its segmentation is damaged',
        ),
        (
            {'category_id': 3, 'segmentation': [['a'] * 6]},
            r'annotation 0 of a.png: its segmentation is damaged',
        ),
        # What pycocotools would read or write beyond its memory for:
        (
            {'category_id': 3, 'segmentation': {'size': [24, 32], 'counts': [0, 10**6]}},
            r'annotation 0 of a.png: its segmentation is damaged: expected runs that fill 768 px',
        ),
        (
            {'category_id': 3, 'segmentation': {'size': [24, 32], 'counts': 'oooooooo'}},
            r'annotation 0 of a.png: its segmentation is damaged: expected runs that fill 768 px',
        ),
        (
            {'category_id': 3, 'segmentation': {'size': [24, 32], 'counts': [-768, 1536]}},
            r'annotation 0 of a.png: its segmentation is damaged: expected runs that fill 768 px',
        ),
        (
            {'category_id': 3, 'segmentation': [[0, 0, 10**400, 0, 5, 5]]},
            r'annotation 0 of a.png: expected an outline within the image',
        ),
        (
            {'category_id': 3, 'segmentation': [[0, 0, 31, 23] * 500]},
            r'annotation 0 of a.png: expected an outline within the image',
        ),
    ],
    ids=[
        *('category', 'box', 'size', 'none', 'text'),
        *('long run', 'packed', 'negative', 'far', 'endless'),
    ],
)
def test_bad_objects_are_named(files, codec, annotation, message):
    dataset = open_dataset(instances(files, annotation))
    with pytest.raises(InputError, match=message):
        dataset[0]


@pytest.mark.parametrize(
    ('height', 'width'), [(10**6, 10**6), (24.5, 32), (-1, 32), (0, 32), (True, 32), ('24', 32)]
)
def test_sizes_that_cannot_be_are_refused_before_anything_is_allocated(
    files, codec, height, width
):
    image = {'id': 1, 'file_name': 'a.png', 'height': height, 'width': width}
    dataset = open_dataset(instances(files, images=[image]))
    with pytest.raises(InputError, match=r'expected height and width of a.png'):
        dataset[0]


@pytest.mark.parametrize('category', [[1], {}, 1e400, None])
def test_categories_are_numbers(files, codec, category):
    with pytest.raises(InputError, match='expected COCO JSON'):
        open_dataset(instances(files, {'category_id': category, 'segmentation': [TOP_LEFT]}))


def test_missing_images_are_named(files, codec):
    config = instances(files, images=[{'id': 1, 'file_name': 'gone.png'}])
    with pytest.raises(InputError, match=r'no image: .*images/gone.png'):
        open_dataset(config)


@pytest.mark.parametrize(
    ('text', 'message'),
    [('{', 'is not valid JSON'), ('[]', 'expected COCO JSON'), ('{"images": []}', 'categories')],
)
def test_other_json_is_refused(files, text, message):
    config = instances(files)
    files.text('instances.json', text)
    with pytest.raises(InputError, match=f'instances.json: .*{message}'):
        open_dataset(config)


def test_without_pycocotools_the_extra_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(MissingExtraError, match=r'seg_perception\[train\]'):
        open_dataset(instances(files))


def panoptic(files, segments_info, segments):
    files.image('images/a.png')
    rgb = np.stack([segments, np.zeros_like(segments), np.zeros_like(segments)], -1)
    files.image('pan/a.png', rgb)
    files.json(
        'pan.json',
        {
            'images': [{'id': 1, 'file_name': 'a.png'}],
            'categories': [{'id': 1, 'name': 'sky'}],
            'annotations': [{'image_id': 1, 'file_name': 'a.png', 'segments_info': segments_info}],
        },
    )
    return {'layout': 'coco', 'root': str(files.root), 'annotations': 'pan.json'}


@pytest.mark.parametrize(
    ('segments_info', 'label'),
    [
        ([{'id': 5, 'category_id': 1}], 'segment 9'),
        ([{'id': 5, 'category_id': 1}, {'id': 9, 'category_id': 4}], 'category 4'),
    ],
)
def test_unknown_segments_and_categories(files, segments_info, label):
    config = panoptic(files, segments_info, files.quarters(5, 5, 0, 9))
    dataset = open_dataset(config)
    with pytest.raises(InputError, match=f'pan/a.png: unknown label {label}; '):
        dataset[0]


def test_unknown_categories_are_counted_together(files):
    info = [{'id': 5, 'category_id': 4}, {'id': 9, 'category_id': 4}]
    dataset = open_dataset(panoptic(files, info, files.quarters(5, 9, 0, 0)))
    annotated = dataset.read_labels(dataset.entries[0], files.picture())
    assert annotated.unknown == {'category 4': 24 * 32 // 2}
    assert (annotated.labels_YX == 255).all()


def test_segment_that_no_color_can_be(files):
    config = panoptic(files, [{'id': -1, 'category_id': 1}], files.quarters(5, 5, 0, 9))
    with pytest.raises(InputError, match=r'pan.json: .*segments of a.png'):
        open_dataset(config)
