"""Labels, confidence and objects at the image's size from the masks of single objects.

On the CPU objects are painted one over the other within their boxes, the surest last. On a GPU
all pixels of several objects are interpolated at once: it is the number of steps that takes time
there, not that of pixels.

Legend: N objects, K some of them, H/W the masks' grid, Y/X output pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from seg_perception.postprocess.sampling import AxisSampling, GridSampler
from seg_perception.structures import ClassTable

_MAX_BLOCK_BYTES = 64 * 2**20


class FoundMasks(Protocol):
    """The objects of one image as a model gives them (``backends.InstanceOutput``)."""

    @property
    def mask_logits_NHW(self) -> torch.Tensor:
        """Positive where the object is."""
        ...

    @property
    def scores_N(self) -> torch.Tensor:
        """How sure the model is of each, 0 to 1."""
        ...

    @property
    def class_ids_N(self) -> torch.Tensor:
        """int64, what each is."""
        ...

    @property
    def boxes_xyxy_N4(self) -> torch.Tensor | None:
        """Edges in pixels of the model's input; a mask is empty outside of its box."""
        ...

    @property
    def masks_tile_boxes(self) -> bool:
        """Whether the grid of a mask tiles its box instead of the model's input."""
        ...

    @property
    def is_panoptic(self) -> bool:
        """Whether pixels go to the highest score times mask probability."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LabeledObjects:
    """What the objects of one image make of its pixels, on the device.

    Attributes:
        labels_YX: int64, the class of the object that each pixel belongs to; where there is none
            the class table's `ClassTable.nothing_id`; ``unlabeled_id`` where the object is not
            sure enough.
        confidence_YX: uint8, that object's score in levels of 0 to 255, 0 where there is none;
            None where it was not asked for.
        owners_YX: int32, the position of that object counted from 1; 0 where there is none, it is
            not sure enough or no thing.
    """

    labels_YX: torch.Tensor
    confidence_YX: torch.Tensor | None
    owners_YX: torch.Tensor


def label_objects(
    found: FoundMasks,
    sampler: GridSampler,
    classes: ClassTable,
    *,
    thing_ids: Sequence[int] = (),
    confidence: bool = True,
    confidence_threshold: float = 0.0,
    overlap_threshold: float = 0.0,
) -> LabeledObjects:
    """Gives each pixel to an object, and says what that makes of it.

    Masks are upsampled bilinearly, then compared with 0. A pixel of several belongs to the surest
    object, the earlier one at a tie.

    Args:
        found: the objects; none give an image of nothing.
        sampler: from the masks' grid to the image; of masks that tile their boxes it is the image
            alone that counts.
        classes: what class ids mean.
        thing_ids: classes whose objects are single things; all where empty.
        confidence: whether to compute confidence too.
        confidence_threshold: pixels of objects less sure than this get ``unlabeled_id``.
        overlap_threshold: panoptic objects that keep no more than this share of the pixels where
            their own score times mask probability is one half or more give theirs up.
    """
    on_cpu = found.mask_logits_NHW.device.type == 'cpu'
    if found.is_panoptic:
        owners_YX = _shared_out(found, sampler, overlap_threshold)
    else:
        owners_YX = _painted(found, sampler) if on_cpu else _stacked(found, sampler)
    is_sure_N = found.scores_N >= confidence_threshold
    is_object_N = is_sure_N
    if thing_ids:
        things = torch.tensor(thing_ids, device=found.class_ids_N.device)
        is_object_N = is_sure_N & torch.isin(found.class_ids_N, things)
    labels_N = found.class_ids_N.where(is_sure_N, classes.unlabeled_id)
    levels_N = found.scores_N.mul(255.0).round().clamp(0, 255).to(torch.uint8)
    return LabeledObjects(
        labels_YX=_by_owner(owners_YX, labels_N, classes.nothing_id),
        confidence_YX=_by_owner(owners_YX, levels_N, 0) if confidence else None,
        owners_YX=_only(owners_YX, is_object_N),
    )


def _by_owner(owners_YX: torch.Tensor, values_N: torch.Tensor, nobody: int) -> torch.Tensor:
    """The owner's value at every pixel."""
    return _with_first(values_N, nobody).index_select(0, owners_YX.flatten()).view_as(owners_YX)


