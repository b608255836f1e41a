"""Results that are begun: on their way from the device to the host, or still to be made.

Legend: B images, Y/X output pixels, N objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from seg_perception.backends.failures import translated
from seg_perception.errors import InferenceError
from seg_perception.models import ModelCard
from seg_perception.pipeline.device_queue import Download, StageClock
from seg_perception.postprocess import objects_of_owners
from seg_perception.structures import U8, ClassTable, Frame, Labels, Objects, Segmentation


class Pending(Protocol):
    """Images that are begun to be segmented."""

    def results(self) -> list[Segmentation]:
        """One result per image, in order; to be asked for once, by any thread."""
        ...


class FinishedSegmentations:
    """Images that are segmented already.

    Args:
        results: one per image, in order.
    """

    def __init__(self, results: list[Segmentation]) -> None:
        self._results = results

    def results(self) -> list[Segmentation]:
        """See `Pending.results`."""
        return self._results


class PendingSegmentations:
    """Images that a `Segmenter` has begun to segment; see `Pending`.

    Args:
        card: the model's.
        frames: the images.
        downloads: what was made of them, on its way to the host.
        clock: times the stages.
        rest: makes what is still to be made.
    """

    def __init__(
        self,
        card: ModelCard,
        frames: Sequence[Frame],
        downloads: Sequence[Download],
        clock: StageClock,
        rest: Callable[[], Sequence[Download]] = list,
    ) -> None:
        self._card = card
        self._frames = frames
        self._downloads = downloads
        self._clock = clock
        self._rest = rest

    def results(self) -> list[Segmentation]:
        """See `Pending.results`; waits for the device. Arrays are the caller's to keep.

        Raises:
            InferenceError: the model failed, or gave something that is not a number.
        """
        downloads = [*self._downloads, *self._rest()]
        made: dict[int, tuple[Labels, U8 | None, Objects | None, ClassTable]] = {}
        with self._clock.host_stage('download'), translated(self._card.name, 'on its device'):
            for download in downloads:
                arrays = download.arrays()
                if 'is_nan' in arrays and arrays['is_nan'].any():
                    raise InferenceError(
                        f'{self._card.name}: expected numbers, got NaN; try precision fp32, and '
                        f'check the weights'
                    )
                objects = None
                if 'owners' in arrays:
                    scores_N = arrays['scores'].clip(0.0, 1.0)
                    objects = objects_of_owners(arrays['owners'], arrays['class_ids'], scores_N)
                confidence_BYX = arrays.get('confidence')
                for position, index in enumerate(download.indices):
                    confidence_YX = None if confidence_BYX is None else confidence_BYX[position]
                    labels_YX = arrays['labels'][position]
                    made[index] = labels_YX, confidence_YX, objects, download.classes
        timings_ms = self._clock.timings_ms()
        return [
            Segmentation(
                labels_YX=made[i][0],
                confidence_YX=made[i][1],
                classes=made[i][3],
                timings_ms=timings_ms,
                stamp_ns=frame.stamp_ns,
                frame_id=frame.frame_id,
                camera=frame.camera,
                objects=made[i][2],
                model=self._card.label_source,
            )
            for i, frame in enumerate(self._frames)
        ]
