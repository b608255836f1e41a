"""Batches through the model, each while the one before is on its way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from seg_perception.errors import (
    DeviceLostError,
    DeviceMemoryError,
    InferenceError,
    InputError,
    ModelLostError,
)
from seg_perception.pipeline import PendingSegmentations, Segmenter
from seg_perception.structures import U8, Segmentation

Tag = TypeVar('Tag')
Outcome = Segmentation | InputError | InferenceError


class BatchRunner(Generic[Tag]):
    """Runs batches of tagged images.

    Args:
        segmenter: runs them.
        confidence: whether confidence is wanted.
        objects: whether objects are wanted, where the model tells them apart.
        choose: what is made of each result.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        confidence: bool,
        objects: bool,
        choose: Callable[[Segmentation], Segmentation],
    ) -> None:
        self._segmenter = segmenter
        self._confidence = confidence
        self._objects = objects
        self._choose = choose

    def run(
        self, batches: Iterable[Sequence[tuple[Tag, U8]]]
    ) -> Iterator[tuple[Tag, U8, Outcome]]:
        """Gives every image of the batches with what came of it, in order.

        An image that cannot be segmented gives its error and does not harm the others.

        Raises:
            DeviceLostError, ModelLostError: nothing can be segmented any more.
        """
        before: tuple[Sequence[tuple[Tag, U8]], PendingSegmentations | Exception] | None = None
        for batch in batches:
            if not batch:
                continue
            started = self._start(batch)
            if before is not None:
                yield from self._finish(*before)
            before = batch, started
        if before is not None:
            yield from self._finish(*before)

    def _start(self, batch: Sequence[tuple[Tag, U8]]) -> PendingSegmentations | Exception:
        try:
            return self._segmenter.start(
                [image for _, image in batch], confidence=self._confidence, objects=self._objects
            )
        except (DeviceLostError, ModelLostError):
            raise
        except (InputError, InferenceError) as error:
            return error

    def _finish(
        self,
        batch: Sequence[tuple[Tag, U8]],
        started: PendingSegmentations | Exception,
    ) -> Iterator[tuple[Tag, U8, Outcome]]:
        try:
            if isinstance(started, Exception):
                raise started
            results = started.results()
        except (DeviceLostError, ModelLostError):
            raise
        except (InputError, InferenceError) as error:
            if isinstance(error, DeviceMemoryError):
                self._segmenter.free_caches()
            if len(batch) == 1:
                yield (*batch[0], error)
                return
            for single in batch:
                yield from self._finish([single], self._start([single]))
            return
        for (tag, image), result in zip(batch, results, strict=True):
            yield tag, image, self._choose(result)
