"""Both layouts of YOLO segmentation exports, decoded, against plain loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.backends import InstanceOutput
from seg_perception.backends.decoders import suppression
from seg_perception.backends.decoders.suppression import surviving
from seg_perception.backends.outputs import OutputDecoder
from seg_perception.errors import InferenceError
from seg_perception.models.card import ModelCard
from seg_perception.models.output_spec import DecodingOptions, OutputSpec

MakeCard = Callable[..., ModelCard]
INPUT_HW = (64, 96)
NUM_CLASSES, NUM_PROTOS = 3, 8


@pytest.fixture
def decode(make_card: MakeCard) -> Callable[..., InstanceOutput]:
    """Decodes the tensors of one image."""

    def run(tensors: list[torch.Tensor], **options: Any) -> InstanceOutput:
        options = {'score_threshold': 0.25, 'iou_threshold': 0.5} | options
        card = dataclasses.replace(
            make_card('small.onnx', NUM_CLASSES),
            output=OutputSpec('yolo_seg', options=DecodingOptions(**options)),
        )
        [found] = OutputDecoder(card)(tensors, INPUT_HW, 1).instances or ()
        return found

    return run


def raw(num_anchors: int = 200, seed: int = 0, batch: int = 1) -> list[torch.Tensor]:
    """Anchors that crowd around a few places, as a network's do."""
    rng = np.random.default_rng(seed)
    shape = (batch, num_anchors)
    places = rng.uniform(10, 60, (6, 2))[rng.integers(0, 6, shape)]
    parts = [
        places + rng.normal(0, 2, (*shape, 2)),
        rng.uniform(8, 20, (*shape, 2)),
        rng.uniform(0, 1, (*shape, NUM_CLASSES)) ** 3,
        rng.normal(0, 1, (*shape, NUM_PROTOS)),
    ]
    protos = rng.normal(0, 1, (batch, NUM_PROTOS, 16, 24))
    anchors = np.concatenate(parts, 2).transpose(0, 2, 1)
    return [torch.tensor(t, dtype=torch.float32) for t in (anchors, protos)]


def boxes_of(centers_and_sizes: np.ndarray) -> np.ndarray:
    x, y, width, height = centers_and_sizes.T
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)


def check_masks(found: InstanceOutput, coefficients: np.ndarray, protos: np.ndarray) -> None:
    assert found.mask_logits_NHW.shape == (len(coefficients), 16, 24)
    for mask_HW, weights in zip(found.mask_logits_NHW.numpy(), coefficients, strict=True):
        expected = sum(weight * proto for weight, proto in zip(weights, protos, strict=True))
        np.testing.assert_allclose(mask_HW, expected, atol=1e-4)


@pytest.mark.parametrize('max_objects', [100, 3])
def test_raw_anchors(decode: Callable[..., InstanceOutput], max_objects: int) -> None:
    tensors = raw()
    found = decode(tensors, max_objects=max_objects)
    anchors = tensors[0][0].numpy().T
    scores, class_ids = anchors[:, 4:7].max(1), anchors[:, 4:7].argmax(1)
    sure = np.flatnonzero(scores >= 0.25)
    boxes = boxes_of(anchors[:, :4])
    kept = sure[reference.suppress(boxes[sure], scores[sure], class_ids[sure], 0.5)][:max_objects]
    assert 3 <= len(kept) < len(sure) / 2
    assert found.class_ids_N.tolist() == class_ids[kept].tolist()
    np.testing.assert_array_equal(found.scores_N, scores[kept])
    assert found.boxes_xyxy_N4 is not None
    np.testing.assert_allclose(found.boxes_xyxy_N4, boxes[kept], rtol=1e-5)
    check_masks(found, anchors[kept, 7:], tensors[1][0].numpy())


def test_objectness_weighs_the_classes(decode: Callable[..., InstanceOutput]) -> None:
    anchors, protos = raw()
    objectness = torch.rand(1, 1, 200, generator=torch.Generator().manual_seed(5))
    with_objectness = torch.cat([anchors[:, :4], objectness, anchors[:, 4:]], 1).transpose(1, 2)
    found = decode([with_objectness, protos])
    weighted = anchors.clone()
    weighted[:, 4:7] *= objectness
    known = decode([weighted, protos])
    assert 3 <= len(known.scores_N) < 100
    for part in ('scores_N', 'class_ids_N', 'boxes_xyxy_N4', 'mask_logits_NHW'):
        torch.testing.assert_close(getattr(found, part), getattr(known, part))


def test_objectness_of_one_class_is_not_taken_for_decoded_rows(make_card: MakeCard) -> None:
    """Both have 6 numbers before the coefficients."""
    anchors, protos = raw()
    one_class = torch.cat([anchors[:, :5], anchors[:, 4 + NUM_CLASSES :]], 1)
    objectness = torch.rand(1, 1, 200, generator=torch.Generator().manual_seed(5))
    rows = torch.cat([one_class[:, :4], objectness, one_class[:, 4:]], 1).transpose(1, 2)
    weighted = one_class.clone()
    weighted[:, 4:5] *= objectness
    output = OutputSpec('yolo_seg', options=DecodingOptions(score_threshold=0.1))
    card = dataclasses.replace(make_card('small.onnx', 1), output=output)
    [found], [known] = (
        OutputDecoder(card)([first, protos], INPUT_HW, 1).instances or ()
        for first in (rows, weighted)
    )
    assert len(known.scores_N) >= 3
    for part in ('scores_N', 'class_ids_N', 'boxes_xyxy_N4', 'mask_logits_NHW'):
        torch.testing.assert_close(getattr(found, part), getattr(known, part))
    decoded = torch.zeros(1, 5, 6 + NUM_PROTOS)
    decoded[0, 0, :5] = torch.tensor([2.0, 3.0, 20.0, 30.0, 0.9])
    [found] = OutputDecoder(card)([decoded, protos], INPUT_HW, 1).instances or ()
    assert found.boxes_xyxy_N4 is not None
    assert found.boxes_xyxy_N4.tolist() == [[2.0, 3.0, 20.0, 30.0]]


