"""Models that find objects themselves, from image to objects, with the real runtime."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rectangle_finder
from rectangle_finder import CLASSES, draw, mask_of

from seg_perception import Segmenter
from seg_perception.errors import InferenceError
from seg_perception.models import resolve
from seg_perception.postprocess import draw_overlay, to_coco_annotations
from seg_perception.structures import ClassTable, Frame

SCENE = [
    (0, 20, 30, 100, 90),
    (1, 150, 40, 260, 200),
    (2, 60, 120, 140, 220),
    (0, 280, 0, 320, 60),  # touches the border
]
SIZE_HW = (240, 320)


@pytest.fixture(scope='module', params=['raw', 'decoded'])
def path(request, tmp_path_factory):
    """The same model in both layouts; what its metadata says of the layout is wrong in one."""
    is_decoded = request.param == 'decoded'
    folder = tmp_path_factory.mktemp(request.param)
    return rectangle_finder.export(
        folder / 'rectangles-seg.onnx', is_decoded=is_decoded, end2end='True'
    )


@pytest.fixture(scope='module')
def segmenter(path):
    with Segmenter(path, device='cpu', num_threads=1) as loaded:
        yield loaded


def iou(mask, other):
    return (mask & other).sum() / (mask | other).sum()


def check(result, scene, size_hw, min_iou):
    """Each rectangle is one object of its class, where it is drawn; labels agree."""
    assert result.labels_YX.shape == result.confidence_YX.shape == size_hw
    objects = result.objects
    assert len(objects.items) == len(scene)
    for rectangle in scene:
        truth = mask_of(rectangle, *size_hw)
        overlaps = {i.id: iou(objects.mask(i.id) > 0, truth) for i in objects.items}
        best = objects.item(max(overlaps, key=overlaps.get))
        assert overlaps[best.id] > min_iou, (rectangle, overlaps)
        assert best.class_id == rectangle[0]
        assert np.abs(np.subtract(best.box_xyxy_px, rectangle[1:])).max() <= 8
        is_object = objects.instances_YX == best.id
        assert (result.labels_YX[is_object] == best.class_id).all()
        assert (result.confidence_YX[is_object] == round(best.score * 255)).all()
    is_nothing = objects.instances_YX == 0
    assert (result.labels_YX[is_nothing] == result.classes.unlabeled_id).all()
    assert not result.confidence_YX[is_nothing].any()


def test_rectangles_are_found_where_they_are(segmenter):
    assert segmenter.classes.names == CLASSES
    image = draw(*SIZE_HW, SCENE)
    [result] = segmenter.segment([image])
    check(result, SCENE, SIZE_HW, 0.85)
    annotations = to_coco_annotations(result.objects, 1, result.classes, geometry='polygon')
    assert sorted(a['category_id'] for a in annotations) == [0, 0, 1, 2]
    picture = draw_overlay(
        Frame.from_array(image), result.labels_YX, result.classes, objects=result.objects
    )
    assert (picture != image).any()


def test_other_sizes_and_a_batch_of_them(segmenter):
    """Odd and upright ones too, one without an object and one of a single pixel."""
    images, scenes = [], []
    for height, width in ((241, 319), (320, 240), (117, 333)):
        scene = [
            (c, x * width // 320, y * height // 240, right * width // 320, bottom * height // 240)
            for c, x, y, right, bottom in SCENE[:3]
        ]
        scenes.append(scene)
        images.append(draw(height, width, scene))
    images += [draw(240, 320, []), images[0][:1, :1]]
    results = segmenter.segment(images)
    for image, scene, result in zip(images, [*scenes, [], []], results, strict=True):
        check(result, scene, image.shape[:2], 0.8)
    assert results[4].labels_YX.tolist() == [[255]]


def test_output_size(segmenter):
    [result] = segmenter.segment([draw(*SIZE_HW, SCENE)], output_size_hw=(480, 640))
    larger = [(c, *(2 * side for side in sides)) for c, *sides in SCENE]
    assert result.labels_YX.shape == (480, 640)
    for rectangle in larger:
        truth = mask_of(rectangle, 480, 640)
        assert max(iou(result.objects.mask(i.id) > 0, truth) for i in result.objects.items) > 0.85


def test_what_is_not_wanted_is_left_out(segmenter):
    [result] = segmenter.segment([draw(*SIZE_HW, SCENE)], confidence=False, objects=False)
    assert result.confidence_YX is None
    assert result.objects is None
    assert set(result.class_fractions()) == set(CLASSES)


def test_unsure_objects_are_unlabeled(path):
    with Segmenter(path, confidence_threshold=0.9, num_threads=1) as segmenter:
        [result] = segmenter.segment([draw(*SIZE_HW, SCENE)])
    assert result.objects.items == ()
    assert not result.objects.instances_YX.any()
    assert (result.labels_YX == 255).all()
    assert result.confidence_YX.any()


def test_classes_that_are_not_the_files_are_an_error_before_the_first_image(path):
    card = resolve(str(path))
    card = dataclasses.replace(card, classes=ClassTable((*CLASSES, 'one too many')))
    with Segmenter(card, num_threads=1) as segmenter:
        if 'decoded' in str(path):  # which does not show how many classes there are
            segmenter.warm_up()
            return
        with pytest.raises(InferenceError, match=r'correct classes\.names'):
            segmenter.warm_up()


def test_not_a_number_is_an_error(segmenter, monkeypatch):
    session = segmenter._backend._session

    class Broken:
        def run(self, names, feed):
            boxes, protos = session.run(names, feed)
            return [boxes, protos * float('nan')]

    monkeypatch.setattr(segmenter._backend, '_session', Broken())
    with pytest.raises(InferenceError, match='NaN'):
        segmenter.segment([draw(*SIZE_HW, SCENE)])
