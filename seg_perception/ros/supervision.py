"""Watches the model at work: leaves one that hangs, starts the node anew when it is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.timer import Timer

from seg_perception.errors import ModelLostError
from seg_perception.ros.params import Parameters
from seg_perception.ros.worker import SegmentationWorker

FAULT_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h; with it the process ends where ``exit_on_fault`` is set."""
_MAX_RESTART_DELAY_S = 60.0
_SETTLED_S = 60.0
"""A model that worked for so long was well: the next restart is as quick as the first."""


class Supervisor:
    """Keeps the node at work; all methods but `on_lost` and `look` are for the executor's thread.

    Attributes:
        lost: why the model is lost; None while it is not. Deactivation is an error then.

    Args:
        node: what to deactivate and to start anew.
        settings: its parameters, as they are now.
        replace: told of the worker that takes the place of one that hangs.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Callable[[], Parameters],
        replace: Callable[[SegmentationWorker], None],
    ) -> None:
        self.lost: ModelLostError | None = None
        self._node = node
        self._settings = settings
        self._replace = replace
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._worker: SegmentationWorker | None = None
        self._restart_timer: Timer | None = None
        self._restart_delay_s = 0.0
        self._started_s = 0.0
        self._was_lost = node.create_guard_condition(self._give_up)
        self._is_in_trouble = node.create_guard_condition(self._help)

    def watch(self, worker: SegmentationWorker) -> None:
        """Begins to watch a worker that was just started."""
        self.unwatch()
        self.lost, self._worker, self._started_s = None, worker, time.monotonic()

    def unwatch(self) -> None:
        """Ends watching, and a restart that was to come."""
        self._worker = None
        if self._restart_timer is not None:
            self._node.destroy_timer(self._restart_timer)
        self._restart_timer = None

    def on_lost(self, error: ModelLostError) -> None:
        """The model is lost; for any thread."""
        self.lost = error
        with suppress(InvalidHandle):  # the node is gone
            self._was_lost.trigger()

    def look(self) -> None:
        """Sees to a worker in trouble; to be called now and then, by any thread.

        The executor is woken for a worker in trouble only: waking it costs more than looking.
        """
        worker = self._worker
        if worker is not None and (not worker.is_alive() or self._hangs(worker)):
            with suppress(InvalidHandle):
                self._is_in_trouble.trigger()

    def _hangs(self, worker: SegmentationWorker) -> bool:
        timeout_s = self._settings().model_timeout_s
        return bool(timeout_s) and worker.segmenter.is_hanging(timeout_s)

    def _help(self) -> None:
        worker = self._worker
        if worker is None:
            return  # it was stopped meanwhile
        if not worker.is_alive():
            self.on_lost(ModelLostError("the worker's thread ended"))
            return
        if not self._hangs(worker):
            return
        timeout_s = self._settings().model_timeout_s
        reason = f'the model has worked on one batch for more than {timeout_s:g} s'
        successor = worker.succeed(reason)
        try:
            worker.segmenter.abandon(reason)
        except ModelLostError as error:
            self.on_lost(error)
            return
        successor.start()
        self._worker = successor
        self._replace(successor)

    def _give_up(self) -> None:
        """Takes the node to unconfigured through its error state; plans its restart."""
        error, settings = self.lost, self._settings()
        if error is None or self._worker is None:
            return
        was_well = time.monotonic() - self._started_s > _SETTLED_S
        delay_s = settings.restart_delay_s if was_well else 2.0 * self._restart_delay_s
        self._node.get_logger().error(f'the model is lost: {error}')
        if error.needs_new_process and settings.exit_on_fault:
            raise SystemExit(FAULT_EXIT_CODE)
        self._node.trigger_deactivate()
        if settings.autostart and settings.restart_delay_s and not error.needs_new_process:
            self.restart_in(max(delay_s, settings.restart_delay_s))

    def restart_in(self, delay_s: float) -> None:
        """Has the node configured and activated after a while, and again until that succeeds."""
        self._restart_delay_s = min(delay_s, _MAX_RESTART_DELAY_S)
        self._restart_timer = self._node.create_timer(
            self._restart_delay_s, self._restart, clock=self._clock
        )
        self._node.get_logger().warning(f'configures anew in {self._restart_delay_s:g} s')

    def _restart(self) -> None:
        delay_s = self._restart_delay_s
        if self._restart_timer is not None:
            self._node.destroy_timer(self._restart_timer)
        self._restart_timer = None
        try:
            if self._node.trigger_configure() is TransitionCallbackReturn.SUCCESS:
                outcome = self._node.trigger_activate()
                if outcome is TransitionCallbackReturn.SUCCESS:
                    return
                if outcome is TransitionCallbackReturn.FAILURE:  # it is inactive now
                    self._node.trigger_cleanup()
        except rclpy_implementation.RCLError:
            return  # somebody else has taken the node to another state: it is theirs
        self.restart_in(2.0 * delay_s)
