"""A local model that stands in while the server of another one does not answer.

The policy, for a model that a server runs (``triton:…``):

- images that the server has not answered in time, or not in a way that is of use, are segmented by
  the local model: they come late, but they come;
- after `MAX_FAILURES` such calls in a row the server counts as gone: images go to the local model
  at once, and the server is tried every few seconds, beside it, by loading its model anew and
  segmenting a black image;
- where that succeeds within the time that an answer may take, images go to the server again. One
  that fails soon after it came back is tried less and less often.

Both must have the same classes, so that label ids mean the same whoever gives them; every result
says which model made it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from seg_perception.backends.worded import Vocabulary
from seg_perception.errors import ConfigurationError, InferenceError, ModelError, ServerError
from seg_perception.models import ModelCard
from seg_perception.pipeline import Image
from seg_perception.pipeline.loaded_model import LoadedModel
from seg_perception.pipeline.pending import FinishedSegmentations, Pending
from seg_perception.structures import ClassTable, Segmentation

MAX_FAILURES = 3
"""So many calls in a row without an answer, and the server counts as gone."""
RETRY_S = 2.0
"""How soon a server that is gone is tried, and how often."""
MAX_RETRY_S = 30.0
SETTLED_S = 10.0
"""A server that answered for so long is well; it is tried as soon as the first time."""


def check_fallback(card: ModelCard, fallback: ModelCard) -> None:
    """Refuses a local model that cannot stand in for a served one.

    Raises:
        ConfigurationError: other classes, another kind of output, or it does not run here.
    """
    if fallback.weights.is_served:
        raise ConfigurationError(
            f'fallback_model: expected a model that runs here, got {fallback.weights.uri}'
        )
    if fallback.output.is_asked or card.output.is_asked:
        raise ConfigurationError(
            f'fallback_model: expected models with classes of their own, got {fallback.name} '
            f'({fallback.output.kind}) for {card.name} ({card.output.kind})'
        )
    ours, theirs = card.classes.names, fallback.classes.names
    if ours != theirs:
        pairs = enumerate(zip(ours, theirs, strict=False))
        differing = [f'; class {i} is {b}, not {a}' for i, (a, b) in pairs if a != b]
        raise ConfigurationError(
            f'fallback_model: expected the {len(ours)} classes of {card.name}, so that labels '
            f'mean the same whoever made them, {fallback.name} has {len(theirs)}'
            f'{"".join(differing[:1])}'
        )
    if (
        card.output.has_scores != fallback.output.has_scores
        or card.output.gives_objects != fallback.output.gives_objects
    ):
        raise ConfigurationError(
            f'fallback_model: expected output of the kind of {card.name} ({card.output.kind}), '
            f'{fallback.name} gives {fallback.output.kind}'
        )


class SegmenterWithFallback:
    """A served model and the local one that stands in for it; see this module.

    One thread segments; another may describe. See `LoadedModel` for what is not said here.

    Args:
        connect: loads the served model and warms it up; for any thread.
        fallback: the local model, warmed up; taken over.
        report: told, in one line, of answers that did not come and of a server that is gone.
        tell: told of a server that is back.
        retry_s: see `RETRY_S`.

    Raises:
        SegPerceptionError: the served model cannot be had although its server answers; what was
            taken over is closed.
        ConfigurationError: the local model cannot stand in for it.
    """

    takes_prompts = False

    def __init__(
        self,
        connect: Callable[[], LoadedModel],
        fallback: LoadedModel,
        *,
        report: Callable[[str], None],
        tell: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        self._connect = connect
        self._fallback = fallback
        self._report = report
        self._tell = tell
        self._retry_s = self._delay_s = retry_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._served: LoadedModel | None = None
        self._arrived: LoadedModel | None = None  # connected to by another thread
        self._num_failures = self._num_losses = 0
        self._answering_since_s = self._gone_since_s = time.monotonic()
        self._reason = ''
        self._scale = 1.0
        self._threshold = fallback.confidence_threshold
        self.card = fallback.card
        try:
            self._served = self._connected()
            self.card = self._served.card
        except ServerError as error:
            self._lose(str(error))
        except BaseException:
            self.close()
            raise

    @property
    def classes(self) -> ClassTable:
        """What the label values mean, whichever model gives them."""
        return self.card.classes

    @property
    def has_confidence(self) -> bool:
        """Whether the models give scores."""
        return self.card.output.has_scores

    @property
    def confidence_threshold(self) -> float:
        """Pixels less sure than this probability get the unlabelled id."""
        return self._threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: float) -> None:
        with self._lock:  # one that is welcomed meanwhile gets it too
            self._threshold = threshold
            for model in self._models():
                model.confidence_threshold = threshold

    @property
    def can_scale_input(self) -> bool:
        """Whether the input of the model at work can be made smaller."""
        return (self._served or self._fallback).can_scale_input

    def scale_input(self, scale: float) -> None:
        """See `LoadedModel.scale_input`; for the models that can."""
        self._scale = scale
        for model in self._models():
            model.scale_input(scale if model.can_scale_input else 1.0)

    def prepare_words(self, words: Sequence[str]) -> Vocabulary:
        """The models take no words: raises ConfigurationError."""
        return self._fallback.prepare_words(words)

    def use_words(self, vocabulary: Vocabulary) -> None:
        """See `prepare_words`."""
        self._fallback.use_words(vocabulary)

    def description(self) -> Mapping[str, str]:
        """What runs where and how, for people: the served model's where it answered at first."""
        about = (self._served or self._fallback).description()
        return {**about, 'fallback_model': self._fallback.card.name}

    def condition(self) -> Mapping[str, str]:
        """See `LoadedModel.condition`."""
        with self._lock:
            is_served, reason = self._served is not None, self._reason
            gone_s = time.monotonic() - self._gone_since_s
        at_work = self._served or self._fallback
        return {
            **at_work.condition(),
            'server_losses': str(self._num_losses),
            **({} if is_served else {'server': f'gone for {gone_s:.0f} s: {reason}'}),
        }

    @property
    def concern(self) -> str:
        """See `LoadedModel.concern`."""
        with self._lock:
            if self._served is not None:
                return ''
            return f'labels are from the fallback {self._fallback.card.name}: {self._reason}'

    def start(self, images: Sequence[Image], **options: Any) -> Pending:
        """See `LoadedModel.start`; waits, as only an answer tells who makes the results."""
        return FinishedSegmentations(self.segment(images, **options))

    def segment(self, images: Sequence[Image], **options: Any) -> list[Segmentation]:
        """As `Segmenter.segment`; by the local model where the server gives no answer."""
        self._welcome()
        served = self._served
        if served is not None:
            try:
                results = served.start(images, **options).results()
            except ModelError as error:
                self._count(error)
            else:
                self._num_failures = 0
                return results
        return self._fallback.start(images, **options).results()

    def free_caches(self) -> None:
        """See `LoadedModel.free_caches`."""
        for model in self._models():
            model.free_caches()

    def close(self) -> None:
        """See `LoadedModel.close`; ends looking for the server too."""
        self._closed.set()
        with self._lock:
            models = [self._served, self._arrived, self._fallback]
            self._served = self._arrived = None
        for model in models:
            if model is not None:
                _close(model)

    def _models(self) -> list[LoadedModel]:
        return [self._fallback, *([] if self._served is None else [self._served])]

    def _connected(self) -> LoadedModel:
        """The served model, if the local one can stand in for it."""
        model = self._connect()
        try:
            check_fallback(model.card, self._fallback.card)
        except ConfigurationError:
            _close(model)
            raise
        return model

    def _count(self, error: ModelError) -> None:
        """Counts a call without an answer; leaves a server that is gone."""
        self._num_failures += 1
        is_passing = isinstance(error, InferenceError)
        if is_passing and self._num_failures < MAX_FAILURES:
            self._report(f'{error}: segmented by {self._fallback.card.name}')
            return
        self._lose(str(error))

    def _lose(self, reason: str) -> None:
        """Goes on with the local model, and looks for the server beside it."""
        with self._lock:
            served, self._served = self._served, None
            now_s = time.monotonic()
            was_well = now_s - self._answering_since_s > SETTLED_S or not self._num_losses
            self._delay_s = self._retry_s if was_well else min(2 * self._delay_s, MAX_RETRY_S)
            self._gone_since_s, self._reason = now_s, reason
            self._num_failures = 0
            self._num_losses += 1
        if served is not None:
            _close(served)
        self._report(f'{reason}: labels are from the fallback {self._fallback.card.name} now')
        threading.Thread(target=self._look, name='server_watch', daemon=True).start()

    def _look(self) -> None:
        """Connects to the server as soon as it answers in time."""
        while not self._closed.wait(self._delay_s):
            try:
                model = self._connected()
            except Exception as error:  # whatever it is, the local model goes on
                with self._lock:
                    self._reason = str(error)
                continue
            with self._lock:
                if not self._closed.is_set():
                    self._arrived = model
                    return
            _close(model)

    def _welcome(self) -> None:
        """Takes a server that answers again."""
        with self._lock:
            model, self._arrived = self._arrived, None
            if model is None:
                return
            gone_s = time.monotonic() - self._gone_since_s
        model.scale_input(self._scale if model.can_scale_input else 1.0)
        with self._lock:
            model.confidence_threshold = self._threshold
            self._served, self._answering_since_s = model, time.monotonic()
        self._tell(
            f'{model.card.label_source} answers again after {gone_s:.0f} s: labels are from it now'
        )


def _close(model: LoadedModel) -> None:
    # As in recovery: on a device that failed, giving memory back fails too.
    with suppress(RuntimeError):
        model.close()
