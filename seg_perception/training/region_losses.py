"""Losses of whole class regions: soft Dice and Lovász-softmax."""

# B batch, C classes, Y/X pixels, R rows averaged over (images, or one for the batch), P pixels

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_perception.training.options import known_name, number, truth_value
from seg_perception.training.pixel_losses import Extras, PixelLoss, not_zero


class _RegionLoss(PixelLoss):
    """Losses of whole class regions: which are averaged, and over what.

    Args:
        classes: ``present`` leaves classes without a true pixel out of the mean, ``all`` does
            not: predicting an absent class then costs.
        per_image: regions of each image by itself instead of the whole batch's; images with
            nothing labelled are left out.
        common: see ``PixelLoss``.
    """

    def __init__(
        self, *, classes: object = 'present', per_image: object = False, **common: Any
    ) -> None:
        super().__init__(**common)
        self.only_present = known_name('classes', classes, ('present', 'all')) == 'present'
        self.per_image = truth_value('per_image', per_image)

    def mean(self, losses_RC: Tensor, present_RC: Tensor, has_labels_R: Tensor) -> Tensor:
        """Over the counted classes of each row, then over the rows that have any."""
        counted_RC = present_RC if self.only_present else has_labels_R[:, None]
        counted_RC = counted_RC.expand_as(losses_RC)
        num_R = counted_RC.sum(1)
        losses_R = losses_RC.where(counted_RC, 0).sum(1) / num_R.clamp_min(1)
        return losses_R.sum() / (num_R > 0).sum().clamp_min(1)


class Dice(_RegionLoss):
    """Soft Dice: 1 - (2 sum p g + smooth) / (sum p + sum g + smooth), mean over classes.

    Args:
        smooth: in pixels; makes the loss of an absent, unpredicted class 0 with ``classes: all``.
        squared: sum p^2 in the denominator, as V-Net has it.
        common: see ``_RegionLoss`` and ``PixelLoss``.

    Source: Milletari et al., V-Net, 3DV 2016 (squared); Drozdzal et al., arXiv:1608.04117.
    """

    def __init__(self, *, smooth: object = 1.0, squared: object = False, **common: Any) -> None:
        super().__init__(**common)
        self.smooth = number('dice smooth', smooth, at_least=0)
        self.squared = truth_value('dice squared', squared)

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        probabilities_BCYX = logits_BCYX.softmax(1)
        truth_BCYX = self.one_hot(labels_BYX)
        valid_BYX = labels_BYX != self.ignore_id
        over = (2, 3) if self.per_image else (0, 2, 3)

        def total(values_BCYX: Tensor) -> Tensor:
            return values_BCYX.sum(over).reshape(-1, self.num_classes)

        sizes_RC = total(truth_BCYX)
        shared_RC = total(probabilities_BCYX * truth_BCYX)
        masses_BCYX = probabilities_BCYX**2 if self.squared else probabilities_BCYX
        union_RC = total(masses_BCYX * valid_BYX[:, None]) + sizes_RC
        dice_RC = (2 * shared_RC + self.smooth) / not_zero(union_RC + self.smooth)
        return self.mean(1 - dice_RC, sizes_RC > 0, sizes_RC.sum(1) > 0)


class LovaszSoftmax(_RegionLoss):
    """The Lovász extension of 1 - IoU of each class, at its errors |g - p|; mean over classes.

    Source: Berman, Rannen Triki and Blaschko, CVPR 2018, section 2.
    """

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        probabilities_BCYX = logits_BCYX.softmax(1)
        rows = (len(labels_BYX), -1) if self.per_image else (1, -1)
        valid_BYX = labels_BYX != self.ignore_id
        known = labels_BYX[valid_BYX]
        counts_C = known.bincount(minlength=self.num_classes)
        class_ids = (
            counts_C.nonzero()[:, 0].tolist() if self.only_present else range(len(counts_C))
        )
        if not known.numel():
            return probabilities_BCYX.sum() * 0.0
        losses, present = [], []
        for class_id in class_ids:
            truth_BYX = labels_BYX == class_id
            # An ignored pixel is one without error: it adds nothing, wherever it is sorted to.
            errors_BYX = (truth_BYX.float() - probabilities_BCYX[:, class_id]).abs()
            errors_RP = errors_BYX.where(valid_BYX, 0).reshape(rows)
            truth_RP = truth_BYX.reshape(rows)
            losses.append(_lovasz_extension(errors_RP, truth_RP))
            present.append(truth_RP.any(1))
        has_labels_R = valid_BYX.reshape(rows).any(1)
        return self.mean(torch.stack(losses, 1), torch.stack(present, 1), has_labels_R)


def _lovasz_extension(errors_RP: Tensor, truth_RP: Tensor) -> Tensor:
    """The extension of the Jaccard loss at the errors of one class, shape (R,).

    It is linear as long as the order of the errors stays, so the slopes are constants.
    """
    return (errors_RP * _slopes(errors_RP, truth_RP)).sum(1)


@torch.no_grad()
def _slopes(errors_RP: Tensor, truth_RP: Tensor) -> Tensor:
    """What the Jaccard loss rises by when a pixel joins those of larger error, (R, P).

    That is the difference of two losses that are nearly the same in large images; written out,
    with whole numbers, nothing cancels.
    """
    order_RP = descending_order(errors_RP)
    truth_RP = truth_RP.gather(1, order_RP)
    num_true_RP = truth_RP.cumsum(1)
    size_R1 = num_true_RP[:, -1:]
    rank_P = torch.arange(1, truth_RP.shape[1] + 1, device=truth_RP.device)
    intersection_RP = (size_R1 - num_true_RP).to(errors_RP.dtype)
    union_RP = (size_R1 + rank_P - num_true_RP).to(errors_RP.dtype)
    # A true pixel shrinks the intersection by one, another widens the union by one. The first of
    # a class without true pixels takes its loss from 0 to 1 at once.
    widened_RP = intersection_RP / (union_RP * (union_RP - 1)).clamp_min(1)
    widened_RP = widened_RP.where(union_RP > 1, 1.0)
    slopes_RP = torch.where(truth_RP, 1 / union_RP, widened_RP)
    return torch.empty_like(errors_RP).scatter_(1, order_RP, slopes_RP)


def descending_order(errors_RP: Tensor) -> Tensor:
    """Positions from the largest to the smallest of each row, equals as they stand; int64.

    Args:
        errors_RP: not negative.
    """
    if errors_RP.device.type != 'cpu' or errors_RP.dtype != torch.float32:
        return errors_RP.argsort(dim=1, descending=True, stable=True)
    # NumPy sorts whole numbers with vector instructions, ten times faster than torch sorts floats
    # with their positions: the bits of a float that is not negative are in its order.
    bits_RP = errors_RP.detach().contiguous().numpy().view(np.int32).astype(np.int64)
    keys_RP = (np.iinfo(np.int32).max - bits_RP) << 32 | np.arange(errors_RP.shape[1])
    keys_RP.sort(axis=1)
    return torch.from_numpy(keys_RP & 0xFFFFFFFF)
