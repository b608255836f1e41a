"""Every layout gives the same kind of dataset from files that are known by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.datasets import LAYOUTS, open_dataset
from seg_perception.training.datasets.tables import ADE20K, CAMVID, CITYSCAPES, VOC

SQUARE = [[16, 0], [31, 0], [31, 11], [16, 11]]  # of LabelMe: the top right quarter, edges drawn


def folders(files):
    files.image('images/a.png', files.picture(1))
    files.mask('masks/a.png', files.quarters(0, 1, 2, 255))
    return {'classes': ['floor', 'wall', 'tray']}, 'a', (0, 1, 2, 255)


def camvid_folders(files):
    files.image('train/images/a.png', files.picture(1))
    files.mask('train/labels/a.png', files.quarters(3, 0, 11, 10))
    return {'split': 'train'}, 'a', (3, 0, 255, 10)


def camvid_lists(files):
    for name in ('a', 'b'):
        files.image(f'train/{name}.png', files.picture(1))
        files.mask(f'trainannot/{name}.png', files.quarters(3, 0, 11, 10))
    files.text('train.txt', '/SegNet/CamVid/train/b.png /SegNet/CamVid/trainannot/b.png', '')
    return {'split': 'train'}, 'b', (3, 0, 255, 10)


def voc(files):
    for name in ('a', 'b'):
        files.image(f'VOCdevkit/VOC2012/JPEGImages/{name}.png', files.picture(1))
    files.mask('VOCdevkit/VOC2012/SegmentationClass/b.png', files.quarters(0, 15, 20, 255))
    files.text('VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt', 'b')
    return {'split': 'val'}, 'b', (0, 15, 20, 255)


def cityscapes(files):
    for city in ('ulm', 'bern'):
        stem = f'val/{city}/{city}_000000_000019'
        files.image(f'leftImg8bit/{stem}_leftImg8bit.png', files.picture(1))
        # road, sky, caravan (not evaluated), bicycle
        files.mask(f'gtFine/{stem}_gtFine_labelIds.png', files.quarters(7, 23, 29, 33))
        files.mask(f'gtFine/{stem}_gtFine_instanceIds.png', files.quarters(1, 1, 1, 1))
    return {'split': 'val'}, 'bern/bern_000000_000019', (0, 10, 255, 18)


def ade20k(files):
    files.image('images/validation/a.jpg', files.picture(1))
    files.mask('annotations/validation/a.png', files.quarters(0, 1, 13, 150))
    return {'split': 'validation'}, 'a', (255, 0, 12, 149)


def coco_panoptic(files):
    files.image('val/a.png', files.picture(1))
    segments = files.quarters(0, 7, 300, 70_000, np.uint32)
    rgb = np.stack([segments & 255, segments >> 8 & 255, segments >> 16], -1).astype(np.uint8)
    files.image('panoptic_val/a.png', rgb)
    files.json(
        'panoptic_val.json',
        {
            'images': [{'id': 5, 'file_name': 'a.png', 'height': 24, 'width': 32}],
            'categories': [{'id': 90, 'name': 'sky'}, {'id': 3, 'name': 'dog'}],
            'annotations': [
                {
                    'image_id': 5,
                    'file_name': 'a.png',
                    'segments_info': [
                        {'id': 7, 'category_id': 90},
                        {'id': 300, 'category_id': 3},
                        {'id': 70_000, 'category_id': 90},
                    ],
                }
            ],
        },
    )
    return {'annotations': 'panoptic_val.json', 'split': 'val'}, 'a', (255, 1, 0, 1)


def labelme(files):
    files.labelme(
        'a', ('tray', 'polygon', SQUARE), ('__ignore__', 'rectangle', [[0, 12], [15, 23]])
    )
    return {'classes': ['background', 'tray']}, 'a', (0, 1, 255, 0)


BUILDERS = {
    'folders': folders,
    'camvid folders': camvid_folders,
    'camvid lists': camvid_lists,
    'voc': voc,
    'cityscapes': cityscapes,
    'ade20k': ade20k,
    'coco panoptic': coco_panoptic,
    'labelme': labelme,
}


@pytest.mark.parametrize('kind', BUILDERS)
def test_known_masks_are_read(kind, files):
    keys, name, expected = BUILDERS[kind](files)
    dataset = open_dataset({'layout': kind.split()[0], 'root': str(files.root), **keys})
    for each in (dataset, pickle.loads(pickle.dumps(dataset))):
        sample = each[0]
        assert sample.name == each.name(0) == name
        assert sample.image_YX3.shape == (24, 32, 3)
        assert sample.labels_YX.dtype == np.uint8
        np.testing.assert_array_equal(sample.labels_YX, files.quarters(*expected))
    assert dataset.ignore_id == 255
    assert [dataset.name(i) for i in range(len(dataset))] == sorted(
        dataset.name(i) for i in range(len(dataset))
    )


def test_every_layout_is_tried():
    # coco's object instances have tests of their own
    assert {kind.split()[0] for kind in BUILDERS} == set(LAYOUTS)


def test_pixels_arrive_as_they_were_stored(files):
    keys, _, _ = folders(files)
    dataset = open_dataset({'layout': 'folders', 'root': str(files.root), **keys})
    np.testing.assert_array_equal(dataset[0].image_YX3, files.picture(1))


def test_samples_can_be_written_to(files):
    keys, _, _ = folders(files)
    dataset = open_dataset({'layout': 'folders', 'root': str(files.root), **keys})
    sample = dataset[0]
    sample.image_YX3[:] = 0
    sample.labels_YX[:] = 0
    assert dataset[0].labels_YX.any()


@pytest.mark.parametrize(
    ('table', 'count', 'some'),
    [
        (CAMVID, 11, {3: 'road', 10: 'bicyclist'}),
        (VOC, 21, {0: 'background', 15: 'person', 20: 'tvmonitor'}),
        (CITYSCAPES, 19, {0: 'road', 11: 'person', 18: 'bicycle'}),
        (ADE20K, 150, {0: 'wall', 12: 'person', 20: 'car', 149: 'flag'}),
    ],
    ids=['camvid', 'voc', 'cityscapes', 'ade20k'],
)
def test_public_tables(table, count, some):
    names = list(table)
    assert len(set(names)) == len(names) == count
    assert {i: names[i] for i in some} == some


def test_more_than_255_classes_need_16_bits(files):
    files.image('images/a.png')
    files.mask('masks/a.png', files.quarters(0, 255, 299, 65535, np.uint16))
    dataset = open_dataset(
        {'layout': 'folders', 'root': str(files.root), 'classes': [f'c{i}' for i in range(300)]}
    )
    assert dataset.ignore_id == 65535
    assert dataset[0].labels_YX.dtype == np.uint16
    np.testing.assert_array_equal(
        dataset[0].labels_YX, files.quarters(0, 255, 299, 65535, np.uint16)
    )


def test_suffixes_pair_files_in_one_folder(files):
    for name in ('a', 'b'):
        files.image(f'data/{name}.png')
        files.mask(f'data/{name}_mask.png', files.quarters(0, 1, 1, 1))
    keys = {'layout': 'folders', 'root': str(files.root), 'classes': ['x', 'y'], 'images': 'data'}
    dataset = open_dataset({**keys, 'masks': 'data', 'mask_suffix': '_mask'})
    assert [dataset.name(i) for i in range(len(dataset))] == ['a', 'b']
    with pytest.raises(ConfigurationError, match='set mask_suffix'):
        open_dataset({**keys, 'masks': 'data'})


def test_list_chooses_and_orders(files):
    for i, name in enumerate('abc'):
        files.image(f'images/{name}.png', files.picture(i))
        files.mask(f'masks/{name}.png', files.quarters(0, 0, 0, 0))
    files.text('some.txt', 'c', 'a')
    config = {'layout': 'folders', 'root': str(files.root), 'classes': ['x'], 'list': 'some.txt'}
    dataset = open_dataset(config)
    assert [dataset.name(i) for i in range(len(dataset))] == ['c', 'a']
    files.text('some.txt', 'c', 'gone')
    with pytest.raises(InputError, match=r'1 file\(s\) have no mask: .*images/gone'):
        open_dataset(config)


def test_holdout_divides_without_overlap_and_every_thins_out(files):
    names = [f'{i:02}' for i in range(20)]
    for i, name in enumerate(names):
        files.image(f'images/{name}.png', files.picture(i))
        files.mask(f'masks/{name}.png', files.quarters(0, 0, 0, 0))
    config = {'layout': 'folders', 'root': str(files.root), 'classes': ['x']}

    def listed(**keys):
        dataset = open_dataset({**config, **keys})
        return [dataset.name(i) for i in range(len(dataset))]

    parts = {p: listed(holdout={'part': p, 'share': 0.2}) for p in ('train', 'val')}
    assert (len(parts['train']), len(parts['val'])) == (16, 4)
    assert sorted(parts['train'] + parts['val']) == names
    assert listed(holdout={'part': 'val', 'share': 0.2, 'seed': 1}) != parts['val']
    assert len(listed(holdout={'part': 'val', 'share': 0.001})) == 1
    assert listed(every=7) == ['00', '07', '14']
    files.text('one.txt', '03')
    with pytest.raises(ConfigurationError, match=r'at least two annotated images.*got 1'):
        listed(list='one.txt', holdout={'part': 'val', 'share': 0.5})


def config_of(files, **keys):
    return {'layout': 'folders', 'root': str(files.root), 'classes': ['x', 'y'], **keys}


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (lambda f: f.image('images/b.png'), r'1 file\(s\) have no mask: .*images/b.png; annotate'),
        (
            lambda f: f.mask('masks/b.png', f.quarters(0, 0, 0, 0)),
            r'1 file\(s\) have no image: .*masks/b.png; add the images',
        ),
        (lambda f: f.image('images/a.jpg'), r'a.jpg and .*a.png have the same stem'),
        (lambda f: (f.root / 'masks/a.png').unlink(), r'no mask: .*images/a.png'),
    ],
    ids=['no mask', 'no image', 'same stem', 'only image'],
)
def test_broken_pairs_are_found_at_opening(files, break_it, message):
    files.image('images/a.png')
    files.mask('masks/a.png', files.quarters(0, 1, 1, 1))
    break_it(files)
    with pytest.raises(InputError, match=message):
        open_dataset(config_of(files))


def test_unpaired_files_can_be_left_out(files):
    files.image('images/a.png')
    files.mask('masks/a.png', files.quarters(0, 1, 1, 1))
    files.image('images/b.png')
    assert len(open_dataset(config_of(files, unpaired='skip'))) == 1


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (
            lambda f: f.mask('masks/a.png', f.quarters(0, 1, 7, 9)),
            r'masks/a.png: unknown label 7, 9; expected 0-1, 255, 65535: correct the mask',
        ),
        (
            lambda f: f.mask('masks/a.png', f.quarters(0, 1, 1, 1)[:-1]),
            r'masks/a.png: expected the size of its image .*images/a.png, 32x24 px, got 32x23 px',
        ),
        (lambda f: f.image('masks/a.png'), r'masks/a.png: expected one channel of class ids'),
        (lambda f: f.text('masks/a.png', 'hello'), r'masks/a.png: .* cannot be decoded'),
        (lambda f: f.text('images/a.png', 'hello'), r'images/a.png: .* cannot be decoded'),
        (lambda f: (f.root / 'images/a.png').unlink(), r'images/a.png: cannot be read'),
    ],
    ids=['unknown id', 'size', 'rgb mask', 'mask', 'image', 'vanished'],
)
def test_bad_samples_name_their_file(files, break_it, message):
    files.image('images/a.png')
    files.mask('masks/a.png', files.quarters(0, 1, 1, 1))
    dataset = open_dataset(config_of(files))
    assert len(dataset) == 1
    break_it(files)
    with pytest.raises(InputError, match=message):
        dataset[0]


def test_no_images_are_an_error(files):
    for folder in ('images', 'masks'):
        (files.root / folder).mkdir()
    with pytest.raises(InputError, match=r'images and .*masks: expected annotated images'):
        open_dataset(config_of(files))


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'layout': 'foldres'}, r"dataset.layout: expected one of .*'folders'\?"),
        ({'rot': 'x'}, "dataset.rot: .*did you mean 'root'"),
        ({'root': 'nowhere'}, 'dataset.root: expected a folder'),
        ({'images': 'gone'}, 'expected a folder of images or masks, .*gone is none'),
        ({'classes': None}, 'dataset.classes: the layout folders needs the names'),
        ({'classes': ['x', 'x']}, 'unique'),
        ({'classes': ['x', 'ignore']}, 'ignore cannot name a class'),
        ({'classes': 3}, 'dataset.classes: expected a list of names'),
        ({'classes': 'gone.txt'}, 'gone.txt: cannot be read as a list of names'),
        ({'classes': {'x': [0, 0, 300], 'y': None}}, r'dataset.classes.x: expected a colour'),
        ({'every': 0}, 'dataset.every: expected an integer of at least 1'),
        ({'unpaired': 'maybe'}, 'dataset.unpaired'),
        ({'exif_orientation': 'maybe'}, 'dataset.exif_orientation'),
        ({'holdout': {'part': 'val', 'share': 2}}, 'dataset.holdout.share'),
        ({'void_ids': [-1]}, 'dataset.void_ids: expected mask values of 0 to 65535'),
        ({'source_classes': {'a': 1}}, 'dataset.source_classes: expected'),
        ({'annotations': 'x.json'}, 'dataset.annotations: the layout folders does not read it'),
        ({'layout': 'camvid', 'classes': None}, 'dataset.split: the layout camvid needs one'),
        ({'layout': 'coco', 'classes': None}, 'dataset.annotations: the layout coco needs'),
        ({'layout': 'voc', 'classes': None, 'split': 'val'}, r'val.txt: cannot be read'),
    ],
)
def test_impossible_descriptions_name_their_key(files, keys, message):
    files.image('images/a.png')
    files.mask('masks/a.png', files.quarters(0, 1, 1, 1))
    with pytest.raises(ConfigurationError, match=message):
        open_dataset(config_of(files, **keys))


def test_relative_roots_start_at_the_base(files, tmp_path):
    folders(files)
    dataset = open_dataset(
        {'layout': 'folders', 'root': '.', 'classes': ['floor', 'wall', 'tray']},
        base_dir=tmp_path,
    )
    assert len(dataset) == 1
