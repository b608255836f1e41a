"""Objects from label images, and from the masks of models that find objects themselves.

Components are labelled by runs, stretches of one class within a row: a label image has a hundred
times fewer of them than pixels, and all classes are done at once.

Legend: Y/X image pixels, R runs in raster order, L links between runs, N objects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.structures import (
    BACKGROUND_NAMES,
    MAX_OBJECTS,
    U8,
    ClassTable,
    Labels,
    ObjectInstance,
    Objects,
    Segmentation,
)

Ints = npt.NDArray[np.intp]


def find_objects(
    segmentation: Segmentation,
    class_ids: Sequence[int] | None = None,
    *,
    min_area_px: int,
    max_objects: int = MAX_OBJECTS,
    connectivity: int = 8,
) -> Objects:
    """Connected regions of one class each; holes in them stay holes.

    Two things of one class that touch are one object: a label image does not tell them apart.

    Args:
        segmentation: its labels; its confidence gives the scores, 1.0 where it has none.
        class_ids: which classes have objects; all but background where None.
        min_area_px: smaller regions are left out.
        max_objects: where there are more, the largest are kept.
        connectivity: 8 joins pixels that touch at a corner, 4 does not.

    Returns:
        Objects with ids from 1 on without a gap, by class id, within a class in the raster order
        of their first pixels.

    Raises:
        ConfigurationError: an argument is out of range, or a class is background.
    """
    if min_area_px < 1 or not 1 <= max_objects <= MAX_OBJECTS or connectivity not in (4, 8):
        raise ConfigurationError(
            f'expected min_area_px of at least 1, max_objects of 1 to {MAX_OBJECTS} and '
            f'connectivity 4 or 8, got {min_area_px}, {max_objects} and {connectivity}'
        )
    labels_YX = segmentation.labels_YX
    has_objects = np.zeros(np.iinfo(labels_YX.dtype).max + 1, bool)
    has_objects[_object_classes(segmentation.classes, class_ids)] = True
    runs = _Runs.of(labels_YX)
    wanted_R = np.flatnonzero(has_objects[runs.values_R])
    roots_R = runs.connected(wanted_R, connectivity)
    areas_R = np.bincount(roots_R[wanted_R], runs.lengths_R[wanted_R], len(roots_R))
    roots_N = np.flatnonzero(areas_R >= min_area_px)
    if len(roots_N) > max_objects:
        largest_first = np.argsort(-areas_R[roots_N], kind='stable')
        roots_N = np.sort(roots_N[largest_first[:max_objects]])
    roots_N = roots_N[np.argsort(runs.values_R[roots_N], kind='stable')]
    ids_R = np.zeros(len(roots_R), np.intp)
    ids_R[roots_N] = np.arange(1, len(roots_N) + 1)
    return _measured(
        runs,
        ids_R[roots_R],
        runs.values_R[roots_N],
        _mean_confidences(runs, ids_R[roots_R], len(roots_N), segmentation.confidence_YX),
    )


def objects_from_masks(
    masks_NYX: npt.NDArray[np.bool_] | U8, class_ids: Sequence[int], scores: Sequence[float]
) -> Objects:
    """Objects from a model that gives one mask per object.

    A pixel of several masks belongs to the one of the highest score, the earlier one at a tie. An
    object without a pixel of its own is left out.

    Args:
        masks_NYX: bool or uint8, not 0 where the object is; they need not be connected.
        class_ids: what each object is.
        scores: how sure the model is of each, 0 to 1; 1.0 where it does not say.

    Returns:
        Objects in the order given, with ids from 1 on without a gap.

    Raises:
        InputError: the arguments are not of one length, scores are outside 0 to 1, or there are
            more objects than ids.
    """
    num_objects = len(masks_NYX)
    if (
        masks_NYX.ndim != 3
        or not len(class_ids) == len(scores) == num_objects <= MAX_OBJECTS
        or not all(0.0 <= score <= 1.0 for score in scores)
    ):
        raise InputError(
            f'expected masks of shape (objects, height, width), a class and a score of 0 to 1 for '
            f'each of at most {MAX_OBJECTS}, got {masks_NYX.shape}, {len(class_ids)} classes and '
            f'scores {list(scores)[:5]} ...'
        )
    owners_YX = np.zeros(masks_NYX.shape[1:], np.uint16)
    for i in np.argsort(-np.asarray(scores, np.float64), kind='stable')[::-1]:
        owners_YX[masks_NYX[i] != 0] = i + 1
    return objects_of_owners(owners_YX, class_ids, scores)


def objects_of_owners(
    owners_YX: npt.NDArray[np.uint16],
    class_ids: Sequence[int] | npt.NDArray[np.integer],
    scores: Sequence[float] | npt.NDArray[np.floating],
) -> Objects:
    """Objects from an image of which object each pixel belongs to.

    Args:
        owners_YX: 0 for none, i + 1 for the object at position i of what follows.
        class_ids: what each object is.
        scores: how sure the model is of each, 0 to 1.

    Returns:
        Those that have a pixel, in the order given, with ids from 1 on without a gap.
    """
    num_objects = len(class_ids)
    runs = _Runs.of(owners_YX)
    present = np.zeros(num_objects + 1, bool)
    present[runs.values_R] = True
    present[0] = False
    kept_N = np.flatnonzero(present) - 1
    return _measured(
        runs,
        np.cumsum(present)[runs.values_R] * present[runs.values_R],
        np.asarray(class_ids, np.intp)[kept_N],
        np.asarray(scores, np.float64)[kept_N],
    )


def select_objects(
    objects: Objects,
    classes: ClassTable,
    class_ids: Sequence[int] | None = None,
    *,
    min_area_px: int,
    max_objects: int = MAX_OBJECTS,
) -> Objects:
    """Those of some classes that are large enough; as `find_objects` has it, of given objects.

    Args:
        objects: as the model tells them apart.
        classes: the model's.
        class_ids: which classes are wanted; all but background where None.
        min_area_px: smaller ones are left out.
        max_objects: where there are more, the largest are kept.

    Returns:
        Objects in the same order with ids from 1 on without a gap.

    Raises:
        ConfigurationError: a class is background.
    """
    wanted = set(_object_classes(classes, class_ids))
    kept = [i for i in objects.items if i.class_id in wanted and i.area_px >= min_area_px]
    if len(kept) > max_objects:
        largest = sorted(kept, key=lambda item: -item.area_px)[:max_objects]
        kept = sorted(largest, key=lambda item: item.id)
    items = tuple(dataclasses.replace(item, id=i) for i, item in enumerate(kept, start=1))
    if items == objects.items:
        return objects
    new_ids = np.zeros(MAX_OBJECTS + 1, np.uint16)
    new_ids[[item.id for item in kept]] = np.arange(1, len(kept) + 1)
    return Objects(np.take(new_ids, objects.instances_YX), items)


@dataclass(frozen=True, slots=True)
class _Runs:
    """An image as stretches of one value within a row, which cover it in raster order.

    Attributes:
        starts_R: first pixel of each, counted in raster order.
        lengths_R: pixels of each.
        values_R: what its pixels hold.
        shape: of the image.
    """

    starts_R: Ints
    lengths_R: Ints
    values_R: Labels
    shape: tuple[int, int]

    @classmethod
    def of(cls, image_YX: Labels) -> _Runs:
        is_start_YX = np.empty(image_YX.shape, bool)
        is_start_YX[:, :1] = True
        np.not_equal(image_YX[:, 1:], image_YX[:, :-1], out=is_start_YX[:, 1:])
        starts_R = np.flatnonzero(is_start_YX)
        lengths_R = np.diff(starts_R, append=image_YX.size)
        height, width = image_YX.shape
        return cls(starts_R, lengths_R, image_YX.reshape(-1)[starts_R], (height, width))

    def connected(self, wanted_R: Ints, connectivity: int) -> Ints:
        """The first run of the connected region that each run is part of.

        Args:
            wanted_R: positions of the runs to connect; others are left alone.
            connectivity: 4 or 8.
        """
        ends_L, others_L = self._links(wanted_R, connectivity)
        roots_R = np.arange(len(self.starts_R))
        # Each root joins the lowest root it touches, then all runs look up their new roots.
        while len(ends_L):
            np.minimum.at(roots_R, np.maximum(ends_L, others_L), np.minimum(ends_L, others_L))
            while not np.array_equal(next_R := roots_R[roots_R], roots_R):
                roots_R = next_R
            ends_L, others_L = roots_R[ends_L], roots_R[others_L]
            is_open_L = ends_L != others_L
            ends_L, others_L = ends_L[is_open_L], others_L[is_open_L]
        return roots_R

    def _links(self, wanted_R: Ints, connectivity: int) -> tuple[Ints, Ints]:
        """Pairs of runs of one value that touch: one of the wanted, and one in the row above."""
        width = self.shape[1]
        lower_R = wanted_R[self.starts_R[wanted_R] >= width]
        row_starts_R = self.starts_R[lower_R] // max(width, 1) * width
        reach = 1 if connectivity == 8 else 0
        left_R = np.maximum(self.starts_R[lower_R] - reach, row_starts_R)
        right_R = np.minimum(
            self.starts_R[lower_R] + self.lengths_R[lower_R] + reach, row_starts_R + width
        )
        first_R = np.searchsorted(self.starts_R, left_R - width, 'right') - 1
        counts_R = np.searchsorted(self.starts_R, right_R - width, 'left') - first_R
        lower_L = np.repeat(lower_R, counts_R)
        # Counts on from each run's first neighbour: 3 4 | 4 5 6 | 8 ...
        steps_L = np.repeat(first_R - np.cumsum(counts_R) + counts_R, counts_R)
        upper_L = steps_L + np.arange(len(lower_L))
        is_same_L = self.values_R[lower_L] == self.values_R[upper_L]
        return lower_L[is_same_L], upper_L[is_same_L]


def _object_classes(classes: ClassTable, class_ids: Sequence[int] | None) -> list[int]:
    foreground = [i for i, name in enumerate(classes.names) if name not in BACKGROUND_NAMES]
    if class_ids is None:
        return foreground
    if refused := sorted(set(class_ids) - set(foreground)):
        raise ConfigurationError(
            f'expected ids of classes that are not background, among 0 to {len(classes) - 1}, '
            f'got {refused}'
        )
    return list(class_ids)


def _mean_confidences(
    runs: _Runs, ids_R: Ints, num_objects: int, confidence_YX: U8 | None
) -> npt.NDArray[np.float64]:
    if confidence_YX is None or num_objects == 0:
        return np.ones(num_objects)
    sums_R = np.add.reduceat(confidence_YX.reshape(-1), runs.starts_R, dtype=np.int64)
    sums_N = np.bincount(ids_R, sums_R, num_objects + 1)[1:]
    return sums_N / (255.0 * np.bincount(ids_R, runs.lengths_R, num_objects + 1)[1:])


def _measured(
    runs: _Runs,
    ids_R: Ints,
    class_ids_N: npt.NDArray[np.integer],
    scores_N: npt.NDArray[np.float64],
) -> Objects:
    """The instances image and the boxes, areas and centroids of objects given as runs.

    Args:
        runs: of the image.
        ids_R: which object each run belongs to, 0 for none; every id from 1 to N has a run.
        class_ids_N: by object.
        scores_N: by object.
    """
    height, width = runs.shape
    instances_YX = np.repeat(ids_R.astype(np.uint16), runs.lengths_R).reshape(height, width)
    if not len(class_ids_N):
        return Objects(instances_YX, ())
    # An object's runs side by side, in raster order.
    order = np.argsort(ids_R, kind='stable')[np.count_nonzero(ids_R == 0) :]
    lengths, (rows, lefts) = runs.lengths_R[order], np.divmod(runs.starts_R[order], width)
    firsts = np.flatnonzero(np.diff(ids_R[order], prepend=0))
    areas_N = np.add.reduceat(lengths, firsts)
    columns = [
        np.minimum.reduceat(lefts, firsts),
        rows[firsts],
        np.maximum.reduceat(lefts + lengths, firsts),
        np.maximum.reduceat(rows, firsts) + 1,
        areas_N,
        np.add.reduceat((lefts + (lengths - 1) / 2) * lengths, firsts) / areas_N,
        np.add.reduceat(rows * lengths, firsts) / areas_N,
        class_ids_N,
        scores_N,
    ]
    items = tuple(
        ObjectInstance(
            id=i,
            class_id=class_id,
            score=score,
            box_xyxy_px=(left, top, right, bottom),
            area_px=area,
            centroid_xy_px=(x, y),
        )
        for i, (left, top, right, bottom, area, x, y, class_id, score) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), start=1
        )
    )
    return Objects(instances_YX, items)
