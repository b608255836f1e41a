"""Boxes with a class, a score and a mask each, as torchvision's Mask R-CNN gives them.

Per image four tensors: boxes (N, 4) as left, top, right, bottom in pixels of the model's input,
class ids (N,), scores (N,) and mask probabilities (N, 1, H, W). The card's option ``masks`` says
whether masks cover the whole ``image``, as torchvision's model returns them, or each its ``box``,
as its mask head makes them (28 x 28).

N objects, H/W a mask's grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seg_perception.backends.protocol import InstanceOutput, ModelOutput
from seg_perception.errors import InferenceError
from seg_perception.models.card import ModelCard

_TENSORS_PER_IMAGE = 4
_INSIDE = 0.5  # mask probability


def decode(
    tensors: Sequence[torch.Tensor], input_hw: tuple[int, int], card: ModelCard
) -> ModelOutput:
    """See `decoders.Decoder`."""
    if len(tensors) % _TENSORS_PER_IMAGE:
        raise InferenceError(
            f'{card.name}: expected boxes, class ids, scores and masks for each image, got '
            f'{len(tensors)} tensors; correct output.kind in the card'
        )
    return ModelOutput(
        instances=tuple(
            _instances(tensors[i : i + _TENSORS_PER_IMAGE], card)
            for i in range(0, len(tensors), _TENSORS_PER_IMAGE)
        )
    )


def _instances(tensors: Sequence[torch.Tensor], card: ModelCard) -> InstanceOutput:
    boxes_N4, class_ids_N, scores_N, masks_N1HW = _checked(tensors, card)
    options = card.output.options
    order = scores_N.argsort(descending=True, stable=True)
    num_kept = int((scores_N >= options.score_threshold).sum())
    order = order[: min(num_kept, options.max_objects)]
    # Linear in the probability, so that interpolating and comparing with 0 is the same as
    # interpolating probabilities and comparing them with one half.
    masks_NHW = masks_N1HW[order, 0].float() - _INSIDE
    boxes_N4 = boxes_N4[order].float()
    if options.masks == 'box':
        masks_NHW, boxes_N4 = _with_margin(masks_NHW, boxes_N4)
    return InstanceOutput(
        masks_NHW,
        scores_N[order].float(),
        class_ids_N[order].long(),
        boxes_N4,
        masks_tile_boxes=options.masks == 'box',
    )


def _with_margin(
    masks_NHW: torch.Tensor, boxes_N4: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks with one sample of "outside" around them, and boxes larger by as much.

    A mask then ends where it falls to one half on its way to nothing, as torchvision pastes it
    (``paste_masks_in_image``), instead of going on to the edge of its box.
    """
    num_samples_2 = torch.tensor(masks_NHW.shape[2:0:-1], device=boxes_N4.device)
    margin_N2 = (boxes_N4[:, 2:] - boxes_N4[:, :2]) / num_samples_2
    padded = torch.nn.functional.pad(masks_NHW, (1, 1, 1, 1), value=-_INSIDE)
    return padded, torch.cat([boxes_N4[:, :2] - margin_N2, boxes_N4[:, 2:] + margin_N2], 1)


def _checked(tensors: Sequence[torch.Tensor], card: ModelCard) -> Sequence[torch.Tensor]:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    num_objects = shapes[0][0] if shapes[0] else -1
    fits = (
        shapes[:3] == [(num_objects, 4), (num_objects,), (num_objects,)]
        and len(shapes[3]) == 4
        and shapes[3][:2] == (num_objects, 1)
    )
    if not fits:
        raise InferenceError(
            f'{card.name}: expected boxes (N, 4), class ids (N,), scores (N,) and masks '
            f'(N, 1, H, W), got {", ".join(map(str, shapes))}; correct output.kind in the card'
        )
    class_ids_N, scores_N = tensors[1], tensors[2]
    if num_objects and not (
        class_ids_N.min() >= 0 and class_ids_N.max() < len(card.classes) and scores_N.min() >= 0
    ):
        raise InferenceError(
            f'{card.name}: expected class ids 0 to {len(card.classes) - 1} and scores of 0 to 1, '
            f'got up to {class_ids_N.max()} and {scores_N.max():g}; correct classes.names in the '
            f'card'
        )
    return tensors
