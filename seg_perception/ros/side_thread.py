"""A thread that does one thing at a time for another one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class SideThread:
    """A daemon thread: unlike an executor's, one that hangs does not hold up the process's end.

    A context; leaving it waits for the call under way.

    Args:
        name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def __enter__(self) -> SideThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.put(None)
        self._thread.join()

    def call(self, function: Callable[[], None]) -> None:
        """Has a function called; nothing else may be under way."""
        self._is_idle.clear()
        self._calls.put(function)

    def wait(self) -> None:
        """Waits until nothing is under way; raises what the last function raised."""
        self._is_idle.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                function()
            except Exception as error:
                self._failure = error
            self._is_idle.set()
