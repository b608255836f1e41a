"""Results that are on their way from the device to the host.

Legend: B images, Y/X output pixels, N objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seg_perception.backends.failures import translated
from seg_perception.device_queue import Download, StageClock
from seg_perception.errors import InferenceError
from seg_perception.models import ModelCard
from seg_perception.postprocess import objects_of_owners
from seg_perception.structures import U8, ClassTable, Frame, Labels, Objects, Segmentation


@dataclass(frozen=True, slots=True)
class Part:
    """Results of some images of one size, on their way to the host.

    Attributes:
        indices: which images.
        classes: what their class ids mean.
        names: what the arrays are that come: labels (B, Y, X); whether scores were not numbers;
            confidence (B, Y, X); owners (Y, X), class_ids (N,) and scores (N,) of the objects of
            a single image.
        download: brings them.
    """

    indices: list[int]
    classes: ClassTable
    names: tuple[str, ...]
    download: Download


class PendingSegmentations:
    """Images that a `Segmenter` has begun to segment.

    Args:
        card: the model's.
        frames: the images.
        parts: results on their way to the host.
        clock: times the stages.
    """

    def __init__(
        self,
        card: ModelCard,
        frames: Sequence[Frame],
        parts: Sequence[Part],
        clock: StageClock,
    ) -> None:
        self._card = card
        self._frames = frames
        self._parts = parts
        self._clock = clock

    def results(self) -> list[Segmentation]:
        """One result per image, in order; waits for the device. Arrays are the caller's to keep.

        Raises:
            InferenceError: the model failed, or gave something that is not a number.
        """
        made: dict[int, tuple[Labels, U8 | None, Objects | None, ClassTable]] = {}
        with self._clock.host_stage('download'), translated(self._card.name, 'on its device'):
            for part in self._parts:
                arrays = dict(zip(part.names, part.download.arrays(), strict=True))
                if arrays.get('is_nan', np.False_).any():
                    raise InferenceError(
                        f'{self._card.name}: expected numbers, got NaN; try precision fp32, and '
                        f'check the weights'
                    )
                objects = None
                if 'owners' in arrays:
                    scores_N = arrays['scores'].clip(0.0, 1.0)
                    objects = objects_of_owners(arrays['owners'], arrays['class_ids'], scores_N)
                confidence_BYX = arrays.get('confidence')
                for position, index in enumerate(part.indices):
                    confidence_YX = None if confidence_BYX is None else confidence_BYX[position]
                    labels_YX = arrays['labels'][position]
                    made[index] = labels_YX, confidence_YX, objects, part.classes
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
            )
            for i, frame in enumerate(self._frames)
        ]
