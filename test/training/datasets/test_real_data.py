"""The layouts on data that people published, where it lies beside the project."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.training.datasets import open_dataset
from seg_perception.training.datasets.check import check_datasets

DATA = Path(__file__).resolve().parents[4] / 'shared' / 'data'


def real(name: str) -> str:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f'../shared/data/{name} is not there')
    return str(path)


def test_camvid_is_complete_and_clean():
    root = real('camvid')
    parts = {s: {'layout': 'camvid', 'root': root, 'split': s} for s in ('train', 'val')}
    report = check_datasets(parts)
    assert report.findings == []
    train, val = report.parts
    assert (train.num_samples, val.num_samples) == (367, 101)
    assert train.sizes == {'480x360': 367}
    assert val.sizes == {'480x360': 101}
    assert [row.name for row in train.classes][:4] == ['sky', 'building', 'pole', 'road']
    assert all(row.pixels for part in report.parts for row in part.classes)
    # The weights in the SegNet tutorial's CamVid model definition. Its sign_symbol, 9.64, is left
    # out: the published masks give 3.85, by this definition or any near it.
    segnet = [0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, None, 1.8418, 0.6823, 6.2478, 7.3614]
    for row, weight in zip(train.classes, segnet, strict=True):
        assert weight is None or row.weight == pytest.approx(weight, rel=0.25), row.name


def test_shapes_agree_with_the_masks_that_labelme_exports():
    root = real('photos_voc')
    keys = {'root': root, 'classes': 'class_names.txt'}
    shapes = open_dataset({'layout': 'labelme', **keys})
    masks = open_dataset(
        {'layout': 'folders', 'images': '.', 'masks': 'SegmentationClass', **keys}
    )
    assert [shapes.name(i) for i in range(len(shapes))] == [
        '2011_000003',
        '2011_000006',
        '2011_000025',
    ]
    for i in range(3):
        drawn, exported = shapes[i], masks[i]
        np.testing.assert_array_equal(drawn.image_YX3, exported.image_YX3)
        differs = drawn.labels_YX != exported.labels_YX
        assert differs.mean() < 0.004
        assert set(np.unique(drawn.labels_YX)) == set(np.unique(exported.labels_YX))
        # LabelMe draws edges with another library; nothing but edges may differ.
        assert not cv2.erode(differs.astype(np.uint8), np.ones((3, 3), np.uint8)).any()


def test_bin_seen_by_a_picking_robot():
    objects = ['highland_6539_self_stick_notes', 'mead_index_cards']
    objects += ['kong_air_dog_squeakair_tennis_ball']
    dataset = open_dataset(
        {
            'layout': 'labelme',
            'root': real('apc_bin'),
            'classes': ['background', *objects],
            'remap': {'shelf': 'background'},
        }
    )
    sample = dataset[0]
    assert sample.labels_YX.shape == sample.image_YX3.shape[:2] == (907, 1210)
    assert set(np.unique(sample.labels_YX)) == {0, 1, 2, 3}
    assert ((sample.labels_YX > 0).mean() * 100).round() == 12
