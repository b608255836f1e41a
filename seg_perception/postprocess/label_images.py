"""Labels and confidence of a batch from its logits, at the size of the images.

Legend: B batch, C classes, H/W model grid, Y/X output pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seg_perception.postprocess.ranking import rank, winning_probability
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
        is_nan: not 0 where a score was not a number; None where all are known to be numbers.
    """

    labels_BYX: torch.Tensor
    confidence_BYX: torch.Tensor | None
    is_nan: torch.Tensor | None


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
    make = _ranked if logits_BCHW.device.type == 'cpu' else _dense
    made = [make(logits_CHW, sampler, rules) for logits_CHW in logits_BCHW.unbind()]
    labels, confidence, maybe_nan = zip(*made, strict=True)
    is_nan = [flag for flag in maybe_nan if flag is not None]
    return LabelImages(
        _stacked(labels),
        _stacked(confidence) if rules.wants_confidence else None,
        _stacked(is_nan) if is_nan else None,
    )


def _ranked(
    logits_CHW: torch.Tensor, sampler: GridSampler, rules: LabelRules
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Labels, confidence and what `LabelImages` says of NaN; on the CPU, in compiled loops."""
    ranked = rank(logits_CHW)
    labels_YX, confidence_YX = sampler.ranked_labels(ranked), None
    if rules.wants_confidence or rules.threshold > 0.0:
        probability_N = (
            ranked.best_N.clip(0.0, 1.0)  # sums of query masks may be above 1
            if rules.is_probabilities
            else winning_probability(ranked, rules.temperature)
        )
        probability_HW = probability_N.reshape(sampler.grid_hw)
        if rules.threshold > 0.0:
            _hide_unsure(labels_YX, torch.from_numpy(probability_HW), sampler, rules)
        if rules.wants_confidence:
            confidence_YX = sampler.ranked_levels(probability_HW)
    is_nan = torch.tensor(True) if ranked.has_nan else None
    return _in_dtype(labels_YX, rules), confidence_YX, is_nan


def _dense(
    logits_CHW: torch.Tensor, sampler: GridSampler, rules: LabelRules
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """As `_ranked`, on a GPU without Triton, in operations of torch's."""
    labels_YX, confidence_YX = sampler.labels(logits_CHW), None
    if rules.wants_confidence or rules.threshold > 0.0:
        scores_CHW = logits_CHW.float()
        if rules.is_probabilities:
            probability_HW = scores_CHW.amax(0).clamp_(0.0, 1.0)
        else:
            probability_HW = (scores_CHW / rules.temperature).softmax(0).amax(0)
        if rules.threshold > 0.0:
            _hide_unsure(labels_YX, probability_HW, sampler, rules)
        if rules.wants_confidence:
            confidence_YX = sampler.levels(probability_HW)
    is_nan = logits_CHW.amax().isnan()  # as isnan().any(), in a tenth of its time
    return _in_dtype(labels_YX, rules), confidence_YX, is_nan


def _hide_unsure(
    labels_YX: torch.Tensor, probability_HW: torch.Tensor, sampler: GridSampler, rules: LabelRules
) -> None:
    is_unsure_YX = sampler.resample(probability_HW) < rules.threshold
    labels_YX[is_unsure_YX] = rules.classes.unlabeled_id


def _in_dtype(labels_YX: torch.Tensor, rules: LabelRules) -> torch.Tensor:
    return labels_YX.to(_label_dtype(rules.classes))


def _label_dtype(classes: ClassTable) -> torch.dtype:
    return torch.uint8 if classes.label_dtype == np.uint8 else torch.uint16


def _stacked(images: Sequence[torch.Tensor]) -> torch.Tensor:
    return images[0][None] if len(images) == 1 else torch.stack(tuple(images))


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
