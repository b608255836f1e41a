"""Ids that last from frame to frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import ConfigurationError
from seg_perception.postprocess import ObjectAssociator, association, find_objects
from seg_perception.structures import ClassTable, Objects, Segmentation

CLASSES = ClassTable(('background', 'person', 'cat'))
FRAME_NS = 33_000_000


def scene(*boxes, shape=(60, 80)):
    """Objects of an image in which (class, left, top, size) are squares."""
    labels_YX = np.zeros(shape, np.uint8)
    for class_id, left, top, size in boxes:
        labels_YX[top : top + size, left : left + size] = class_id
    return find_objects(Segmentation(labels_YX, None, CLASSES, {}), min_area_px=1)


def run(associator, *frames):
    """Per frame, id by (class, left edge of its box); checks what holds for every frame."""
    history = []
    for i, objects in enumerate(frames):
        updated = associator.update(objects, i * FRAME_NS)
        assert_same_objects(objects, updated)
        history.append({(o.class_id, o.box_xyxy_px[0]): o.id for o in updated.items})
    return history


def assert_same_objects(before: Objects, after: Objects):
    """But for their ids."""
    ids = [item.id for item in after.items]
    assert ids == sorted(set(ids))
    assert after.instances_YX.dtype == np.uint16
    assert len(after.items) == len(before.items)
    for item in after.items:
        left, top, right, bottom = item.box_xyxy_px
        is_object_YX = after.instances_YX == item.id
        [old_id] = np.unique(before.instances_YX[is_object_YX])
        np.testing.assert_array_equal(is_object_YX, before.instances_YX == old_id)
        old = before.item(int(old_id))
        assert (old.class_id, old.box_xyxy_px) == (item.class_id, (left, top, right, bottom))
        assert (old.area_px, old.centroid_xy_px) == (item.area_px, item.centroid_xy_px)


def test_ids_follow_their_objects():
    first, second, third = run(
        ObjectAssociator(),
        scene((1, 10, 10, 12), (1, 50, 10, 12), (2, 30, 30, 9)),
        # A new person before the others in raster order, and all have moved.
        scene((1, 30, 2, 6), (1, 14, 12, 12), (1, 46, 12, 12), (2, 32, 33, 9)),
        scene((1, 42, 12, 12), (2, 34, 36, 9)),
    )
    assert first == {(1, 10): 1, (1, 50): 2, (2, 30): 3}
    assert second == {(1, 14): 1, (1, 46): 2, (2, 32): 3, (1, 30): 4}
    assert third == {(1, 42): 2, (2, 34): 3}


@pytest.mark.parametrize(('num_gone', 'is_back'), [(1, True), (2, True), (3, False)])
def test_an_object_may_be_missing_for_some_frames(num_gone, is_back):
    here, gone = scene((1, 10, 10, 12), (2, 50, 30, 9)), scene((2, 50, 30, 9))
    history = run(ObjectAssociator(max_missed=2), here, *[gone] * num_gone, here)
    assert history[0] == {(1, 10): 1, (2, 50): 2}
    assert history[-1] == {(1, 10): 1 if is_back else 3, (2, 50): 2}


def test_missing_frames_count_only_in_a_row():
    here, gone = scene((1, 10, 10, 12)), scene()
    history = run(ObjectAssociator(max_missed=1), here, gone, here, gone, here)
    assert history[-1] == {(1, 10): 1}
    history = run(ObjectAssociator(max_missed=0), here, here, gone, here)
    assert history == [{(1, 10): 1}, {(1, 10): 1}, {}, {(1, 10): 2}]


def test_classes_are_never_mixed():
    history = run(ObjectAssociator(), scene((1, 10, 10, 12)), scene((2, 10, 10, 12)))
    assert history == [{(1, 10): 1}, {(2, 10): 2}]


def test_overlap_comes_before_nearness():
    # One lies a third over the old square; the other, too small to overlap, is nearer its middle.
    associator = ObjectAssociator(min_iou=0.3)
    before = scene((1, 20, 20, 20))
    after = scene((1, 30, 20, 20), (1, 18, 25, 10))
    assert run(associator, before, after)[1] == {(1, 30): 1, (1, 18): 2}


def test_small_objects_that_jump_are_found_by_nearness():
    # 4 px wide and 5 px apart: no overlap at all.
    before, after = scene((1, 10, 10, 4), (1, 40, 10, 4)), scene((1, 15, 10, 4), (1, 45, 10, 4))
    assert run(ObjectAssociator(), before, after)[1] == {(1, 15): 1, (1, 45): 2}
    far = scene((1, 20, 10, 4))
    assert run(ObjectAssociator(), before, far)[1] == {(1, 20): 3}


def test_the_best_pair_is_taken_first():
    associator = ObjectAssociator(min_iou=0.1)
    # Both overlap the old one; the one with more overlap goes on, whatever the order.
    before = scene((1, 20, 20, 12))
    after = scene((1, 10, 20, 12), (1, 23, 20, 12))
    assert run(associator, before, after)[1] == {(1, 23): 1, (1, 10): 2}


def test_time_going_back_or_another_size_starts_anew():
    associator, picture = ObjectAssociator(), scene((1, 10, 10, 12))
    assert associator.update(picture, 100).items[0].id == 1
    assert associator.update(picture, 100).items[0].id == 1
    assert associator.update(picture, 99).items[0].id == 2
    assert associator.update(scene((1, 10, 10, 12), shape=(60, 81)), 101).items[0].id == 3


def test_the_input_is_left_alone():
    associator, picture = ObjectAssociator(), scene((1, 10, 10, 12), (2, 50, 30, 9))
    associator.update(scene((2, 50, 30, 9)), 0)
    before = picture.instances_YX.copy()
    updated = associator.update(picture, 1)
    assert [item.id for item in updated.items] == [1, 2]
    assert updated.items[0].class_id == 2
    np.testing.assert_array_equal(picture.instances_YX, before)
    assert [item.class_id for item in picture.items] == [1, 2]


def test_ids_given_up_longest_ago_come_back_first(monkeypatch):
    monkeypatch.setattr(association, 'MAX_OBJECTS', 3)
    left, middle, right = (1, 2, 10, 8), (1, 30, 10, 8), (1, 60, 10, 8)
    history = run(
        ObjectAssociator(max_missed=0),
        scene(left, middle),
        scene(middle),  # 1 is free again, after 3
        scene(right),  # 3, and 2 is free after 1
        scene(left, right),
        scene(left, middle, right),
    )
    assert history[2:] == [
        {(1, 60): 3},
        {(1, 60): 3, (1, 2): 1},
        {(1, 60): 3, (1, 2): 1, (1, 30): 2},
    ]


def test_where_ids_run_out_the_longest_missing_are_forgotten(monkeypatch):
    monkeypatch.setattr(association, 'MAX_OBJECTS', 2)
    left, middle, right = (1, 2, 10, 8), (1, 30, 10, 8), (1, 60, 10, 8)
    history = run(
        ObjectAssociator(max_missed=100), scene(left, middle), scene(middle), scene(), scene(right)
    )
    assert history[-1] == {(1, 60): 1}


@settings(max_examples=60)
@given(st.data())
def test_whatever_comes_no_two_objects_share_an_id(data):
    squares = st.tuples(
        st.integers(1, 2), st.integers(0, 14), st.integers(0, 10), st.integers(1, 6)
    )
    frames = data.draw(st.lists(st.lists(squares, max_size=6), max_size=6))
    associator = ObjectAssociator(max_missed=data.draw(st.integers(0, 2)), min_iou=0.2)
    # A frame that is shown again keeps all its ids.
    for boxes in frames:
        objects = scene(*boxes, shape=(11, 15))
        stamp_ns = data.draw(st.integers(0, 3))
        updated = associator.update(objects, stamp_ns)
        assert_same_objects(objects, updated)
        assert associator.update(objects, stamp_ns).items == updated.items


def drifting(seed, num_objects=12, num_frames=40, shape=(120, 160)):
    """Frames of discs that move, hide each other and are missed now and then; with the truth."""
    rng = np.random.default_rng(seed)
    height, width = shape
    centers, speeds = (
        rng.random((num_objects, 2)) * [width, height],
        rng.normal(0, 2, (num_objects, 2)),
    )
    radii, class_ids = rng.integers(3, 10, num_objects), rng.integers(1, 3, num_objects)
    for _ in range(num_frames):
        labels_YX, truth_YX = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for i in np.flatnonzero(rng.random(num_objects) > 0.05):
            at = tuple(int(c) for c in centers[i])
            cv2.circle(labels_YX, at, int(radii[i]), int(class_ids[i]), -1)
            cv2.circle(truth_YX, at, int(radii[i]), int(i) + 1, -1)
        objects = find_objects(Segmentation(labels_YX, None, CLASSES, {}), min_area_px=10)
        yield objects, truth_YX
        centers = centers + speeds
        is_out = (centers < 0) | (centers > [width, height])
        speeds = np.where(is_out, -speeds, speeds)


def share_of_switches(**options):
    """How often an object's id is not the one it had when it was last seen."""
    switches = []
    for seed in range(4):
        associator, last_ids = ObjectAssociator(**options), {}
        for i, (objects, truth_YX) in enumerate(drifting(seed)):
            for item in associator.update(objects, i).items:
                left, top, right, bottom = item.box_xyxy_px
                is_old_YX = objects.instances_YX[top:bottom, left:right]
                old_id = next(o.id for o in objects.items if o.box_xyxy_px == item.box_xyxy_px)
                owner = np.bincount(truth_YX[top:bottom, left:right][is_old_YX == old_id]).argmax()
                if owner in last_ids:
                    switches.append(last_ids[owner] != item.id)
                last_ids[owner] = item.id
    return np.mean(switches)


def test_few_ids_change_in_a_crowd():
    # Objects that merge and part again count too: regions are all there is to go by.
    assert share_of_switches() < 0.012
    # Without a memory for those that are missed it would be several times as many.
    assert share_of_switches(max_missed=0) > 0.04


@pytest.mark.parametrize('options', [{'max_missed': -1}, {'min_iou': 0.0}, {'min_iou': 1.1}])
def test_refuses_options_that_cannot_work(options):
    with pytest.raises(ConfigurationError, match=r'expected max_missed .* got'):
        ObjectAssociator(**options)
