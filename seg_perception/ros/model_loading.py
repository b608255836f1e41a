"""Loads a model as the node's parameters say, in a thread of its own where another one runs."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from seg_perception.errors import ConfigurationError, InferenceError, ServerError
from seg_perception.fallback import SegmenterWithFallback, check_fallback
from seg_perception.models import ModelCard, resolve
from seg_perception.models.model_server import SCHEME
from seg_perception.pipeline import Segmenter
from seg_perception.pipeline.loaded_model import LoadedModel
from seg_perception.postprocess import draw_overlay
from seg_perception.recovery import ResilientSegmenter
from seg_perception.ros.params import Parameters
from seg_perception.structures import Frame


def model_options(parameters: Parameters) -> dict[str, Any]:
    """What a model is loaded with, for `Segmenter`."""
    return {
        'model': parameters.model,
        'weights_path': parameters.weights_path or None,
        'input_size_hw': parameters.input_size_hw,
        'device': parameters.device,
        'precision': parameters.precision,
        'channels_last': parameters.channels_last,
        'engine': parameters.engine,
        'num_threads': parameters.num_threads,
        'server_timeout_s': parameters.server_timeout_s,
    }


def loading_facts(parameters: Parameters) -> dict[str, Any]:
    """What decides which model, or models, are loaded: where it differs, one has to be loaded."""
    return {**model_options(parameters), 'fallback_model': parameters.fallback_model}


def card_of(parameters: Parameters) -> ModelCard:
    """The card of the model that the parameters name.

    Of a model whose server does not answer it is that of the one that stands in for it: its
    classes are to be the same.

    Raises:
        SegPerceptionError: see ``models.resolve``.
    """
    try:
        return resolve(parameters.model)
    except ServerError:
        if not parameters.fallback_model:
            raise
        return resolve(parameters.fallback_model)


def load_model(
    parameters: Parameters,
    card: ModelCard,
    report: Callable[[str], None],
    tell: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> ResilientSegmenter:
    """Loads and warms the model; on an error nothing of it stays.

    Args:
        parameters: the node's.
        card: of the model that they name.
        report: told what is done to bring the model back when it fails.
        tell: told of a model that is back.
        check: raises where nobody wants the model any more.

    Raises:
        SegPerceptionError: see `Segmenter` and `Segmenter.warm_up`.
    """
    return ResilientSegmenter(
        lambda: _load(parameters, card, check, report, tell),
        max_failures=parameters.max_model_failures,
        report=report,
    )


def _load(
    parameters: Parameters,
    card: ModelCard,
    check: Callable[[], None],
    report: Callable[[str], None],
    tell: Callable[[str], None],
) -> LoadedModel:
    if not parameters.fallback_model:
        return _load_one(parameters, card, check)
    fallback_card = resolve(parameters.fallback_model)
    is_address = parameters.model.startswith(f'{SCHEME}:')  # whose server may be gone
    if not (is_address or card.weights.is_served):
        raise ConfigurationError(
            f"fallback_model: expected '' because {parameters.model} runs here, got "
            f'{parameters.fallback_model}; it stands in for models of servers (triton:…)'
        )
    check_fallback(card, fallback_card)
    alone = dataclasses.replace(
        parameters,
        weights_path='',
        engine='native',
        precision='auto',
        input_size_wh=(0, 0),
        fallback_model='',
    )
    fallback = _load_one(alone, fallback_card, check)
    return SegmenterWithFallback(
        lambda: _load_one(parameters, resolve(parameters.model), lambda: None),
        fallback,
        report=report,
        tell=tell,
    )


def _load_one(parameters: Parameters, card: ModelCard, check: Callable[[], None]) -> Segmenter:
    segmenter = Segmenter(
        **{**model_options(parameters), 'model': card},
        confidence_threshold=parameters.confidence_threshold,
        words=[word for word in parameters.prompts if word],
        max_pixels=parameters.max_pixels,
        trust_model_code=parameters.trust_model_code,
    )
    try:
        check()  # warming up may take longer than all before
        segmenter.warm_up()
        _warm_up_overlay(segmenter)
    except BaseException:
        segmenter.close()
        raise
    return segmenter


def _warm_up_overlay(segmenter: Segmenter) -> None:
    """Loads or compiles what paints, so that no frame waits for it."""
    labels_YX = np.zeros((1, 1), segmenter.classes.label_dtype)
    draw_overlay(Frame.from_array(np.zeros((1, 1, 3), np.uint8)), labels_YX, segmenter.classes)


class ModelLoad(threading.Thread):
    """A model on its way into memory.

    It can be interrupted between loading and warming up only; what a cancelled one has loaded is
    freed as soon as it has it.

    Attributes:
        parameters: what to load.
        card: the model's, once ``is_resolved`` is set and it was found.
        is_resolved: set when the model's card was read, or could not be.
        error: why there is no model.

    Args:
        parameters: what to load.
        turn: held while a model is loaded, so that never two are at once.
        finished: called at the end, in this thread, unless cancelled.
        report: see `load_model`.
        tell: see `load_model`.
    """

    def __init__(
        self,
        parameters: Parameters,
        turn: threading.Lock,
        finished: Callable[[], None],
        report: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(name='model_load', daemon=True)
        self.parameters = parameters
        self.card: ModelCard | None = None
        self.is_resolved = threading.Event()
        self.error: Exception | None = None
        self._turn = turn
        self._finished = finished
        self._report = report
        self._tell = tell
        self._lock = threading.Lock()
        self._segmenter: ResilientSegmenter | None = None
        self._is_cancelled = False
        self._is_finished = False
        self._start_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._start_s

    @property
    def is_finished(self) -> bool:
        """Whether there is a model, or an error."""
        return self._is_finished

    def run(self) -> None:
        """Loads the model."""
        try:
            self.card = card_of(self.parameters)
            self.is_resolved.set()
            with self._turn:
                if not self._is_cancelled:
                    self._hold(
                        load_model(
                            self.parameters,
                            self.card,
                            self._report,
                            self._tell,
                            self._check_wanted,
                        )
                    )
        except Exception as error:
            self.error = error
        finally:
            self._is_finished = True
            self.is_resolved.set()
            if not self._is_cancelled:
                self._finished()

    def _check_wanted(self) -> None:
        if self._is_cancelled:
            raise InferenceError('nobody wants the model any more')

    def _hold(self, segmenter: ResilientSegmenter) -> None:
        with self._lock:
            if not self._is_cancelled:
                self._segmenter = segmenter
                return
        segmenter.close()

    def take(self) -> ResilientSegmenter:
        """The model, for the caller to close.

        Raises:
            Exception: why there is none.
        """
        if self.error is not None:
            raise self.error
        with self._lock:
            segmenter, self._segmenter = self._segmenter, None
        assert segmenter is not None
        return segmenter

    def cancel(self) -> None:
        """Says that nobody wants the model any more."""
        with self._lock:
            self._is_cancelled = True
            segmenter, self._segmenter = self._segmenter, None
        if segmenter is not None:
            segmenter.close()
