"""Labels and confidence of a batch from its logits, at the size of the images.

Legend: B batch, C classes, H/W model grid, Y/X output pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from seg_perception.postprocess.sampling import GridSampler
from seg_perception.structures import ClassTable


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How scores become labels and confidence.

    Attributes:
        classes: what the labels mean.
        is_probabilities: the scores need no softmax.
        temperature: logits are divided by it before the softmax.
        threshold: pixels less sure than this probability get the unlabelled id.
        wants_confidence: whether confidence is wanted too.
    """

    classes: ClassTable
    is_probabilities: bool = False
    temperature: float = 1.0
    threshold: float = 0.0
    wants_confidence: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class LabelImages:
    """Results of images of one size, on the model's device.

    Attributes:
        labels_BYX: uint8, uint16 above 255 classes.
        confidence_BYX: uint8, the winning probability as 0–255; None where it was not wanted.
        is_nan: one element, not 0 where a score was not a number.
    """

    labels_BYX: torch.Tensor
    confidence_BYX: torch.Tensor | None
    is_nan: torch.Tensor


def label_images(
    logits_BCHW: torch.Tensor, sampler: GridSampler, rules: LabelRules
) -> LabelImages:
    """Makes labels and confidence of a batch.

    Labels are the argmax of the bilinearly upsampled logits; confidence is the winning softmax
    probability on the model's grid, upsampled bilinearly.

    Args:
        logits_BCHW: floating-point scores of images with one geometry.
        sampler: of that geometry.
        rules: what to make.
    """
    if sampler.is_fused:
        return _fused(logits_BCHW, sampler, rules)
    labels, confidence = [], []
    for logits_CHW in logits_BCHW:
        labels_YX = sampler.labels(logits_CHW)
        if rules.wants_confidence or rules.threshold > 0.0:
            probability_HW = _winning_probability(logits_CHW, rules)
            if rules.threshold > 0.0:
                is_unsure_YX = sampler.resample(probability_HW) < rules.threshold
                labels_YX[is_unsure_YX] = rules.classes.unlabeled_id
            if rules.wants_confidence:
                confidence.append(sampler.levels(probability_HW))
        labels.append(labels_YX.to(_label_dtype(rules.classes)))
    return LabelImages(
        _stacked(labels),
        _stacked(confidence) if confidence else None,
        logits_BCHW.amax().isnan()[None],  # as isnan().any(), in a tenth of its time
    )


def _winning_probability(logits_CHW: torch.Tensor, rules: LabelRules) -> torch.Tensor:
    scores_CHW = logits_CHW.float()
    if rules.is_probabilities:
        return scores_CHW.amax(0).clamp_(0.0, 1.0)  # sums of query masks may be above 1
    if rules.temperature != 1.0:
        scores_CHW = scores_CHW / rules.temperature
    return scores_CHW.softmax(0).amax(0)


def _label_dtype(classes: ClassTable) -> torch.dtype:
    return torch.uint8 if classes.label_dtype == np.uint8 else torch.uint16


def _stacked(images: list[torch.Tensor]) -> torch.Tensor:
    return images[0][None] if len(images) == 1 else torch.stack(images)


def _fused(logits_BCHW: torch.Tensor, sampler: GridSampler, rules: LabelRules) -> LabelImages:
    device = logits_BCHW.device
    shape = (logits_BCHW.shape[0], *sampler.output_hw)
    labels_BYX = torch.empty(shape, dtype=_label_dtype(rules.classes), device=device)
    confidence_BYX = None
    if rules.wants_confidence:
        confidence_BYX = torch.empty(shape, dtype=torch.uint8, device=device)
    is_nan = torch.zeros(1, dtype=torch.int32, device=device)
    sampler.fill_label_images(
        logits_BCHW,
        labels_BYX,
        confidence_BYX,
        is_nan,
        temperature=rules.temperature,
        is_probabilities=rules.is_probabilities,
        threshold=rules.threshold,
        unlabeled_id=rules.classes.unlabeled_id,
    )
    return LabelImages(labels_BYX, confidence_BYX, is_nan)
