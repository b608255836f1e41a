"""Exports of YOLO segmentation models: boxes with mask coefficients, and mask prototypes.

The second tensor holds the prototypes (B, M, H, W); a mask's logits are its coefficients times
them. The first comes in one of three layouts, told apart by its shape:

- raw, one column per anchor: (B, 4 + C + M, A): centre x, centre y, width and height in pixels of
  the model's input, a probability per class, coefficients (YOLOv8, YOLO11 and the "one to many"
  head of later ones). Overlapping boxes of one class are suppressed here.
- raw with objectness, one row per anchor: (B, A, 5 + C + M): the same box, the probability that
  there is an object, a probability per class given that, coefficients (YOLOv5).
- decoded, one row per object, the surest first: (B, N, 6 + M): left, top, right, bottom, score,
  class id, coefficients (the "end to end" heads of YOLOv10 and YOLO26, and exports with
  suppression in the graph). Rows that hold no object have a score of 0.

The layouts are described in the documentation of the exporter, e.g.
https://docs.ultralytics.com/guides/end2end-detection. What its metadata says of the layout is not
looked at: it is known to be wrong at times.

B batch, C classes, M prototypes, A anchors, N objects, H/W the prototypes' grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from seg_perception.backends.decoders.suppression import surviving
from seg_perception.backends.protocol import InstanceOutput, ModelOutput
from seg_perception.errors import InferenceError
from seg_perception.models.card import ModelCard

_BOX = 4
_OBJECTNESS = 1
_DECODED = 6  # box, score and class id
_MAX_ANCHORS = 30000
"""As many of the surest anchors are looked at, which bounds what a broken model costs."""

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Boxes (N, 4), scores (N,), class ids (N,) and mask coefficients (N, M), the surest first."""
Read = Callable[[torch.Tensor, ModelCard], Found]


def decode(
    tensors: Sequence[torch.Tensor], input_hw: tuple[int, int], card: ModelCard
) -> ModelOutput:
    """See `decoders.Decoder`; the first two tensors are read."""
    read = _reader(tensors, card)
    images, protos_BMHW = tensors[0], tensors[1]
    return ModelOutput(
        instances=tuple(
            _instances(read(image, card), protos_MHW)
            for image, protos_MHW in zip(images, protos_BMHW, strict=True)
        )
    )


def _instances(found: Found, protos_MHW: torch.Tensor) -> InstanceOutput:
    boxes_N4, scores_N, class_ids_N, coefficients_NM = found
    num_protos, height, width = protos_MHW.shape
    masks_NP = coefficients_NM.float() @ protos_MHW.float().reshape(num_protos, -1)
    return InstanceOutput(
        masks_NP.view(-1, height, width), scores_N.float(), class_ids_N, boxes_N4.float()
    )


def _from_objectness(image_AK: torch.Tensor, card: ModelCard) -> Found:
    """As anchors without it: both probabilities multiplied."""
    end = _BOX + _OBJECTNESS + len(card.classes)
    scores_AC = image_AK[:, _BOX : _BOX + _OBJECTNESS] * image_AK[:, _BOX + _OBJECTNESS : end]
    return _from_anchors(torch.cat([image_AK[:, :_BOX], scores_AC, image_AK[:, end:]], 1).T, card)


def _from_anchors(image_KA: torch.Tensor, card: ModelCard) -> Found:
    options = card.output.options
    end = _BOX + len(card.classes)
    scores_A = image_KA[_BOX:end].amax(0)  # without the class, which few need: much quicker
    chosen = torch.nonzero(scores_A >= options.score_threshold).flatten()
    scores_N, order = scores_A[chosen].sort(descending=True, stable=True)
    scores_N, chosen = scores_N[:_MAX_ANCHORS], chosen[order[:_MAX_ANCHORS]]
    _check_scores(scores_N, card)
    class_ids_N = image_KA[_BOX:end, chosen].argmax(0)
    centers_N2, sizes_N2 = image_KA[:2, chosen].T.float(), image_KA[2:_BOX, chosen].T.float()
    boxes_N4 = torch.cat([centers_N2 - sizes_N2 / 2, centers_N2 + sizes_N2 / 2], 1)
    kept = surviving(
        boxes_N4,
        class_ids_N,
        iou_threshold=options.iou_threshold,
        max_boxes=options.max_objects,
    )
    return boxes_N4[kept], scores_N[kept], class_ids_N[kept], image_KA[end:, chosen[kept]].T


def _from_rows(image_NK: torch.Tensor, card: ModelCard) -> Found:
    options = card.output.options
    scores_N = image_NK[:, _BOX]
    order = scores_N.argsort(descending=True, stable=True)
    num_kept = min(int((scores_N >= options.score_threshold).sum()), options.max_objects)
    rows_NK = image_NK[order[:num_kept]]
    _check_scores(rows_NK[:, _BOX], card)
    class_ids_N = rows_NK[:, _BOX + 1].round().long()
    if num_kept and not 0 <= class_ids_N.min() <= class_ids_N.max() < len(card.classes):
        raise InferenceError(
            f'{card.name}: expected class ids 0 to {len(card.classes) - 1}, the classes of the '
            f'card, got {class_ids_N.min()} to {class_ids_N.max()}; correct classes.names'
        )
    return rows_NK[:, :_BOX], rows_NK[:, _BOX], class_ids_N, rows_NK[:, _DECODED:]


def _check_scores(scores_N: torch.Tensor, card: ModelCard) -> None:
    """The surest comes first; above 1 it is no probability (half precision rounds to 1)."""
    if len(scores_N) and scores_N[0] > 1:
        raise InferenceError(
            f'{card.name}: expected scores of 0 to 1, got {scores_N[0]:g}; is the file a '
            f'segmentation export of this exporter? Correct output.kind'
        )


def _reader(tensors: Sequence[torch.Tensor], card: ModelCard) -> Read:
    """What reads the layout.

    Raises:
        InferenceError: it is none of those for the card's classes.
    """
    shapes = [tuple(tensor.shape) for tensor in tensors[:2]]
    if [len(shape) for shape in shapes] == [3, 4] and shapes[0][0] == shapes[1][0]:
        num_protos, num_classes = shapes[1][1], len(card.classes)
        if shapes[0][2] == _DECODED + num_protos:
            # Of one class both kinds of rows are equally long; its id is 0, a probability is more.
            is_decoded = num_classes > 1 or not (tensors[0][..., _DECODED - 1] > 0).any()
            return _from_rows if is_decoded else _from_objectness
        if shapes[0][1] == _BOX + num_classes + num_protos:
            return _from_anchors
        if shapes[0][2] == _BOX + _OBJECTNESS + num_classes + num_protos:
            return _from_objectness
    raise InferenceError(
        f'{card.name}: expected (B, {_BOX} + {len(card.classes)} classes + M, anchors), (B, '
        f'anchors, {_BOX + _OBJECTNESS} + {len(card.classes)} classes + M) or (B, objects, '
        f'{_DECODED} + M) and M prototypes (B, M, H, W), got '
        f'{", ".join(map(str, shapes))}; correct classes.names or output.kind'
    )
