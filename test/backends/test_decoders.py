"""What is made of graphs' tensors, against plain loops written from their definitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import torch

from seg_perception.backends import ModelOutput
from seg_perception.backends.outputs import OutputDecoder, all_tensors
from seg_perception.errors import InferenceError
from seg_perception.imaging.preprocess import plan_resize
from seg_perception.models.card import ModelCard
from seg_perception.models.output_spec import DecodingOptions, OutputSpec
from seg_perception.postprocess import GridSampler, label_objects
from seg_perception.structures import ClassTable

MakeCard = Callable[..., ModelCard]
INPUT_HW = (64, 96)


@pytest.fixture
def decode(make_card: MakeCard) -> Callable[..., ModelOutput]:
    """Decodes tensors as a kind with its options; the card has three classes."""

    def run(kind: str, tensors: list[torch.Tensor], **options: Any) -> ModelOutput:
        card = dataclasses.replace(
            make_card('small.onnx', 3), output=OutputSpec(kind, options=DecodingOptions(**options))
        )
        return OutputDecoder(card)(tensors, INPUT_HW, 1)

    return run


def test_all_tensors_come_in_a_stated_order() -> None:
    a, b, c, d = (torch.zeros(i) for i in range(4))
    assert all_tensors(a) == (a,)
    assert [t.numel() for t in all_tensors({'aux': a, 'out': b, 'more': (c, [d])})] == [1, 0, 2, 3]
    assert [t.numel() for t in all_tensors([{'boxes': c, 'masks': None}, (b,)])] == [2, 1]
    with pytest.raises(InferenceError, match='empty dict'):
        all_tensors({})
    with pytest.raises(InferenceError, match='got float'):
        all_tensors((a, 1.0))


# --- queries -------------------------------------------------------------------------------------


def queries(num_queries: int = 6, batch: int = 1, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, num_queries, 4, generator=generator) * 3,
        torch.randn(batch, num_queries, 5, 7, generator=generator) * 3,
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits.astype(np.float64))
    return exp / exp.sum()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_semantic_queries_add_up_their_masks(decode: Callable[..., ModelOutput]) -> None:
    tensors = queries()
    output = decode('queries', tensors)
    assert output.is_probabilities
    expected_CHW = np.zeros((3, 5, 7))
    for class_logits, mask in zip(tensors[0][0].numpy(), tensors[1][0].numpy(), strict=True):
        for c, probability in enumerate(softmax(class_logits)[:-1]):
            expected_CHW[c] += probability * sigmoid(mask)
    assert output.logits_BCHW is not None
    np.testing.assert_allclose(output.logits_BCHW[0], expected_CHW, rtol=1e-4)
    larger = decode('queries', tensors, mask_hw=(20, 30))
    assert larger.logits_BCHW is not None
    assert larger.logits_BCHW.shape == (1, 3, 20, 30)


@pytest.mark.parametrize(
    ('threshold', 'max_objects'), [(0.3, 100), (0.0, 100), (0.3, 2), (1.0, 9)]
)
def test_instance_queries(
    decode: Callable[..., ModelOutput], threshold: float, max_objects: int
) -> None:
    tensors = queries(9)
    [found] = (
        decode(
            'queries', tensors, task='instance', score_threshold=threshold, max_objects=max_objects
        ).instances
        or ()
    )
    pairs = []
    for class_logits, mask in zip(tensors[0][0].numpy(), tensors[1][0].numpy(), strict=True):
        for c, probability in enumerate(softmax(class_logits)[:-1]):
            mean = sigmoid(mask[mask > 0]).sum() / ((mask > 0).sum() + 1e-6)
            pairs.append((probability, probability * mean, c, mask))
    pairs = sorted(pairs, key=lambda pair: -pair[0])[:9]
    pairs = sorted((p for p in pairs if p[1] >= threshold), key=lambda pair: -pair[1])
    pairs = pairs[:max_objects]
    np.testing.assert_allclose(found.scores_N, [p[1] for p in pairs], rtol=1e-4)
    assert found.class_ids_N.tolist() == [p[2] for p in pairs]
    for mask_HW, pair in zip(found.mask_logits_NHW.numpy(), pairs, strict=True):
        np.testing.assert_array_equal(mask_HW, pair[3])


def test_panoptic_queries_are_the_ones_sure_of_a_class(
    decode: Callable[..., ModelOutput],
) -> None:
    tensors = queries(20)
    output = decode('queries', tensors, task='panoptic', score_threshold=0.7)
    [found] = output.instances or ()
    expected = [
        (q, int(p.argmax()), p.max())
        for q, p in enumerate(softmax(logits) for logits in tensors[0][0].numpy())
        if p.argmax() < 3 and p.max() > 0.7
    ]
    assert 2 < len(expected) < 20
    assert found.is_panoptic
    assert found.class_ids_N.tolist() == [class_id for _, class_id, _ in expected]
    np.testing.assert_allclose(found.scores_N, [score for _, _, score in expected], rtol=1e-5)
    torch.testing.assert_close(
        found.mask_logits_NHW, tensors[1][0, [q for q, _, _ in expected]], rtol=0, atol=0
    )
    few = decode('queries', tensors, task='panoptic', score_threshold=0.7, max_objects=2)
    assert few.instances is not None
    assert sorted(few.instances[0].scores_N.tolist()) == sorted(found.scores_N.tolist())[-2:]


def test_no_query_is_sure(decode: Callable[..., ModelOutput]) -> None:
    tensors = queries()
    tensors[0][..., 3] = 50.0  # "no object"
    for task in ('instance', 'panoptic'):
        [found] = decode('queries', tensors, task=task).instances or ()
        assert found.mask_logits_NHW.shape == (0, 5, 7)


@pytest.mark.parametrize(
    ('shapes', 'expected'),
    [
        ([(1, 6, 5), (1, 6, 5, 7)], 'got 5; correct classes.names'),
        ([(1, 6, 4)], 'correct output.kind'),
        ([(1, 6, 4), (1, 7, 5, 7)], 'correct output.kind'),
        ([(1, 4, 8, 8)], 'correct output.kind'),
    ],
)
def test_other_tensors_are_no_queries(
    decode: Callable[..., ModelOutput], shapes: list[tuple[int, ...]], expected: str
) -> None:
    with pytest.raises(InferenceError, match=expected):
        decode('queries', [torch.zeros(shape) for shape in shapes])


# --- detections ----------------------------------------------------------------------------------


def detections(num: int, mask_hw: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    left_top = rng.uniform(0, 40, (num, 2))
    boxes = np.concatenate([left_top, left_top + rng.uniform(2, 40, (num, 2))], 1)
    return [
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(rng.integers(0, 3, num)),
        torch.tensor(rng.uniform(0, 1, num), dtype=torch.float32),
        torch.tensor(rng.uniform(0, 1, (num, 1, *mask_hw)), dtype=torch.float32),
    ]


def test_detections_with_whole_masks(decode: Callable[..., ModelOutput]) -> None:
    boxes, class_ids, scores, masks = tensors = detections(8, INPUT_HW)
    [found] = decode('detections', tensors, score_threshold=0.4, max_objects=3).instances or ()
    order = [i for i in np.argsort(-scores.numpy()) if scores[i] >= 0.4][:3]
    assert found.scores_N.tolist() == scores[order].tolist()
    assert found.class_ids_N.tolist() == class_ids[order].tolist()
    assert found.boxes_xyxy_N4 is not None
    torch.testing.assert_close(found.boxes_xyxy_N4, boxes[order], rtol=0, atol=0)
    assert torch.equal(found.mask_logits_NHW > 0, masks[order, 0] > 0.5)


@pytest.mark.parametrize('num', [0, 1, 5])
def test_detections_with_a_mask_per_box_get_a_margin(
    decode: Callable[..., ModelOutput], num: int
) -> None:
    boxes, _, scores, masks = tensors = detections(num, (4, 7))
    [found] = decode('detections', tensors, masks='box', score_threshold=0.0).instances or ()
    assert found.masks_tile_boxes
    assert found.boxes_xyxy_N4 is not None
    assert found.mask_logits_NHW.shape == (num, 6, 9)
    for position, i in enumerate(np.argsort(-scores.numpy(), kind='stable')):
        left, top, right, bottom = boxes[i].tolist()
        dx, dy = (right - left) / 7, (bottom - top) / 4
        np.testing.assert_allclose(
            found.boxes_xyxy_N4[position],
            [left - dx, top - dy, right + dx, bottom + dy],
            rtol=1e-5,
        )
        expected = np.pad(masks[i, 0].numpy(), 1) - np.float32(0.5)
        np.testing.assert_array_equal(found.mask_logits_NHW[position], expected)


def test_masks_of_boxes_are_pasted(decode: Callable[..., ModelOutput]) -> None:
    """As torchvision pastes them, beyond the borders and on top of each other too."""
    boxes, class_ids, scores, masks = detections(12, (5, 7), seed=3)
    boxes += torch.tensor([-9.0, -9.0, 31.0, 5.0])  # some leave the image
    masks = torch.nn.functional.avg_pool2d(masks, 3, 1, 1) + 0.1
    [found] = (
        decode(
            'detections', [boxes, class_ids, scores, masks], masks='box', score_threshold=0.0
        ).instances
        or ()
    )
    geometry = plan_resize(INPUT_HW, INPUT_HW, 'stretch')
    device = torch.device('cpu')
    sampler = GridSampler((7, 9), geometry, INPUT_HW, align_corners=False, device=device)
    made = label_objects(found, sampler, ClassTable(('a', 'b', 'c')))
    expected_YX = np.full(INPUT_HW, 255)
    for i in np.argsort(scores.numpy(), kind='stable'):
        pasted_YX = reference.pasted_mask(masks[i, 0].numpy(), tuple(boxes[i].tolist()), INPUT_HW)
        expected_YX[pasted_YX] = class_ids[i]
    assert 0.2 < (expected_YX < 255).mean() < 0.8
    np.testing.assert_array_equal(made.labels_YX, expected_YX)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda t: t[:3], '3 tensors'),
        (lambda t: [t[0], t[1] + 3, *t[2:]], 'class ids 0 to 2'),
        (lambda t: [t[0], t[1] - 3, *t[2:]], 'class ids 0 to 2'),
        (lambda t: [t[0][:, :3], *t[1:]], r'boxes \(N, 4\)'),
        (lambda t: [*t[:3], t[3][:, 0]], r'masks \(N, 1, H, W\)'),
        (lambda t: [torch.zeros(()), *t[1:]], r'boxes \(N, 4\)'),
        (lambda t: [*t[:2], t[2] * torch.nan, t[3]], 'NaN'),
    ],
)
def test_other_tensors_are_no_detections(
    decode: Callable[..., ModelOutput], change: Callable[..., Any], expected: str
) -> None:
    with pytest.raises(InferenceError, match=expected):
        decode('detections', change(detections(4, (4, 7))))


def test_images_that_filled_the_batch_up_are_left_out(make_card: MakeCard) -> None:
    options = DecodingOptions(task='instance')
    card = dataclasses.replace(
        make_card('small.onnx', 3), output=OutputSpec('queries', options=options)
    )
    decoder = OutputDecoder(card)
    output = decoder(queries(batch=4), INPUT_HW, 3)
    assert output.instances is not None
    assert len(output.instances) == 3
    semantic = dataclasses.replace(card, output=OutputSpec('queries'))
    scores = OutputDecoder(semantic)(queries(batch=4), INPUT_HW, 3).logits_BCHW
    assert scores is not None
    assert scores.shape == (3, 3, 5, 7)
