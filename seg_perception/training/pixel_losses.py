"""Losses that are means over pixels, and what all losses share."""

# B batch, C classes, Y/X pixels

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.options import count_or_share, number, numbers
from seg_perception.training.weighting import BorderWeighting

Extras = Mapping[str, Tensor]


class PixelLoss(nn.Module):
    """What all losses share: checks, float32, and what an ignored pixel is.

    Args:
        num_classes: channels of the logits.
        ignore_id: label of pixels that teach nothing; no class has it.
        class_weights: weight of each class as given to ``build_loss``, or None.
    """

    def __init__(
        self, *, num_classes: int, ignore_id: int, class_weights: list[float] | None = None
    ) -> None:
        super().__init__()
        self.num_classes, self.ignore_id = num_classes, ignore_id
        weights = torch.tensor(class_weights or [1.0] * num_classes, dtype=torch.float32)
        self.register_buffer('class_weights_C', weights, persistent=False)
        self.class_weights_C: Tensor

    def forward(
        self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras | None = None
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            logits_BCYX: any floating type, at the size of the labels.
            labels_BYX: class ids or ``ignore_id``, integers. Other values are not looked for
                here (that would stall a GPU); the data set check finds them.
            extras: what a loss needs besides, by name.

        Raises:
            InputError: shapes that do not belong together.
        """
        batch, channels, *size = logits_BCYX.shape
        if channels != self.num_classes or labels_BYX.shape != (batch, *size) or len(size) != 2:
            raise InputError(
                f'expected logits (B, {self.num_classes}, Y, X) and labels (B, Y, X), got '
                f'{tuple(logits_BCYX.shape)} and {tuple(labels_BYX.shape)}; resize the logits '
                'to the labels'
            )
        if self.class_weights_C.device != logits_BCYX.device:
            self.to(logits_BCYX.device)
        with torch.autocast(logits_BCYX.device.type, enabled=False):
            exact = logits_BCYX if logits_BCYX.dtype == torch.float64 else logits_BCYX.float()
            return self._compute(exact, labels_BYX.long(), extras or {})

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        """The loss of checked float32 (or float64) logits and int64 labels."""
        raise NotImplementedError

    def negative_log_likelihood(self, logits_BCYX: Tensor, labels_BYX: Tensor) -> Tensor:
        """-log p of the true class, (B, Y, X); 0 where ignored."""
        return F.cross_entropy(
            logits_BCYX, labels_BYX, ignore_index=self.ignore_id, reduction='none'
        )

    def pixel_weights(self, labels_BYX: Tensor) -> Tensor:
        """The weight of each pixel's class, (B, Y, X) float32; 0 where ignored."""
        valid_BYX = labels_BYX != self.ignore_id
        return self.class_weights_C[labels_BYX.where(valid_BYX, 0)] * valid_BYX

    def one_hot(self, labels_BYX: Tensor) -> Tensor:
        """Whether a pixel is of a class, bool (B, C, Y, X); all False where ignored."""
        ids_C = torch.arange(self.num_classes, device=labels_BYX.device)
        return labels_BYX[:, None] == ids_C[:, None, None]


class CrossEntropy(PixelLoss):
    """Cross-entropy, averaged with the weights of the classes as torch does.

    Args:
        label_smoothing: share of the truth spread over all classes (Szegedy et al., CVPR 2016).
        common: see ``PixelLoss``.
    """

    def __init__(self, *, label_smoothing: object = 0.0, **common: Any) -> None:
        super().__init__(**common)
        self.label_smoothing = number('label_smoothing', label_smoothing, at_least=0, below=1)

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        losses_BYX = F.cross_entropy(
            logits_BCYX,
            labels_BYX,
            self.class_weights_C.to(logits_BCYX.dtype),
            ignore_index=self.ignore_id,
            label_smoothing=self.label_smoothing,
            # A reduction inside torch's CUDA kernel differs from run to run.
            reduction='none',
        )
        return losses_BYX.sum() / not_zero(self.pixel_weights(labels_BYX).sum())


class OnlineHardExamples(PixelLoss):
    """Cross-entropy of the hardest pixels of the batch only (OHEM).

    By threshold: pixels whose true class has at most this probability, but at least ``min_kept``.
    By ``top_k``: so many, whatever their probability. Pixels as hard as the last one kept are
    kept with it. Hardness knows no class weights; the mean over what is kept uses them.

    Args:
        threshold: probability of the true class, default 0.7.
        min_kept: pixels of the batch (whole number) or share of the labelled ones (0.0 to 1.0);
            default 0.0625, near the 100 000 per Cityscapes crop of common recipes.
        top_k: likewise, instead of the other two.
        common: see ``PixelLoss``.

    Source: Shrivastava et al., CVPR 2016; for pixels Wu et al., arXiv:1604.04339 (threshold
    and minimum) and arXiv:1605.06885 (top k).
    """

    def __init__(
        self,
        *,
        threshold: object = None,
        min_kept: object = None,
        top_k: object = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if top_k is not None and (threshold is not None or min_kept is not None):
            raise ConfigurationError('ohem: top_k excludes threshold and min_kept; got both')
        if top_k is not None:
            self.at_least = count_or_share('ohem top_k', top_k)
            if not self.at_least:
                raise ConfigurationError(f'ohem top_k: expected more than none, got {top_k!r}')
            self.hard_above = math.inf
        else:
            self.at_least = count_or_share(
                'ohem min_kept', 0.0625 if min_kept is None else min_kept
            )
            threshold = 0.7 if threshold is None else threshold
            self.hard_above = -math.log(number('ohem threshold', threshold, above=0, at_most=1))

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        losses_BYX = self.negative_log_likelihood(logits_BCYX, labels_BYX)
        valid_BYX = labels_BYX != self.ignore_id
        hardness_BYX = losses_BYX.detach().where(valid_BYX, -math.inf)
        num_valid = int(valid_BYX.sum())
        limit = self.hard_above
        wanted = self.at_least
        kept = min(wanted if isinstance(wanted, int) else math.ceil(wanted * num_valid), num_valid)
        if kept:
            limit = min(limit, float(hardness_BYX.flatten().topk(kept).values[-1]))
        weights_BYX = self.pixel_weights(labels_BYX) * (hardness_BYX >= limit)
        return (losses_BYX * weights_BYX).sum() / not_zero(weights_BYX.sum())


class Focal(PixelLoss):
    """Focal loss over softmax: -alpha_c (1 - p)^gamma log p, p of the true class c.

    The mean over labelled pixels: gamma 0 without alpha is cross-entropy.

    Args:
        gamma: how much easy pixels are played down.
        alpha: weight per class (list), or None for the class weights given, if any.
        common: see ``PixelLoss``.

    Source: Lin et al., ICCV 2017, equation 5.
    """

    def __init__(self, *, gamma: object = 2.0, alpha: object = None, **common: Any) -> None:
        if alpha is not None:
            common['class_weights'] = numbers(
                'focal alpha', alpha, common['num_classes'], at_least=0
            )
        super().__init__(**common)
        self.gamma = number('focal gamma', gamma, at_least=0)

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        losses_BYX = self.negative_log_likelihood(logits_BCYX, labels_BYX)
        # 1 - p without cancellation near p = 1; not 0, where the slope of a root is infinite.
        wrong_BYX = (-torch.expm1(-losses_BYX)).clamp_min(torch.finfo(losses_BYX.dtype).tiny)
        focused_BYX = wrong_BYX**self.gamma * losses_BYX * self.pixel_weights(labels_BYX)
        return focused_BYX.sum() / (labels_BYX != self.ignore_id).sum().clamp_min(1)


class BoundaryWeighted(PixelLoss):
    """Cross-entropy with U-Net's weight for each pixel, averaged over labelled pixels.

    The map is ``extras['weights_BYX']``, made in the data loader by ``LossSum.border_weighting``,
    class weights included.

    Args:
        w0: height of the border term.
        sigma: its reach in pixels.
        background_id: class between the objects; None makes every region an object.
        common: see ``PixelLoss``.

    Source: Ronneberger, Fischer and Brox, MICCAI 2015, equations 1 and 2.
    """

    def __init__(
        self,
        *,
        w0: object = 10.0,
        sigma: object = 5.0,
        background_id: object = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if background_id is not None:
            highest = self.num_classes - 1
            background_id = int(
                number('background_id', background_id, at_least=0, at_most=highest)
            )
        given = common.get('class_weights')
        self.border_weighting = BorderWeighting(
            ignore_id=self.ignore_id,
            background_id=background_id,
            w0=number('boundary_weighted w0', w0, at_least=0),
            sigma=number('boundary_weighted sigma', sigma, above=0),
            class_weights_C=None if given is None else tuple(given),
        )

    def _compute(self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras) -> Tensor:
        weights_BYX = extras.get('weights_BYX')
        if weights_BYX is None or weights_BYX.shape != labels_BYX.shape:
            got = 'nothing' if weights_BYX is None else tuple(weights_BYX.shape)
            raise InputError(
                f"boundary_weighted: expected extras['weights_BYX'] of {tuple(labels_BYX.shape)}, "
                f'got {got}; make it in the data loader with border_weighting'
            )
        losses_BYX = self.negative_log_likelihood(logits_BCYX, labels_BYX)
        losses_BYX = losses_BYX * weights_BYX.to(losses_BYX.dtype)
        return losses_BYX.sum() / (labels_BYX != self.ignore_id).sum().clamp_min(1)


def not_zero(total: Tensor) -> Tensor:
    """For a division whose numerator is 0 with it."""
    return total.where(total > 0, 1.0)
