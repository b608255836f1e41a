"""Masks proposed by queries: Mask2Former, MaskFormer, OneFormer, EoMT.

Each query gives one mask and a class for it, or "no object", the last one. What is made of them
is what transformers makes of them: ``post_process_semantic_segmentation``,
``post_process_instance_segmentation`` and ``post_process_panoptic_segmentation`` of
``Mask2FormerImageProcessor`` (transformers 4 and 5).

B batch, Q queries, C classes, K classes and "no object", H/W the masks' grid, N objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seg_perception.backends.protocol import InstanceOutput, ModelOutput
from seg_perception.errors import InferenceError
from seg_perception.models.card import ModelCard
from seg_perception.models.output_spec import DecodingOptions


def decode(
    tensors: Sequence[torch.Tensor], input_hw: tuple[int, int], card: ModelCard
) -> ModelOutput:
    """See `decoders.Decoder`; the first two tensors are read."""
    class_logits_BQK, mask_logits_BQHW = _checked(tensors, card)
    options = card.output.options
    if options.mask_hw is not None:
        mask_logits_BQHW = torch.nn.functional.interpolate(
            mask_logits_BQHW, options.mask_hw, mode='bilinear', align_corners=False
        )
    probabilities_BQK = class_logits_BQK.softmax(-1)
    if options.task == 'semantic':
        scores_BCHW = torch.einsum(
            'bqc,bqhw->bchw', probabilities_BQK[..., :-1], mask_logits_BQHW.sigmoid()
        )
        return ModelOutput(logits_BCHW=scores_BCHW, is_probabilities=True)
    select = _instances if options.task == 'instance' else _segments
    return ModelOutput(
        instances=tuple(
            select(probabilities_QK, masks_QHW, options)
            for probabilities_QK, masks_QHW in zip(
                probabilities_BQK, mask_logits_BQHW, strict=True
            )
        )
    )


def _instances(
    probabilities_QK: torch.Tensor, mask_logits_QHW: torch.Tensor, options: DecodingOptions
) -> InstanceOutput:
    """Pairs of a query and a class, scored by class probability times the mask's own mean."""
    num_queries, num_classes = len(probabilities_QK), probabilities_QK.shape[1] - 1
    # As many pairs as there are queries, as in the original; a query may be there several times.
    scores_N, pairs_N = probabilities_QK[:, :-1].flatten().topk(num_queries)
    # The mask's share only lowers a score.
    pairs_N, scores_N = (t[scores_N >= options.score_threshold] for t in (pairs_N, scores_N))
    queries_N = pairs_N // num_classes
    masks_NHW = mask_logits_QHW[queries_N]
    is_inside_NHW = masks_NHW > 0
    num_inside_N = is_inside_NHW.sum((1, 2))
    sums_N = (masks_NHW.sigmoid() * is_inside_NHW).sum((1, 2))
    scores_N = scores_N * sums_N / (num_inside_N + 1e-6)
    kept = (scores_N >= options.score_threshold) & (num_inside_N > 0)
    order = scores_N.where(kept, -1.0).argsort(descending=True, stable=True)
    order = order[: min(int(kept.sum()), options.max_objects)]
    return InstanceOutput(masks_NHW[order], scores_N[order], pairs_N[order] % num_classes)


def _segments(
    probabilities_QK: torch.Tensor, mask_logits_QHW: torch.Tensor, options: DecodingOptions
) -> InstanceOutput:
    """Queries that are sure of a class; the pixels are shared out among them later."""
    scores_Q, class_ids_Q = probabilities_QK.max(-1)
    is_object_Q = class_ids_Q < probabilities_QK.shape[1] - 1
    kept_N = torch.nonzero(is_object_Q & (scores_Q > options.score_threshold)).flatten()
    if len(kept_N) > options.max_objects:
        surest = scores_Q[kept_N].topk(options.max_objects).indices
        kept_N = kept_N[surest.sort().values]
    return InstanceOutput(
        mask_logits_QHW[kept_N], scores_Q[kept_N], class_ids_Q[kept_N], is_panoptic=True
    )


def _checked(
    tensors: Sequence[torch.Tensor], card: ModelCard
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and mask logits in float32.

    Raises:
        InferenceError: they are not there, or for another number of classes.
    """
    shapes = [tuple(tensor.shape) for tensor in tensors[:2]]
    if [len(shape) for shape in shapes] != [3, 4] or shapes[0][:2] != shapes[1][:2]:
        raise InferenceError(
            f'{card.name}: expected class logits (B, Q, C + 1) and mask logits (B, Q, H, W), got '
            f'tensors of shape {", ".join(map(str, shapes))}; correct output.kind in the card'
        )
    if shapes[0][2] != len(card.classes) + 1:
        raise InferenceError(
            f'{card.name}: expected class logits for {len(card.classes)} classes and "no object", '
            f'got {shapes[0][2]}; correct classes.names in the card'
        )
    return tensors[0].float(), tensors[1].float()