def _only(owners_YX: torch.Tensor, is_kept_N: torch.Tensor) -> torch.Tensor:
    """The owners that are kept, 0 where another was."""
    positions_N = torch.arange(1, len(is_kept_N) + 1, dtype=torch.int32, device=owners_YX.device)
    return _by_owner(owners_YX, positions_N.where(is_kept_N, 0), 0)


def _with_first(values_N: torch.Tensor, first: int) -> torch.Tensor:
    return torch.cat([values_N.new_full((1,), first), values_N])


def _painted(found: FoundMasks, sampler: GridSampler) -> torch.Tensor:
    """Owners, one object at a time and only within its box."""
    owners_YX = torch.zeros(sampler.output_hw, dtype=torch.int32)
    windows_N4 = _windows(found, sampler).tolist()
    surest_first = found.scores_N.argsort(descending=True, stable=True)
    for i in reversed(surest_first.tolist()):
        top, bottom, left, right = windows_N4[i]
        if top >= bottom or left >= right:
            continue
        rows, columns = _axes(found, sampler, slice(i, i + 1))
        logits_YX = _interpolated(
            found.mask_logits_NHW[i : i + 1], rows.part(top, bottom), columns.part(left, right)
        )[0]
        owners_YX[top:bottom, left:right].masked_fill_(logits_YX > 0, i + 1)
    return owners_YX


def _stacked(found: FoundMasks, sampler: GridSampler) -> torch.Tensor:
    """Owners, several objects at a time, without a wait for the device."""
    device = found.mask_logits_NHW.device
    owners_YX = torch.zeros(sampler.output_hw, dtype=torch.int32, device=device)
    surest_first = found.scores_N.argsort(descending=True, stable=True)
    windows_N4 = _windows(found, sampler)
    y, x = (torch.arange(size, device=device) for size in sampler.output_hw)
    for part in _blocks(len(surest_first), sampler):
        objects_K = surest_first[part]
        rows, columns = _axes(found, sampler, objects_K)
        logits_KYX = _interpolated(found.mask_logits_NHW[objects_K], rows, columns)
        top_K1, bottom_K1, left_K1, right_K1 = windows_N4[objects_K].T[..., None]
        in_rows_KY = (y >= top_K1) & (y < bottom_K1)
        in_columns_KX = (x >= left_K1) & (x < right_K1)
        is_inside_KYX = (logits_KYX > 0) & in_rows_KY[:, :, None] & in_columns_KX[:, None]
        # The surest of those inside has the highest rank; 0 is none of them.
        rank_K = torch.arange(len(objects_K), 0, -1, dtype=torch.int32, device=device)
        rank_YX = (is_inside_KYX * rank_K[:, None, None]).amax(0)
        owner_of_rank = _with_first((objects_K + 1).to(torch.int32).flip(0), 0)
        owners_YX = torch.where(owners_YX == 0, owner_of_rank[rank_YX], owners_YX)
    return owners_YX


def _shared_out(found: FoundMasks, sampler: GridSampler, overlap_threshold: float) -> torch.Tensor:
    """Owners by score times mask probability, as transformers' ``compute_segments`` has it."""
    device = found.mask_logits_NHW.device
    owners_YX = torch.zeros(sampler.output_hw, dtype=torch.int32, device=device)
    best_YX = torch.full(sampler.output_hw, -1.0, device=device)
    num_objects = len(found.scores_N)
    own_areas_N = torch.zeros(num_objects, dtype=torch.int64, device=device)
    for part in _blocks(num_objects, sampler):
        rows, columns = _axes(found, sampler, part)
        scores_KYX = _interpolated(found.mask_logits_NHW[part].sigmoid(), rows, columns)
        scores_KYX *= found.scores_N[part, None, None]
        own_areas_N[part] = (scores_KYX >= 0.5).sum((1, 2))
        highest_YX, first_YX = scores_KYX.max(0)
        is_better_YX = highest_YX > best_YX
        best_YX = torch.where(is_better_YX, highest_YX, best_YX)
        first_YX += part.start + 1
        owners_YX = torch.where(is_better_YX, first_YX.to(torch.int32), owners_YX)
    areas_N = torch.bincount(owners_YX.flatten(), minlength=num_objects + 1)[1:]
    is_kept_N = (own_areas_N > 0) & (areas_N > overlap_threshold * own_areas_N)
    return _only(owners_YX, is_kept_N)


