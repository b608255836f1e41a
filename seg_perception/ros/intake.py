"""Receives what comes often on a thread of its own, past the executor.

rclpy's executor builds its wait set anew around every callback, from all services, timers,
publishers' events and subscriptions of a node: for each image that costs as much as two copies of
it. Here the wait set is made when the subscriptions change and holds nothing else.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.event_handler import EventHandler
from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription

from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.serialized import take_serialized


class IntakeGroup(MutuallyExclusiveCallbackGroup):
    """What the executor leaves to an `Intake`: subscriptions and their QoS events.

    Not the subscriptions alone: in Fast DDS, data wakes those who wait for an event.
    """

    def can_execute(self, _entity: Any) -> bool:
        """Never, for the executor."""
        return False


class Intake:
    """Calls back for every message of its subscriptions while it is started.

    Args:
        context: the node's.
        poll: called now and then, and too cheap for a timer of the executor.
        period_s: how often.
        log: for callbacks that fail.
    """

    def __init__(
        self, context: Context, poll: Callable[[], None], period_s: float, log: ThrottledLog
    ) -> None:
        self.group = IntakeGroup()
        self._context: Any = context.handle
        self._poll = poll
        self._period_s = period_s
        self._poll_due_s = 0.0
        self._log = log
        self._subscriptions: tuple[Any, ...] = ()
        self._is_stopping = False
        self._changed = GuardCondition(None, None, context=context)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts to serve."""
        self._is_stopping = False
        self._thread = threading.Thread(target=self._serve, name='intake', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the running callback; stopping again changes nothing."""
        self._is_stopping = True
        self._changed.trigger()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def add(self, subscription: Subscription) -> None:
        """Serves a subscription that was created in ``group``."""
        self._subscriptions = (*self._subscriptions, subscription)
        self._changed.trigger()

    def remove(self, subscription: Subscription) -> None:
        """Leaves a subscription, which may then be destroyed; its callback may still run."""
        self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
        self._changed.trigger()

    def _serve(self) -> None:
        while not self._is_stopping:
            # One of them may have been removed and destroyed just now.
            with suppress(InvalidHandle):
                self._serve_these(self._subscriptions)

    def _serve_these(self, subscriptions: tuple[Any, ...]) -> None:
        """Serves until others are to be served."""
        events = [event for s in subscriptions for event in s.event_handlers]
        named = [(s, s.topic_name) for s in subscriptions]
        with ExitStack() as in_use:
            in_use.enter_context(self._context)
            in_use.enter_context(self._changed.handle)
            for subscription in subscriptions:
                in_use.enter_context(subscription.handle)
            for event in events:
                in_use.enter_context(event)
            wait_set = rclpy_implementation.WaitSet(
                len(subscriptions), 1, 0, 0, 0, 0, self._context
            )
            while self._subscriptions is subscriptions and not self._is_stopping:
                wait_set.clear_entities()
                wait_set.add_guard_condition(self._changed.handle)
                for subscription in subscriptions:
                    wait_set.add_subscription(subscription.handle)
                wait_set.wait(int(self._period_s * 1e9))
                ready = wait_set.get_ready_entities('subscription')
                for subscription, topic in named:
                    if subscription.handle.pointer in ready:
                        self._call(topic, partial(_take_message, subscription))
                if time.monotonic() >= self._poll_due_s:
                    self._poll_due_s = time.monotonic() + self._period_s
                    self._take_events(events)
                    self._call('poll', self._poll)

    def _take_events(self, events: Sequence[EventHandler]) -> None:
        """Calls back for QoS events.

        Now and then: to wait for them with every message costs more than a message.
        """
        if not events:
            return
        wait_set = rclpy_implementation.WaitSet(0, 0, 0, 0, 0, len(events), self._context)
        wait_set.clear_entities()
        for event in events:
            event.add_to_wait_set(wait_set)
        wait_set.wait(0)
        for event in events:
            if event.is_ready(wait_set):
                self._call(event.event_type.name, partial(_take_event, event))

    def _call(self, subject: str, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # one callback's failure must not end the thread
            self._log.error(subject, ''.join(traceback.format_exception(error)).rstrip())


def _take_message(subscription: Subscription) -> None:
    try:
        with subscription.handle:  # else a destroyed one is another error
            if subscription.raw:
                message = take_serialized(subscription)
            else:
                taken = subscription.handle.take_message(subscription.msg_type, False)
                message = taken[0] if taken is not None else None
    except InvalidHandle:  # removed and destroyed just now
        return
    if message is not None:
        subscription.callback(message)


def _take_event(event: EventHandler) -> None:
    try:
        data = event.take_data()
    except InvalidHandle:  # as above
        return
    if data is not None:
        event.callback(data)
