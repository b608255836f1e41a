"""Keeps a model at work: what failed once is tried again smaller, then loaded anew, then given up.

The policy, by what went wrong:

- *out of memory*: caches are freed and the images are tried one by one; later batches are of one
  image for a while.
- *the device failed*: the model is loaded anew and the images are tried once more.
- *anything else* (an operator that raises, NaN): the images are lost. After ``max_failures`` lost
  in a row the model is loaded anew.
- *a server that does not answer* (`ServerError`): the images are lost, or a local model stands in
  (`seg_perception.fallback`); the next images try the server again.
- *a call that does not return*: who watches says so (`ResilientSegmenter.abandon`); the model is
  loaded anew beside the one that hangs, whose memory stays taken.

What is loaded anew must succeed once before it may be loaded anew again; else the model is lost.
No other device is ever taken.

While one thread makes the results of some images, another may start the next. What brings the
model back is done by the thread that finds the failure, while the other waits; images that were
started with a model that is gone by then are segmented by the one that took its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from seg_perception.backends.worded import Vocabulary
from seg_perception.errors import (
    ConfigurationError,
    DeviceLostError,
    DeviceMemoryError,
    InferenceError,
    InputError,
    ModelLostError,
    ServerError,
)
from seg_perception.models import ModelCard
from seg_perception.pipeline import Image
from seg_perception.pipeline.loaded_model import LoadedModel
from seg_perception.pipeline.pending import FinishedSegmentations, Pending
from seg_perception.structures import ClassTable, Segmentation

SMALL_BATCHES_S = 60.0
"""How long batches stay small after memory ran out."""


@dataclass(slots=True, eq=False)
class _Era:
    """From one abandoned call to the next.

    Attributes:
        model_lock: held by who starts images or brings the model back.
        busy_since_s: when the calls under way began.
    """

    model_lock: threading.Lock
    busy_since_s: dict[object, float]


class ResilientSegmenter:
    """A segmenter that brings its model back to work.

    One thread starts images, one asks for results; another may watch, abandon and describe. Not
    thread-safe otherwise.

    Args:
        load: loads the model and warms it up.
        max_failures: so many lost calls in a row have the model loaded anew; 0 for never.
        report: told, in one line, what is done to bring the model back.

    Raises:
        SegPerceptionError: whatever ``load`` raises the first time.
    """

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        *,
        max_failures: int = 10,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._load = load
        self._max_failures = max_failures
        self._report = report
        self._lock = threading.Lock()
        start_s = time.monotonic()
        self._model: LoadedModel | None = load()
        self._load_s = time.monotonic() - start_s
        self._seen = self._model
        self._description = dict(self._model.description())
        self._era = _Era(threading.Lock(), {})
        self._num_failures = 0
        self._num_reloads = 0
        self._is_on_trial = False
        self._lost: ModelLostError | None = None
        self._reason = ''
        self._scale = 1.0
        self._words: tuple[str, ...] | None = None
        self._threshold = self._model.confidence_threshold
        self._small_until_s = 0.0

    @property
    def classes(self) -> ClassTable:
        """What the label values mean."""
        return self._seen.classes

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._seen.card

    @property
    def has_confidence(self) -> bool:
        """Whether the model gives scores."""
        return self._seen.has_confidence

    @property
    def confidence_threshold(self) -> float:
        """Pixels less sure than this probability get the unlabelled id."""
        return self._threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: float) -> None:
        with self._lock:  # a model that is loaded anew meanwhile gets it too
            self._threshold = threshold
            self._seen.confidence_threshold = threshold

    @property
    def can_scale_input(self) -> bool:
        """Whether the network's input can be made smaller."""
        return self._seen.can_scale_input

    def scale_input(self, scale: float) -> None:
        """As `Segmenter.scale_input`, for models loaded anew too; for the segmenting thread."""
        if scale != self._scale:
            with self._lock:
                era = self._era
            with era.model_lock:
                self._seen.scale_input(scale)
                self._scale = scale

    @property
    def takes_prompts(self) -> bool:
        """Whether the model segments what prompts point at."""
        return self._seen.takes_prompts

    def prepare_words(self, words: Sequence[str]) -> Vocabulary:
        """As `Segmenter.prepare_words`."""
        return self._seen.prepare_words(words)

    def use_words(self, vocabulary: Vocabulary) -> None:
        """As `Segmenter.use_words`, for models loaded anew too."""
        self._seen.use_words(vocabulary)
        self._words = vocabulary.classes.names[1:]

    @property
    def num_reloads(self) -> int:
        """How often the model was loaded anew."""
        return self._num_reloads

    @property
    def batch_limit(self) -> int | None:
        """How many images at once are prudent now; None for any number."""
        return 1 if time.monotonic() < self._small_until_s else None

    def description(self) -> Mapping[str, str]:
        """What runs where and how, for people; the last that is known while it is loaded anew."""
        return {**self._description, 'model_reloads': str(self._num_reloads)}

    def condition(self) -> Mapping[str, str]:
        """Who makes labels now and how it is, for people."""
        return self._seen.condition()

    @property
    def concern(self) -> str:
        """What is wrong although labels are made; '' for nothing."""
        return self._seen.concern

    def segment(self, images: Sequence[Image], **options: Any) -> list[Segmentation]:
        """As `Segmenter.segment`; brings the model back to work where that can be done.

        Raises:
            InputError, ConfigurationError: what was asked for cannot be.
            InferenceError: the images are lost; the next may come through.
            ModelLostError: the model is lost, now and for all further calls.
        """
        return self.start(images, **options).results()

    def start(self, images: Sequence[Image], **options: Any) -> Pending:
        """As `Segmenter.start`; see `segment` for what it and ``results`` raise."""
        with self._lock:
            era = self._era
        with self._busy(era), era.model_lock:
            model = self._working_model(era)
            try:
                pending = model.start(images, **options)
            except Exception as error:
                return FinishedSegmentations(self._recover(model, error, images, options, era))
        return _ResilientCall(partial(self._results_of, pending, model, images, options, era))

    def _results_of(
        self,
        pending: Pending,
        model: LoadedModel,
        images: Sequence[Image],
        options: Mapping[str, Any],
        era: _Era,
    ) -> list[Segmentation]:
        with self._busy(era):
            try:
                results = pending.results()
            except Exception as error:
                with era.model_lock:
                    return self._recover(model, error, images, options, era)
        self._note_success(model, era)
        return results

    @contextmanager
    def _busy(self, era: _Era) -> Iterator[None]:
        """Counts a call as under way."""
        call = object()
        with self._lock:
            era.busy_since_s[call] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del era.busy_since_s[call]

    def is_hanging(self, timeout_s: float) -> bool:
        """Whether a call has not returned for longer than that, or three times its loading."""
        with self._lock:
            if not self._era.busy_since_s:
                return False
            allowed_s = timeout_s if self._model is not None else timeout_s + 3.0 * self._load_s
            return time.monotonic() - min(self._era.busy_since_s.values()) > allowed_s

    def abandon(self, reason: str) -> None:
        """Leaves the call that is under way to itself; the next one loads the model anew.

        What hangs goes on hanging and keeps its memory. Should it return after all, what it says
        counts for nothing.

        Args:
            reason: what made it hang, or how it was noticed.

        Raises:
            ModelLostError: the model was loaded anew before and hangs again.
        """
        with self._lock:
            self._era = _Era(threading.Lock(), {})
            self._model, self._reason = None, reason
            if self._is_on_trial:
                self._lost = ModelLostError(
                    f'{reason}, and hangs again after it was loaded anew: end the process',
                    needs_new_process=True,
                )
                raise self._lost
            self._is_on_trial = True
        self._report(f'{reason}: it is loaded anew, beside the one that hangs')

    def close(self) -> None:
        """Frees the model's memory; that of one that hangs stays taken."""
        with self._lock:
            model, self._model = self._model, None
            self._lost = self._lost or ModelLostError('the model is closed')
        if model is not None:
            _close(model)

    def _recover(
        self,
        model: LoadedModel,
        error: Exception,
        images: Sequence[Image],
        options: Mapping[str, Any],
        era: _Era,
    ) -> list[Segmentation]:
        """Does what the policy says of a failure; gives the images' results where it helps."""
        try:
            if isinstance(error, DeviceMemoryError) and model is self._model:
                results = self._one_by_one(model, error, images, options)
            elif model is self._model:
                raise error
            else:  # it went with other images
                model = self._working_model(era)
                results = model.start(images, **options).results()
        except (InputError, ConfigurationError, ServerError, ModelLostError):
            raise  # nothing that bringing the model back could mend
        except DeviceLostError as lost:
            self._discard(model, str(lost), era)
            model = self._working_model(era)
            results = model.start(images, **options).results()
        except Exception as failure:
            self._count_failure(model, failure, era)
            raise
        self._note_success(model, era)
        return results

    def _one_by_one(
        self,
        model: LoadedModel,
        error: DeviceMemoryError,
        images: Sequence[Image],
        options: Mapping[str, Any],
    ) -> list[Segmentation]:
        """Segments images that memory ran out for, with caches freed."""
        self._small_until_s = time.monotonic() + SMALL_BATCHES_S
        self._report(f'{error}: caches are freed and {len(images)} image(s) tried one by one')
        model.free_caches()
        return [
            result
            for i, image in enumerate(images)
            for result in model.start([image], **_of_image(options, i)).results()
        ]

    def _working_model(self, era: _Era) -> LoadedModel:
        """The model, loaded anew where it has to be."""
        with self._lock:
            self._check_current(era)
            if self._lost is not None:
                raise self._lost
            if self._model is not None:
                return self._model
        try:
            model = self._load()
            model.scale_input(self._scale)
            if self._words is not None:
                model.use_words(model.prepare_words(self._words))
        except Exception as error:
            lost = ModelLostError(
                f'the model failed ({self._reason}) and cannot be loaded anew: {error}',
                needs_new_process=isinstance(error, DeviceLostError),
            )
            with self._lock:
                if era is self._era:
                    self._lost = lost
            raise lost from error
        with self._lock:
            if era is self._era and self._lost is None:
                self._model = self._seen = model
                model.confidence_threshold = self._threshold
                self._description = dict(model.description())
                self._num_reloads += 1
                return model
        _close(model)
        raise InferenceError('the model was abandoned while it was loaded')

    def _note_success(self, model: LoadedModel, era: _Era) -> None:
        with self._lock:
            self._check_current(era)
            if model is self._model:
                self._num_failures, self._is_on_trial = 0, False

    def _count_failure(self, model: LoadedModel, error: Exception, era: _Era) -> None:
        with self._lock:
            if era is not self._era:
                return
            self._num_failures += 1
            num_failures = self._num_failures
        if 0 < self._max_failures <= num_failures:
            reason = f'{num_failures} calls in a row failed, the last one with: {error}'
            self._discard(model, reason, era)

    def _discard(self, model: LoadedModel, reason: str, era: _Era) -> None:
        """Has the model loaded anew at the next call.

        Raises:
            ModelLostError: that was done before, and it never worked since.
        """
        with self._lock:
            self._check_current(era)
            self._model, self._num_failures, self._reason = None, 0, reason
            if self._is_on_trial:
                self._lost = ModelLostError(f'{reason}, after it was loaded anew')
            self._is_on_trial = True
            lost = self._lost
        _close(model)
        if lost is not None:
            raise lost
        self._report(f'{reason}: the model is loaded anew')

    def _check_current(self, era: _Era) -> None:
        if era is not self._era:
            raise InferenceError('the model was abandoned before it returned')


class _ResilientCall:
    """Images that were started; see `Pending`."""

    def __init__(self, make_results: Callable[[], list[Segmentation]]) -> None:
        self._make_results = make_results

    def results(self) -> list[Segmentation]:
        """See `Pending.results`."""
        return self._make_results()


def _of_image(options: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The options for one image of several."""
    prompts = options.get('prompts')
    return dict(options) if prompts is None else {**options, 'prompts': [prompts[index]]}


def _close(model: LoadedModel) -> None:
    # On a device that failed, giving memory back fails too, and there is nothing to do about it.
    with suppress(RuntimeError):
        model.close()