def _blocks(num_objects: int, sampler: GridSampler) -> list[slice]:
    """Objects whose interpolated masks take a bounded amount of memory."""
    height, width = sampler.output_hw
    size = max(1, _MAX_BLOCK_BYTES // (4 * height * width))
    return [slice(i, min(i + size, num_objects)) for i in range(0, num_objects, size)]


def _windows(found: FoundMasks, sampler: GridSampler) -> torch.Tensor:
    """First row, row after the last, first column and column after the last of each object.

    Returns:
        (N, 4) int64 in output pixels: those whose centre is in the box, or, where boxes are not
        known, those that a positive sample reaches.
    """
    boxes_N4 = found.boxes_xyxy_N4
    if boxes_N4 is None:
        is_inside_NHW = found.mask_logits_NHW > 0
        return torch.stack(
            [
                *_reached(is_inside_NHW.any(2), sampler.rows),
                *_reached(is_inside_NHW.any(1), sampler.columns),
            ],
            1,
        )
    edges_4N = boxes_N4.double().T.contiguous()
    rows, columns = (
        torch.searchsorted(sampler.input_edges(axis), edges_4N[first::2].contiguous())
        for axis, first in ((0, 1), (1, 0))
    )
    return torch.stack([*rows, *columns], 1)


def _reached(has_inside_NH: torch.Tensor, axis: AxisSampling) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixel and pixel after the last between samples of which one is inside."""
    num_samples = has_inside_NH.shape[1]
    position_H = torch.arange(num_samples, device=has_inside_NH.device)
    first_N = position_H.where(has_inside_NH, num_samples).amin(1)
    last_N = position_H.where(has_inside_NH, -1).amax(1)
    start_N = torch.searchsorted(axis.high.contiguous(), first_N)
    return start_N, torch.searchsorted(axis.low.contiguous(), last_N, right=True)


def _axes(
    found: FoundMasks, sampler: GridSampler, objects: slice | torch.Tensor
) -> tuple[AxisSampling, AxisSampling]:
    """Where the rows and columns of the image lie in the masks of some objects."""
    if not found.masks_tile_boxes:
        return sampler.rows, sampler.columns
    assert found.boxes_xyxy_N4 is not None
    boxes_K4 = found.boxes_xyxy_N4[objects].double()
    height, width = found.mask_logits_NHW.shape[1:]
    return (
        AxisSampling.tiled(sampler.input_edges(0), boxes_K4[:, 1], boxes_K4[:, 3], height),
        AxisSampling.tiled(sampler.input_edges(1), boxes_K4[:, 0], boxes_K4[:, 2], width),
    )


def _interpolated(
    values_KHW: torch.Tensor, rows: AxisSampling, columns: AxisSampling
) -> torch.Tensor:
    """Bilinear interpolation, (K, Y, X) float32."""
    values_KHW = values_KHW.float()
    rows_KYW = torch.lerp(
        _taken(values_KHW, rows.low, 1),
        _taken(values_KHW, rows.high, 1),
        rows.fraction[..., :, None],
    )
    return torch.lerp(
        _taken(rows_KYW, columns.low, 2),
        _taken(rows_KYW, columns.high, 2),
        columns.fraction[..., None, :],
    )


def _taken(values_KHW: torch.Tensor, index: torch.Tensor, axis: int) -> torch.Tensor:
    """Samples along an axis, the same of all objects or, where the index has two axes, of each."""
    if index.ndim == 1:
        return values_KHW.index_select(axis, index)
    shape = list(values_KHW.shape)
    shape[axis] = index.shape[1]
    return values_KHW.gather(axis, index.unsqueeze(3 - axis).expand(shape))
