"""How far two runs of a model agree, whatever kind of output it gives.

B batch, C classes, H/W the model's grid, N objects.
"""

from __future__ import annotations

import torch

from seg_perception.backends.protocol import InstanceOutput, ModelOutput

_SCORE_TOLERANCE = 0.1


def agreement(output: ModelOutput, reference: ModelOutput) -> float:
    """Share of the cells that get the same label, 0 to 1; of objects, the least of their shares.

    Objects agree where their classes do, their scores nearly do, and their masks cover the same
    cells; where the counts of objects differ, nothing does.

    Args:
        output: of one engine.
        reference: of another one, for the same batch; on any device.
    """
    if output.instances is not None and reference.instances is not None:
        pairs = zip(output.instances, reference.instances, strict=True)
        return min((_of_objects(ours, theirs) for ours, theirs in pairs), default=1.0)
    labels, expected = _labels(output), _labels(reference)
    if labels is None or expected is None or labels.shape != expected.shape:
        return 0.0
    return float((labels == expected).float().mean())


def _labels(output: ModelOutput) -> torch.Tensor | None:
    if output.logits_BCHW is not None:
        return output.logits_BCHW.argmax(1).cpu()
    return None if output.labels_BHW is None else output.labels_BHW.long().cpu()


def _of_objects(ours: InstanceOutput, theirs: InstanceOutput) -> float:
    if ours.scores_N.shape != theirs.scores_N.shape:
        return 0.0
    if not len(ours.scores_N):
        return 1.0
    is_same_N = (ours.class_ids_N.cpu() == theirs.class_ids_N.cpu()) & (
        (ours.scores_N.float().cpu() - theirs.scores_N.float().cpu()).abs() < _SCORE_TOLERANCE
    )
    ours_NHW, theirs_NHW = (o.mask_logits_NHW.cpu() > 0 for o in (ours, theirs))
    shares_N = (ours_NHW == theirs_NHW).float().mean((1, 2))
    return float((is_same_N * shares_N).mean())
