"""One line per kind of trouble, not one per frame."""

from __future__ import annotations

import threading
import time
from typing import Any

THROTTLE_S = 5.0


class ThrottledLog:
    """Repeats a message about the same subject and kind at most every few seconds.

    Args:
        logger: an rclpy logger.
        throttle_s: shortest time between two lines of a kind, seconds.
    """

    def __init__(self, logger: Any, throttle_s: float = THROTTLE_S) -> None:
        self._logger = logger
        self._throttle_s = throttle_s
        self._lock = threading.Lock()
        self._last_s: dict[tuple[str, str], float] = {}
        self._suppressed: dict[tuple[str, str], int] = {}

    def warning(self, subject: str, kind: str, message: str) -> None:
        """Logs ``subject: message``, or counts it where the kind was logged just now."""
        if (text := self._due(subject, kind, message)) is not None:
            self._logger.warning(text)

    def error(self, subject: str, kind: str, message: str) -> None:
        """As `warning`, at error level."""
        if (text := self._due(subject, kind, message)) is not None:
            self._logger.error(text)

    def _due(self, subject: str, kind: str, message: str) -> str | None:
        key = (subject, kind)
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._last_s.get(key, -self._throttle_s) < self._throttle_s:
                self._suppressed[key] = self._suppressed.get(key, 0) + 1
                return None
            self._last_s[key] = now_s
            num_suppressed = self._suppressed.pop(key, 0)
        more = f' ({num_suppressed} more like it before)' if num_suppressed else ''
        return f'{subject}: {message}{more}'
