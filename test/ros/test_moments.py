"""Which pictures end up on the monitor's sheet."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.ros.moments import Moments

NAMES = ['background', 'person', 'cat', 'chair', 'sofa', 'table']


def picture(level: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.fixture
def moments():
    return Moments(NAMES.__getitem__)


def test_no_picture_no_sheet(moments):
    assert moments.sheet() is None


def test_each_class_keeps_the_picture_where_it_was_largest(moments):
    moments.add(picture(10), {0: 0.8, 1: 0.2})
    moments.add(picture(20), {0: 0.6, 1: 0.3, 2: 0.1})
    moments.add(picture(30), {0: 0.7, 1: 0.25})
    moments.add(picture(40), {0: 0.5, 2: 0.5})
    chosen = moments.chosen()
    assert [(m.class_id, m.share, int(m.overlay_rgb[0, 0, 0])) for m in chosen] == [
        (2, 0.5, 40),
        (1, 0.3, 20),
    ]


def test_nothing_found_comes_last(moments):
    moments.add(picture(10), {0: 0.995, 3: 0.005})
    moments.add(picture(20), {0: 0.9, 3: 0.1})
    assert [m.class_id for m in moments.chosen()] == [3, None]


@pytest.mark.parametrize(('num', 'grid'), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (4, (2, 2))])
def test_sheet_has_a_tile_for_each(moments, num, grid):
    for class_id in range(1, num + 1):
        moments.add(picture(class_id), {class_id: 1.0 - class_id / 10})
    sheet = moments.sheet()
    tile_h = sheet.shape[0] // grid[0]
    assert sheet.shape[1] == 60 * grid[1]
    assert tile_h > 40
    for i in range(num):
        y, x = divmod(i, grid[1])
        tile = sheet[y * tile_h : y * tile_h + 40, x * 60 : (x + 1) * 60]
        assert (tile == i + 1).all()


def test_pictures_of_other_sizes_fit_the_sheet(moments):
    moments.add(picture(1), {1: 0.9})
    moments.add(picture(2, 80, 20), {2: 0.5})
    assert moments.sheet().shape[1] == 120


def test_memory_is_bounded():
    moments = Moments(str)
    for class_id in range(50):
        moments.add(picture(class_id), {class_id: 0.1 + class_id / 100})
    assert [m.class_id for m in moments.chosen(100)] == list(range(49, 41, -1))
