"""The demo's camera looks where it should."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.sources.photographs import (
    SCENE_S,
    SCENES,
    PhotographsSource,
    Scene,
    look,
    view_at,
)


def test_whole_view_of_a_photograph_of_the_right_size_is_that_photograph():
    photograph = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(look(photograph, (0.5, 0.5, 1.0)), photograph)


@pytest.mark.parametrize(('center', 'expected'), [((0.0, 0.5), 0), ((1.0, 0.5), 200)])
def test_view_stays_within_the_photograph(center, expected):
    # Left half 0, right half 200; half the height shows a quarter of the width of 4:3.
    photograph = np.zeros((480, 640, 3), np.uint8)
    photograph[:, 320:] = 200
    view = look(photograph, (*center, 0.5))
    assert (view == expected).mean() > 0.99


def test_zoom_halves_what_is_seen():
    ramp = np.broadcast_to(np.linspace(0, 255, 640)[None, :, None], (480, 640, 3))
    view = look(np.ascontiguousarray(ramp.astype(np.uint8)), (0.5, 0.5, 0.5))
    assert view[240, 0, 0] == pytest.approx(64, abs=2)
    assert view[240, -1, 0] == pytest.approx(191, abs=2)


def test_camera_starts_and_ends_where_the_scene_says():
    scene = Scene('none', (0.1, 0.2, 1.0), (0.5, 0.6, 0.4))
    assert view_at(scene, 0.0) == scene.start
    assert view_at(scene, 1.0) == pytest.approx(scene.end)
    assert view_at(scene, 0.5) == pytest.approx((0.3, 0.4, 0.7))


def test_every_picture_of_a_round_is_another():
    pytest.importorskip('skimage', reason="scikit-image (extra 'demo') is not installed")
    rate_hz = 4.0
    items = list(PhotographsSource(rate_hz).frames())
    assert len(items) == round(len(SCENES) * SCENE_S * rate_hz)
    assert [item.offset_s for item in items] == [i / rate_hz for i in range(len(items))]
    assert len({bytes(item.frame.data) for item in items}) == len(items)
    assert {(i.frame.width, i.frame.height, i.frame.encoding) for i in items} == {
        (640, 480, 'rgb8')
    }
