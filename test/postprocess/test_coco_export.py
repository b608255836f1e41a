"""COCO's dictionaries, read back by COCO's own tools."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seg_perception.errors import ConfigurationError, InputError, MissingExtraError
from seg_perception.postprocess import find_objects, to_coco_annotations, to_coco_categories
from seg_perception.structures import ClassTable, Objects, Segmentation

# pycocotools 2.0.11 on NumPy 2; silent outside of tests.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

CLASSES = ClassTable(('background', 'person', 'cat'))


def objects_of(labels, confidence=None) -> Objects:
    confidence_YX = None if confidence is None else np.full(np.shape(labels), confidence, np.uint8)
    return find_objects(
        Segmentation(np.array(labels, np.uint8), confidence_YX, CLASSES, {}), min_area_px=1
    )


def codec():
    return pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')


def decoded(segmentation, shape):
    """The 0/1 mask of either kind of segmentation, as COCO's own tools read it."""
    if isinstance(segmentation, list):
        segmentation = codec().merge(codec().frPyObjects(segmentation, *shape))
    return codec().decode(segmentation)


RING = [
    [0, 0, 0, 0, 2],
    [1, 1, 1, 0, 0],
    [1, 0, 1, 0, 0],
    [1, 1, 1, 0, 2],
]


def test_hand_written():
    objects = objects_of([[1, 1, 0, 2], [1, 0, 0, 2], [0, 1, 0, 2]], confidence=51)
    person, cat = to_coco_annotations(objects, 17, CLASSES, geometry='polygon')
    assert {key: person[key] for key in person if key != 'segmentation'} == {
        'image_id': 17,
        'category_id': 1,
        'bbox': [0, 0, 2, 3],
        'area': 4,
        'iscrowd': 0,
        'score': 0.2,
    }
    [corners] = cat['segmentation']
    assert {*zip(corners[::2], corners[1::2], strict=True)} == {(3, 0), (3, 3), (4, 3), (4, 0)}
    assert to_coco_categories(CLASSES)[1] == {'id': 1, 'name': 'person'}


def test_an_object_with_a_hole_has_no_polygon():
    codec()
    ring, *cats = to_coco_annotations(objects_of(RING), 1, CLASSES, geometry='polygon')
    assert ring['segmentation']['size'] == [4, 5]
    assert ring['area'] == 8
    np.testing.assert_array_equal(
        decoded(ring['segmentation'], (4, 5)), np.array(RING, np.uint8) == 1
    )
    assert all(isinstance(cat['segmentation'], list) for cat in cats)


@settings(max_examples=100)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 12), st.integers(1, 9)),
        elements=st.sampled_from([0, 1, 1, 1, 2]),
    )
)
def test_both_geometries_give_the_same_pixels_back(labels_YX):
    objects = objects_of(labels_YX)
    for geometry in ('rle', 'polygon'):
        annotations = to_coco_annotations(objects, 1, CLASSES, geometry=geometry)
        assert json.loads(json.dumps(annotations)) == annotations
        for item, annotation in zip(objects.items, annotations, strict=True):
            pixels_YX = decoded(annotation['segmentation'], labels_YX.shape)
            np.testing.assert_array_equal(pixels_YX * 255, objects.mask(item.id))
            left, top, width, height = annotation['bbox']
            assert (left, top, left + width, top + height) == item.box_xyxy_px
            assert annotation['area'] == pixels_YX.sum()


def test_an_object_in_parts_has_several_polygons():
    parts = np.array([[3, 3, 0, 3], [0, 0, 0, 3]], np.uint16)
    whole = objects_of([[1, 1, 1, 1], [0, 0, 0, 1]])
    [item] = whole.items
    objects = Objects(parts // 3, (item,))
    [annotation] = to_coco_annotations(objects, 1, CLASSES, geometry='polygon')
    assert len(annotation['segmentation']) == 2
    np.testing.assert_array_equal(decoded(annotation['segmentation'], (2, 4)), parts // 3)


def test_no_objects_give_no_annotations():
    assert to_coco_annotations(objects_of([[0, 0]]), 1, CLASSES) == []


def test_cocos_own_loader_reads_them(tmp_path, capsys):
    coco = pytest.importorskip('pycocotools.coco', reason='pycocotools is not installed')
    annotations = to_coco_annotations(objects_of(RING, 204), 9, CLASSES)
    dataset = {
        'images': [{'id': 9, 'width': 5, 'height': 4}],
        'categories': to_coco_categories(CLASSES),
        'annotations': [],
        'info': {},
    }
    (tmp_path / 'dataset.json').write_text(json.dumps(dataset))
    (tmp_path / 'results.json').write_text(json.dumps(annotations))
    results = coco.COCO(str(tmp_path / 'dataset.json')).loadRes(str(tmp_path / 'results.json'))
    [person] = results.loadAnns(results.getAnnIds(catIds=results.getCatIds(['person'])))
    np.testing.assert_array_equal(results.annToMask(person), np.array(RING) == 1)
    assert person['score'] == pytest.approx(0.8)


def test_without_pycocotools_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(MissingExtraError, match=r'seg_perception\[coco\]'):
        to_coco_annotations(objects_of(RING), 1, CLASSES)
    # Polygons without holes do without it.
    assert to_coco_annotations(objects_of([[1]]), 1, CLASSES, geometry='polygon')


def test_refuses_what_it_cannot_say():
    with pytest.raises(ConfigurationError, match="expected geometry rle or polygon, got 'mask'"):
        to_coco_annotations(objects_of(RING), 1, CLASSES, geometry='mask')
    with pytest.raises(InputError, match='expected a class id below 2, got 2'):
        to_coco_annotations(objects_of(RING), 1, ClassTable(('background', 'person')))
