"""Masks of single objects to pixels, on both paths, against the slow obvious twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.backends import InstanceOutput
from seg_perception.imaging.resize_plan import plan_resize
from seg_perception.postprocess import GridSampler, instances, label_objects
from seg_perception.postprocess.instances import _painted, _shared_out, _stacked
from seg_perception.structures import ClassTable

PATHS = {'painted': _painted, 'stacked': _stacked}
CLASSES = ClassTable(('cup', 'bowl', 'table'))
SIZES = st.tuples(st.integers(1, 13), st.integers(1, 13))


def sampler_of(
    grid_hw: tuple[int, int],
    source_hw: tuple[int, int],
    input_hw: tuple[int, int] = (16, 24),
    output_hw: tuple[int, int] | None = None,
) -> tuple[GridSampler, dict[str, Any]]:
    """A sampler, and what the twins have to know of it."""
    geometry = plan_resize(source_hw, input_hw, 'letterbox')
    output_hw = output_hw or source_hw
    device = torch.device('cpu')
    sampler = GridSampler(grid_hw, geometry, output_hw, align_corners=False, device=device)
    return sampler, {
        'input_hw': input_hw,
        'content_hw': geometry.content_hw,
        'offset_yx': geometry.offset_yx,
        'output_hw': output_hw,
    }


def found(
    masks: Any, scores: Any, boxes: Any = None, class_ids: Any = None, **options: bool
) -> InstanceOutput:
    scores = torch.as_tensor(scores, dtype=torch.float32)
    return InstanceOutput(
        torch.as_tensor(np.asarray(masks), dtype=torch.float32),
        scores,
        torch.zeros(len(scores), dtype=torch.int64)
        if class_ids is None
        else torch.tensor(class_ids),
        None if boxes is None else torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        **options,
    )


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('has_boxes', ['no boxes', 'boxes', 'tiled boxes'])
@given(grid_hw=SIZES, source_hw=SIZES, output_hw=SIZES, num=st.integers(0, 5), seed=st.integers())
@settings(max_examples=25)
def test_every_pixel_belongs_to_the_surest(
    path: str,
    has_boxes: str,
    grid_hw: tuple[int, int],
    source_hw: tuple[int, int],
    output_hw: tuple[int, int],
    num: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(abs(seed))
    # Quarters: neither way of interpolating rounds them to another side of 0.
    masks_NHW = rng.integers(-8, 9, (num, *grid_hw)) / 4 + 1e-3
    scores = rng.choice([0.25, 0.5, 0.5, 0.75], num).tolist()
    # Beyond the borders, empty and the wrong way round too, with edges on no pixel's centre.
    boxes = None
    if has_boxes != 'no boxes':
        boxes = (rng.integers(-4, 30, (num, 4)) + 0.2871).tolist()
    is_tiled = has_boxes == 'tiled boxes'
    sampler, view = sampler_of(grid_hw, source_hw, output_hw=output_hw)
    owners_YX = PATHS[path](found(masks_NHW, scores, boxes, masks_tile_boxes=is_tiled), sampler)
    expected_YX = reference.own_pixels(masks_NHW, scores, boxes, masks_tile_boxes=is_tiled, **view)
    np.testing.assert_array_equal(owners_YX.numpy(), expected_YX)


@given(grid_hw=SIZES, source_hw=SIZES, num=st.integers(0, 5), seed=st.integers())
@settings(max_examples=40)
def test_panoptic_objects_share_out_the_pixels(
    grid_hw: tuple[int, int], source_hw: tuple[int, int], num: int, seed: int
) -> None:
    rng = np.random.default_rng(abs(seed))
    masks_NHW = rng.normal(0, 3, (num, *grid_hw)).astype(np.float32)
    scores = rng.uniform(0.5, 1.0, num).tolist()
    sampler, view = sampler_of(grid_hw, source_hw)
    output = found(masks_NHW, scores, is_panoptic=True)
    owners_YX = _shared_out(output, sampler, 0.6)
    expected_YX = reference.share_pixels(masks_NHW, scores, 0.6, **view)
    np.testing.assert_array_equal(owners_YX.numpy(), expected_YX)


@pytest.mark.parametrize('path', ['painted', 'stacked', 'panoptic'])
def test_many_objects_in_blocks_are_as_all_at_once(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    masks_NHW, scores = rng.normal(-1, 1, (40, 8, 12)), rng.permutation(40) / 50
    sampler, _ = sampler_of((8, 12), (30, 40))
    is_panoptic = path == 'panoptic'
    output = found(masks_NHW, scores, is_panoptic=is_panoptic)

    def owners() -> torch.Tensor:
        return _shared_out(output, sampler, 0.1) if is_panoptic else PATHS[path](output, sampler)

    at_once_YX = owners()
    assert len(at_once_YX.unique()) > 5
    monkeypatch.setattr(instances, '_MAX_BLOCK_BYTES', 4 * 30 * 40 * 7)
    torch.testing.assert_close(owners(), at_once_YX, rtol=0, atol=0)


def test_labels_and_confidence_are_the_owners() -> None:
    masks = np.full((3, 1, 4), -1.0)
    masks[0, :, :2] = 1  # unsure, partly hidden by the next
    masks[1, :, 1] = 1
    masks[2, :, 1] = 1  # wholly hidden
    sampler, _ = sampler_of((1, 4), (1, 4), (1, 4))
    output = found(masks, [0.3, 0.9, 0.8], class_ids=[0, 1, 2])
    labeled = label_objects(output, sampler, CLASSES)
    assert labeled.labels_YX.tolist() == [[0, 1, 255, 255]]
    assert labeled.confidence_YX is not None
    assert labeled.confidence_YX.tolist() == [[76, 230, 0, 0]]
    assert labeled.owners_YX.tolist() == [[1, 2, 0, 0]]
    unsure = label_objects(
        output,
        sampler,
        ClassTable(('a', 'b', 'background')),
        confidence=False,
        confidence_threshold=0.5,
    )
    assert unsure.labels_YX.tolist() == [[255, 1, 2, 2]]
    assert unsure.confidence_YX is None


def test_stuff_has_labels_but_is_no_object() -> None:
    sampler, _ = sampler_of((1, 4), (1, 4), (1, 4))
    masks = np.array([[[9.0, 9.0, -9.0, -9.0]], [[-9.0, -9.0, 9.0, 9.0]]])
    output = found(masks, [0.9, 0.8], class_ids=[2, 0], is_panoptic=True)
    labeled = label_objects(output, sampler, CLASSES, thing_ids=[0, 1])
    assert labeled.labels_YX.tolist() == [[2, 2, 0, 0]]
    assert labeled.owners_YX.tolist() == [[0, 0, 2, 2]]


def test_no_objects_are_an_image_of_nothing() -> None:
    sampler, _ = sampler_of((4, 4), (3, 5))
    for boxes, options in (
        (None, {}),
        (np.empty((0, 4)), {}),
        (np.empty((0, 4)), {'masks_tile_boxes': True}),
        (None, {'is_panoptic': True}),
    ):
        labeled = label_objects(found(np.empty((0, 4, 4)), [], boxes, **options), sampler, CLASSES)
        assert (labeled.labels_YX == 255).all()
        assert labeled.labels_YX.shape == (3, 5)
        assert not labeled.owners_YX.any()
    assert not _stacked(found(np.empty((0, 4, 4)), []), sampler).any()