@pytest.mark.parametrize('max_objects', [100, 3])
def test_decoded_rows(decode: Callable[..., InstanceOutput], max_objects: int) -> None:
    rng = np.random.default_rng(2)
    rows = np.zeros((30, 6 + NUM_PROTOS), np.float32)  # the last ten hold nothing
    rows[:20, :4] = rng.uniform(0, 60, (20, 4))
    rows[:20, 4] = rng.uniform(0.1, 1, 20)
    rows[:20, 5] = rng.integers(0, NUM_CLASSES, 20)
    rows[:20, 6:] = rng.normal(0, 1, (20, NUM_PROTOS))
    protos = raw()[1]
    found = decode([torch.tensor(rows)[None], protos], max_objects=max_objects)
    order = np.argsort(-rows[:, 4], kind='stable')
    kept = [i for i in order if rows[i, 4] >= 0.25][:max_objects]
    np.testing.assert_array_equal(found.scores_N, rows[kept, 4])
    np.testing.assert_array_equal(found.class_ids_N, rows[kept, 5])
    assert found.boxes_xyxy_N4 is not None
    np.testing.assert_array_equal(found.boxes_xyxy_N4, rows[kept, :4])
    check_masks(found, rows[kept, 6:], protos[0].numpy())


def test_nothing_found(decode: Callable[..., InstanceOutput]) -> None:
    anchors, protos = raw()
    for tensors in ([anchors * 0, protos], [torch.zeros(1, 300, 6 + NUM_PROTOS), protos]):
        found = decode(tensors)
        assert found.mask_logits_NHW.shape == (0, 16, 24)
        assert found.boxes_xyxy_N4 is not None
        assert found.boxes_xyxy_N4.shape == (0, 4)


def test_half_precision(decode: Callable[..., InstanceOutput]) -> None:
    tensors = raw()
    whole = decode(tensors)
    half = decode([tensor.half() for tensor in tensors])
    assert half.scores_N.dtype == half.mask_logits_NHW.dtype == torch.float32
    torch.testing.assert_close(half.scores_N[:2], whole.scores_N[:2], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda a, p: [a], 'correct classes.names or output.kind'),
        (lambda a, p: [a[:, :-1], p], r'4 \+ 3 classes \+ M'),
        (lambda a, p: [torch.cat([a, a]), p], 'correct classes.names'),
        (lambda a, p: [p, a], 'correct classes.names'),
        (lambda a, p: [a + 2, p], 'scores of 0 to 1'),
        (lambda a, p: [a * torch.nan, p], 'NaN'),
        (lambda a, p: [a, p * torch.nan], 'NaN'),
        (lambda a, p: [torch.full((1, 9, 6 + NUM_PROTOS), 0.9) * 5, p], 'scores of 0 to 1'),
        (lambda a, p: [_rows_of_class(3.0), p], 'class ids 0 to 2'),
        (lambda a, p: [_rows_of_class(-1.0), p], 'class ids 0 to 2'),
    ],
)
def test_other_tensors_are_refused(
    decode: Callable[..., InstanceOutput], change: Callable[..., Any], expected: str
) -> None:
    with pytest.raises(InferenceError, match=expected):
        decode(change(*raw()))


def _rows_of_class(class_id: float) -> torch.Tensor:
    rows = torch.full((1, 2, 6 + NUM_PROTOS), 0.9)
    rows[..., 5] = class_id
    return rows


@given(
    num=st.integers(0, 60),
    threshold=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    block=st.sampled_from([1, 7, 1000]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_suppression_is_greedy(num: int, threshold: float, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # whole numbers: boxes that touch, are empty, inverted or the same
    corners = rng.integers(0, 12, (num, 2))
    boxes = np.concatenate([corners, corners + rng.integers(-1, 8, (num, 2))], 1)
    class_ids = rng.integers(0, 2, num)
    expected = reference.suppress(boxes, -np.arange(num), class_ids, threshold)
    tensors = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(class_ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, '_BLOCK', block)
        kept = surviving(*tensors, iou_threshold=threshold, max_boxes=100)
        few = surviving(*tensors, iou_threshold=threshold, max_boxes=4)
    assert kept.tolist() == expected
    assert few.tolist() == expected[:4]


def test_a_broken_model_that_finds_everything_everywhere(
    decode: Callable[..., InstanceOutput],
) -> None:
    anchors, protos = raw(20000)
    anchors[:, 4:7] = 0.9
    anchors[:, :2] = torch.rand(1, 2, 20000) * 1e4  # few overlap
    found = decode([anchors, protos], max_objects=50)
    assert len(found.scores_N) == 50
