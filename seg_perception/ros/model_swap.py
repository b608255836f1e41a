"""The model that runs, and how another one takes its place between two frames.

A change of swapped parameters is checked at once as far as that is quick. What it needs is loaded
beside the model that runs, in a thread of its own (`ModelLoad`); publishers for the new classes
are made in the executor's thread; then the worker makes the exchange between two frames, the
class table first, and the executor frees what is left over. Of several changes the last one wins.
Where a change fails, everything stays, and the parameters go back to what runs.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.parameter import Parameter

from seg_perception.errors import ConfigurationError
from seg_perception.freed_memory import return_freed_memory
from seg_perception.models import ModelCard
from seg_perception.recovery import ResilientSegmenter
from seg_perception.ros import params_values
from seg_perception.ros.camera import Camera
from seg_perception.ros.log import explain
from seg_perception.ros.model_fit import check_fits, model_classes, output_table_of
from seg_perception.ros.model_loading import ModelLoad, card_of, load_model, loading_facts
from seg_perception.ros.mount import Transforms
from seg_perception.ros.options import rows
from seg_perception.ros.outputs import CameraOutputs
from seg_perception.ros.params import Parameters
from seg_perception.ros.prompts import PromptTopics
from seg_perception.ros.worker import SegmentationWorker

QUICK_S = 1.0
"""How long a parameter change waits for the new model's card, to be refused or accepted."""

CANCELLED_LOAD_S = 60.0
"""How long the first load waits for one that was cancelled and cannot be interrupted."""

SWAPPED = tuple(name for name, _, meaning in rows(Parameters) if meaning.is_swapped)
"""Parameters that a swap changes."""


