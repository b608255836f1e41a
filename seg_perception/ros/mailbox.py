"""One slot per camera, newest wins, and a fair choice of who is served next."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar('Item')

MAX_CREDIT = 2
"""How many turns a camera may be owed at most."""


class Mailboxes(Generic[Item]):
    """Hands the newest item of each camera from many callbacks to one worker.

    When more cameras wait than the worker takes, they are served by weight (stride scheduling:
    each service advances a camera's pass by 1 / weight, the lowest pass goes first). A camera
    whose next item comes a little late for its turn is served sooner after it, so that shares are
    right although slots are empty now and then; for longer silence it gains ``MAX_CREDIT`` turns.

    Args:
        inherit: called with an item and the one it replaces, before anybody can take it.
    """

    def __init__(self, inherit: Callable[[Item, Item], None] | None = None) -> None:
        self._inherit = inherit
        self._condition = threading.Condition()
        self._slots: dict[str, Item] = {}
        self._passes: dict[str, float] = {}
        self._served_pass = 0.0
        self._is_open = False
        self._arrived_s: dict[str, float] = {}
        self._period_s: dict[str, float] = {}

    def open(self) -> None:
        """Starts to accept items; mailboxes are closed at first."""
        with self._condition:
            self._is_open = True

    @property
    def is_open(self) -> bool:
        """Whether items are accepted."""
        return self._is_open

    def wake(self) -> None:
        """Has all who wait in `take` see whether they are to leave."""
        with self._condition:
            self._condition.notify_all()

    def put(self, camera: str, item: Item) -> Item | None:
        """Leaves an item.

        Returns:
            The item that will never be taken now: the one it replaced, or the item itself while
            the mailboxes are closed.
        """
        with self._condition:
            if not self._is_open:
                return item
            now_s = time.monotonic()
            self._period_s[camera] = now_s - self._arrived_s.get(camera, -math.inf)
            self._arrived_s[camera] = now_s
            replaced = self._slots.pop(camera, None)
            if replaced is not None and self._inherit is not None:
                self._inherit(item, replaced)
            self._slots[camera] = item
            self._condition.notify()
            return replaced

    def take(
        self,
        max_items: int,
        weights: dict[str, float],
        wait_s: float = 0.0,
        is_to_leave: Callable[[], bool] = lambda: False,
    ) -> list[tuple[str, Item]]:
        """Waits for items and takes at most one per camera.

        Args:
            max_items: how many at most.
            weights: share of each camera, positive; 1.0 where missing.
            wait_s: where there are fewer, how long to wait at most for cameras whose next item
                is due within that time.
            is_to_leave: whether whoever takes has something else to do, and leaves all items
                where they are. Call `wake` after it became true.

        Returns:
            Camera and item; empty once the mailboxes are closed, or where it is to leave.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._slots or not self._is_open or is_to_leave())
            if wait_s > 0.0:
                until_s = time.monotonic() + wait_s
                self._condition.wait_for(
                    lambda: (
                        not self._is_open
                        or is_to_leave()
                        or len(self._slots) >= max_items
                        or not self._is_any_due(until_s)
                    ),
                    wait_s,
                )
            if not self._slots or not self._is_open or is_to_leave():
                return []
            for camera in self._slots:
                least = self._served_pass - MAX_CREDIT / weights.get(camera, 1.0)
                self._passes[camera] = max(self._passes.get(camera, self._served_pass), least)
            chosen = sorted(self._slots, key=lambda camera: self._passes[camera])[:max_items]
            self._served_pass = max(self._served_pass, self._passes[chosen[0]])
            for camera in chosen:
                self._passes[camera] += 1.0 / weights.get(camera, 1.0)
            return [(camera, self._slots.pop(camera)) for camera in chosen]

    def _is_any_due(self, until_s: float) -> bool:
        """Whether another camera should send by then, going by its last two items.

        One that has missed its time by a whole period is not waited for.
        """
        return any(
            arrived_s + self._period_s[camera] <= until_s
            and time.monotonic() < arrived_s + 2.0 * self._period_s[camera]
            for camera, arrived_s in self._arrived_s.items()
            if camera not in self._slots
        )

    def close(self) -> list[tuple[str, Item]]:
        """Stops accepting items and wakes the worker.

        Returns:
            The items nobody took.
        """
        with self._condition:
            self._is_open = False
            left = list(self._slots.items())
            self._slots.clear()
            self._condition.notify_all()
            return left
