"""One line per kind of trouble, not one per frame."""

from __future__ import annotations

import re
import threading
import time
import traceback
from typing import Any

from seg_perception.errors import SegPerceptionError

THROTTLE_S = 5.0
_MAX_KINDS = 200


class ThrottledLog:
    """Repeats a message about the same subject and kind at most every few seconds.

    Messages that differ only in their numbers are of one kind.

    Args:
        logger: an rclpy logger.
        throttle_s: shortest time between two lines of a kind, seconds.
    """

    def __init__(self, logger: Any, throttle_s: float = THROTTLE_S) -> None:
        self._logger = logger
        self._throttle_s = throttle_s
        self._lock = threading.Lock()
        self._last_s: dict[str, float] = {}
        self._num_suppressed: dict[str, int] = {}

    def warning(self, subject: str, message: str) -> None:
        """Logs ``subject: message``, or counts it where its kind was logged just now."""
        if (text := self._due(f'{subject}: {message}')) is not None:
            self._logger.warning(text)

    def error(self, subject: str, message: str) -> None:
        """As `warning`, at error level."""
        if (text := self._due(f'{subject}: {message}')) is not None:
            self._logger.error(text)

    def _due(self, text: str) -> str | None:
        kind = re.sub(r'\d+', '#', text)
        now_s = time.monotonic()
        with self._lock:
            # Whoever sends a new kind with every frame must not fill the log or the memory.
            if kind not in self._last_s and len(self._last_s) >= _MAX_KINDS:
                kind, text = '', 'more kinds of trouble than can be told apart, such as ' + text
            if now_s - self._last_s.get(kind, -self._throttle_s) < self._throttle_s:
                self._num_suppressed[kind] = self._num_suppressed.get(kind, 0) + 1
                return None
            self._last_s[kind] = now_s
            num_suppressed = self._num_suppressed.pop(kind, 0)
        return text + (f' ({num_suppressed} more like it before)' if num_suppressed else '')


def explain(error: BaseException) -> str:
    """What to log of an error: one line for our own, with its traceback for any other."""
    if isinstance(error, SegPerceptionError):
        return str(error)
    return ''.join(traceback.format_exception(error)).rstrip()


def first_line(error: Exception) -> str:
    """The message without the dump of rcl's internals that some of its errors carry."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