class ModelSwap:
    """Owns the model and the parameters that hold for it.

    All methods are for the executor's thread.

    Attributes:
        settings: the parameters in force. Swapped ones are in force when the worker has made the
            exchange, not when they were set.
        segmenter: the model that runs; None where none is loaded.
        worker: who runs it now, None where nobody does.
        failure: why the last change failed; '' where it did not.

    Args:
        node: whose parameters these are.
        cameras: the node's, by name.
        transforms: TF.
        settings: its parameters.
    """

    def __init__(
        self,
        node: Node,
        cameras: Mapping[str, Camera],
        transforms: Transforms,
        settings: Parameters,
    ) -> None:
        self.settings = settings
        self.segmenter: ResilientSegmenter | None = None
        self.worker: SegmentationWorker | None = None
        self.failure = ''
        self._node = node
        self._cameras = cameras
        self._transforms = transforms
        self._lock = threading.Lock()
        self._wanted = self._committed = settings
        self._next: ResilientSegmenter | None = None  # runs once all exchanges are made
        self._load: ModelLoad | None = None
        self._turn = threading.Lock()
        self._prompts = PromptTopics(node, cameras)
        self._exchanges: set[object] = set()  # committed, and not made yet
        self._retired: list[ResilientSegmenter] = []
        self._outcome = ''
        self._progress = node.create_guard_condition(self._advance)

    def load(self, settings: Parameters) -> None:
        """Loads the first model and waits for it.

        Raises:
            SegPerceptionError: see `load_model`.
            ConfigurationError: it has not all classes that the parameters name, or a load that
                was cancelled does not come to its end.
        """
        self.settings = self._wanted = self._committed = settings
        self.failure = self._outcome = ''
        card = card_of(settings)
        check_fits(card, settings)
        with self._loading_alone():
            self.segmenter = self._next = load_model(settings, card, self._report, self._tell)

    def make_outputs(self, camera: str, namespace: str) -> CameraOutputs:
        """The publishers of a camera for the model that runs.

        Raises:
            ConfigurationError: the parameters do not fit the model, or each other.
        """
        assert self.segmenter is not None
        card = self.segmenter.card
        table = output_table_of(card, self.settings, camera)
        labels_from = self.segmenter.condition()['labels_from']
        return CameraOutputs(
            self._node,
            namespace,
            self.segmenter.classes,
            table,
            labels_from,
            lambda: self.settings.confidence_threshold,
        )

    def offer_prompts(self) -> None:
        """Listens to prompts where the model that runs takes them, else not."""
        self._prompts.offer(self.segmenter is not None and self.segmenter.takes_prompts)

    def close(self) -> None:
        """Frees the model, and what is on its way as soon as it is there."""
        self._prompts.offer(False)
        if self._load is not None:
            self._load.cancel()
        self._load = None
        with self._lock:
            self._exchanges.clear()  # an abandoned worker leaves some, and may yet come to them
        if self.segmenter is not None:
            self._retired.append(self.segmenter)
        self.segmenter = self._next = None
        self._free_retired()

    def change(self, changes: Mapping[str, Any]) -> None:
        """Takes new parameter values; live ones hold at once, swapped ones after the swap.

        Args:
            changes: values by full name.

        Raises:
            SegPerceptionError: a value cannot be, the model cannot be found, or it has not all
                classes that the parameters name; nothing is changed then.
        """
        wanted = params_values.changed(self._wanted, changes, is_loaded=self.segmenter is not None)
        if self.segmenter is None or self._next is None:
            self.settings = self._wanted = self._committed = wanted
            return
        load = self._find_load(wanted)
        card = self._next.card if load is None else load.card
        try:
            if card is not None:
                self._check(card, wanted)
            if load is None and _differ(wanted, self._committed):
                self._commit(None, card, wanted)
        except Exception:
            if load is not None and load is not self._load:
                load.cancel()
            raise
        if load is not self._load:
            if self._load is not None:
                self._load.cancel()
            self._load, self.failure, self._outcome = load, '', ''
            if load is not None:
                self._node.get_logger().info(f'loading {_named(load)} beside {self._running}')
        self._wanted = wanted
        with self._lock:
            self.settings = with_swapped(wanted, self.settings)
            if self.segmenter.has_confidence:
                self.segmenter.confidence_threshold = wanted.confidence_threshold

    def description(self) -> str:
        """What runs where and how, on one line."""
        about = self.segmenter.description() if self.segmenter is not None else {}
        return ', '.join(f'{key} {value}' for key, value in about.items())

    def status(self) -> dict[str, str]:
        """How far a swap is, or how the last one ended, for people."""
        outcome = self._outcome
        if self._load is not None:
            outcome = f'loading {_named(self._load)} for {self._load.elapsed_s:.1f} s'
        return {'swap': outcome} if outcome else {}

    @property
    def _running(self) -> str:
        return self.segmenter.card.name if self.segmenter is not None else 'none'

    @contextmanager
    def _loading_alone(self) -> Iterator[None]:
        """Waits for the end of a load that was cancelled: memory need not hold both models."""
        if not self._turn.acquire(blocking=False):
            self._node.get_logger().info('waits for the end of a load that was cancelled')
            if not self._turn.acquire(timeout=CANCELLED_LOAD_S):
                raise ConfigurationError(
                    'expected the load that was cancelled to end, for memory to hold one model, '
                    f'but it goes on after {CANCELLED_LOAD_S:g} s: configure later, or start the '
                    'process anew'
                )
        try:
            yield
        finally:
            self._turn.release()

    def _find_load(self, wanted: Parameters) -> ModelLoad | None:
        """What loads the model that is wanted; None where it runs.

        Raises:
            SegPerceptionError: that model cannot be found.
        """
        if loading_facts(wanted) == loading_facts(self._committed):
            return None
        if self._load is not None and loading_facts(wanted) == loading_facts(
            self._load.parameters
        ):
            return self._load
        load = ModelLoad(wanted, self._turn, self._notify, self._report, self._tell)
        load.start()
        if load.is_resolved.wait(QUICK_S) and load.card is None and load.error is not None:
            load.cancel()
            raise load.error
        return load

    def _tell(self, text: str) -> None:
        self._node.get_logger().info(f'model: {text}')

    def _report(self, text: str) -> None:
        self._node.get_logger().error(f'model: {text}')

    def _notify(self) -> None:
        with suppress(InvalidHandle):  # the node is gone
            self._progress.trigger()

    def _check(self, card: ModelCard, parameters: Parameters) -> None:
        check_fits(card, parameters)
        for camera in self._cameras:
            output_table_of(card, parameters, camera)

    def _advance(self) -> None:
        """Goes on where a load or an exchange has come to its end."""
        if self._load is not None and self._load.is_finished:
            load, self._load = self._load, None
            try:
                segmenter = load.take()
            except Exception as error:
                self._give_up(load, error)
            else:
                self._accept(load, segmenter)
        self._tidy()
        if self._exchanges:
            return
        self.offer_prompts()
        if self._retired:
            self._free_retired()
            self._node.get_logger().info(f'{self._outcome}: {self.description()}')

    def _accept(self, load: ModelLoad, segmenter: ResilientSegmenter) -> None:
        """Puts a loaded model into the place of the one that runs."""
        try:
            self._check(segmenter.card, self._wanted)
            self._commit(segmenter, segmenter.card, self._wanted)
        except Exception as error:
            segmenter.close()
            self._give_up(load, error)
        else:
            self._outcome = f'{_named(load)} took over after {load.elapsed_s:.1f} s'

    def _commit(
        self, segmenter: ResilientSegmenter | None, card: ModelCard | None, wanted: Parameters
    ) -> None:
        """Prepares an exchange and has it made; nothing can stop it from then on.

        Args:
            segmenter: the new model; None where only outputs change.
            card: its card, or that of the one that runs by then.
            wanted: the parameters from then on.

        Raises:
            Exception: the model fails on the words, or a publisher cannot be made; nothing is
                changed.
        """
        assert card is not None
        classes = model_classes(card, wanted)
        vocabulary = None
        try:
            if card.output.kind == 'words':
                takes_words = segmenter or self._next
                assert takes_words is not None
                vocabulary = takes_words.prepare_words(classes.names[1:])
            # After the words: topics that come are seen by everybody, even if they go again.
            prepared = {
                name: camera.outputs.prepare(output_table_of(card, wanted, name))
                for name, camera in self._cameras.items()
            }
            if wanted.needs_tf:
                self._transforms.open()
        except Exception:
            self._tidy()
            raise
        self._committed = wanted
        goes_on = self._next = segmenter or self._next
        assert goes_on is not None
        pending = object()
        with self._lock:
            self._exchanges.add(pending)

        def exchange() -> ResilientSegmenter:
            now_ns = int(self._node.get_clock().now().nanoseconds)
            with self._lock:
                if pending not in self._exchanges:
                    return goes_on  # nobody wants it any more
                self.settings = settings = with_swapped(self.settings, wanted)
                if segmenter is not None:
                    if segmenter.has_confidence:
                        segmenter.confidence_threshold = settings.confidence_threshold
                    assert self.segmenter is not None
                    self._retired.append(self.segmenter)
                    self.segmenter = segmenter
                if vocabulary is not None:
                    goes_on.use_words(vocabulary)
            failures = []
            for name, camera in self._cameras.items():
                try:
                    camera.outputs.exchange(classes, prepared[name], now_ns)
                except Exception as error:  # rclpy's own: its class table cannot be published
                    failures.append(error)
                if segmenter is not None:
                    camera.forget_objects()
            with self._lock:
                self._exchanges.discard(pending)
            self._notify()
            if failures:
                raise failures[0]
            return goes_on

        if self.worker is not None and self.worker.is_alive():
            self.worker.exchange(exchange)
            return
        try:
            exchange()
        except Exception as error:  # activation publishes the class tables again
            self._node.get_logger().error(f'label_info: {explain(error)}')

    def _tidy(self) -> None:
        """Removes publishers that no model needs; those of one that is to take over stay."""
        if not self._exchanges:
            for camera in self._cameras.values():
                camera.outputs.tidy()

    def _give_up(self, load: ModelLoad, error: Exception) -> None:
        """Says why a model cannot be had, and puts the parameters back."""
        self.failure = f'cannot swap to {_named(load)}, {self._running} goes on: {error}'
        self._outcome = f'{_named(load)} failed'
        self._node.get_logger().error(
            f'cannot swap to {_named(load)}, {self._running} goes on: {explain(error)}'
        )
        back, self._wanted = self._wanted, with_swapped(self._wanted, self._committed)
        self._node.set_parameters(
            [
                Parameter(name, value=list(value) if isinstance(value, tuple) else value)
                for name in SWAPPED
                if (value := getattr(self._wanted, name)) != getattr(back, name)
            ]
        )

    def _free_retired(self) -> None:
        while self._retired:
            self._retired.pop().close()
        return_freed_memory()


def with_swapped(parameters: Parameters, of: Parameters) -> Parameters:
    """The first parameters with the swapped ones of the second."""
    return dataclasses.replace(parameters, **{name: getattr(of, name) for name in SWAPPED})


def _differ(parameters: Parameters, others: Parameters) -> bool:
    """Whether they differ in what is swapped."""
    return parameters != with_swapped(parameters, others)


def _named(load: ModelLoad | None) -> str:
    return load.parameters.model if load is not None else ''
