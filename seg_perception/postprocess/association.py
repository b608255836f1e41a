"""The same id for the same object from frame to frame.

Legend: T tracks (objects known from earlier frames), N objects of this frame.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError
from seg_perception.structures import MAX_OBJECTS, ObjectInstance, Objects

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Track:
    """An object as it was last seen, with its lasting id."""

    item: ObjectInstance
    num_missed: int = 0


class ObjectAssociator:
    """Gives objects ids that last from frame to frame, for one camera.

    An object goes on with the id of an earlier one of its class whose box overlaps its own, or,
    where none does, whose centroid is closer than the smaller box is long. The best pairs are
    taken first. An id that is given up is used again only after all others.

    The cost grows with the product of objects and known objects: bound ``max_objects`` of
    `find_objects` where a scene may fall to pieces.

    Args:
        max_missed: in how many frames in a row an object may be missing and keep its id.
        min_iou: least intersection over union of two boxes to call them an overlap, above 0.

    Raises:
        ConfigurationError: an argument is out of range.
    """

    def __init__(self, *, max_missed: int = 5, min_iou: float = 0.1) -> None:
        if max_missed < 0 or not 0.0 < min_iou <= 1.0:
            raise ConfigurationError(
                f'expected max_missed of at least 0 and min_iou above 0 and up to 1, '
                f'got {max_missed} and {min_iou}'
            )
        self._max_missed = max_missed
        self._min_iou = min_iou
        self._tracks: list[_Track] = []
        # Those never used come first, then those given up longest ago.
        self._free_ids = deque(range(1, MAX_OBJECTS + 1))
        self._stamp_ns: int | None = None
        self._shape: tuple[int, ...] | None = None

    def update(self, objects: Objects, stamp_ns: int) -> Objects:
        """The same objects with lasting ids.

        Where time goes back or the image's size changes, another recording has begun and all
        earlier objects are forgotten.

        Args:
            objects: of this frame, with any ids.
            stamp_ns: the frame's.

        Returns:
            Objects with other ids, in the instances image too; the input is left as it is.
        """
        shape = objects.instances_YX.shape
        if (self._stamp_ns is not None and stamp_ns < self._stamp_ns) or self._shape != shape:
            self._forget(self._tracks)
        self._stamp_ns, self._shape = stamp_ns, shape
        known = self._continued(objects)
        for track in self._tracks:
            track.num_missed += 1
        for item in objects.items:
            if item.id in known:
                track = known[item.id]
                track.item, track.num_missed = dataclasses.replace(item, id=track.item.id), 0
        self._forget([track for track in self._tracks if track.num_missed > self._max_missed])
        self._make_room(len(objects.items) - len(known))
        new_ids = np.zeros(MAX_OBJECTS + 1, np.uint16)
        for item in objects.items:
            if item.id not in known:
                known[item.id] = _Track(dataclasses.replace(item, id=self._free_ids.popleft()))
                self._tracks.append(known[item.id])
            new_ids[item.id] = known[item.id].item.id
        items = sorted((track.item for track in known.values()), key=lambda item: item.id)
        return Objects(np.take(new_ids, objects.instances_YX), tuple(items))

    def _continued(self, objects: Objects) -> dict[int, _Track]:
        """By id in this frame, the track that an object continues."""
        known: dict[int, _Track] = {}
        for class_id in {item.class_id for item in objects.items}:
            tracks = [track for track in self._tracks if track.item.class_id == class_id]
            items = [item for item in objects.items if item.class_id == class_id]
            affinities_TN = _affinities([track.item for track in tracks], items, self._min_iou)
            known |= {items[n].id: tracks[t] for t, n in _best_pairs(affinities_TN).items()}
        return known

    def _make_room(self, num_ids: int) -> None:
        """Forgets objects not seen for longest until that many ids are free."""
        num_lacking = num_ids - len(self._free_ids)
        if num_lacking > 0:
            missing = [track for track in self._tracks if track.num_missed]
            self._forget(sorted(missing, key=lambda track: -track.num_missed)[:num_lacking])

    def _forget(self, tracks: list[_Track]) -> None:
        gone = {track.item.id for track in tracks}
        self._free_ids.extend(track.item.id for track in tracks)
        self._tracks = [track for track in self._tracks if track.item.id not in gone]


def _affinities(
    tracks: list[ObjectInstance], objects: list[ObjectInstance], min_iou: float
) -> Floats:
    """How well each object continues each track.

    Returns:
        (T, N): 1 + IoU of the boxes where it is at least ``min_iou``; else, for centroids closer
        than the smaller box is long, how much closer, 0 to 1; 0 for what cannot be the same.
    """
    left_T, top_T, right_T, bottom_T, x_T, y_T = _boxes_and_centroids(tracks)
    left_N, top_N, right_N, bottom_N, x_N, y_N = _boxes_and_centroids(objects)
    width_T, height_T = right_T - left_T, bottom_T - top_T
    width_N, height_N = right_N - left_N, bottom_N - top_N
    shared_width_TN = np.minimum.outer(right_T, right_N) - np.maximum.outer(left_T, left_N)
    shared_height_TN = np.minimum.outer(bottom_T, bottom_N) - np.maximum.outer(top_T, top_N)
    shared_TN = shared_width_TN.clip(min=0) * shared_height_TN.clip(min=0)
    iou_TN = shared_TN / (np.add.outer(width_T * height_T, width_N * height_N) - shared_TN)
    distance_TN = np.hypot(np.subtract.outer(x_T, x_N), np.subtract.outer(y_T, y_N))
    reach_TN = np.minimum.outer(np.hypot(width_T, height_T), np.hypot(width_N, height_N))
    near_TN = (1.0 - distance_TN / reach_TN).clip(min=0.0)
    return np.asarray(np.where(iou_TN >= min_iou, 1.0 + iou_TN, near_TN))


def _boxes_and_centroids(items: list[ObjectInstance]) -> Floats:
    """Left, top, right, bottom, x and y of each, shape (6, number of items)."""
    rows = [item.box_xyxy_px + item.centroid_xy_px for item in items]
    return np.array(rows, np.float64).reshape(-1, 6).T


def _best_pairs(affinities_TN: Floats) -> dict[int, int]:
    """Object by track: the best pair first, then the best of what is left, and so on."""
    tracks, objects = np.nonzero(affinities_TN)
    order = np.argsort(-affinities_TN[tracks, objects], kind='stable')
    pairs: dict[int, int] = {}
    taken = set()
    for t, n in zip(tracks[order].tolist(), objects[order].tolist(), strict=True):
        if t not in pairs and n not in taken:
            pairs[t] = n
            taken.add(n)
    return pairs
