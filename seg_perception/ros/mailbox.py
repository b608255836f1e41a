"""One slot per camera, newest wins, and a fair choice of who is served next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Mailboxes(Generic[Item]):
    """Hands the newest item of each camera from many callbacks to one worker.

    When more cameras wait than the worker takes, they are served by weight (stride scheduling:
    each service advances a camera's pass by 1 / weight, the lowest pass goes first). A camera
    that was silent gains no credit for it.

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

    def open(self) -> None:
        """Starts to accept items; mailboxes are closed at first."""
        with self._condition:
            self._is_open = True

    def put(self, camera: str, item: Item) -> Item | None:
        """Leaves an item.

        Returns:
            The item that will never be taken now: the one it replaced, or the item itself while
            the mailboxes are closed.
        """
        with self._condition:
            if not self._is_open:
                return item
            replaced = self._slots.pop(camera, None)
            if replaced is not None and self._inherit is not None:
                self._inherit(item, replaced)
            if replaced is None:
                self._passes[camera] = max(self._passes.get(camera, 0.0), self._served_pass)
            self._slots[camera] = item
            self._condition.notify()
            return replaced

    def take(self, max_items: int, weights: dict[str, float]) -> list[tuple[str, Item]]:
        """Waits for items and takes at most one per camera.

        Args:
            max_items: how many at most.
            weights: share of each camera, positive; 1.0 where missing.

        Returns:
            Camera and item; empty once the mailboxes are closed.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._slots or not self._is_open)
            if not self._is_open:
                return []
            chosen = sorted(self._slots, key=lambda camera: self._passes[camera])[:max_items]
            self._served_pass = max(self._served_pass, self._passes[chosen[0]])
            for camera in chosen:
                self._passes[camera] += 1.0 / weights.get(camera, 1.0)
            return [(camera, self._slots.pop(camera)) for camera in chosen]

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
