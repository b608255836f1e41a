"""Lets frames through up to a mean rate."""

from __future__ import annotations


class RateLimit:
    """Says which frames come too soon; for one thread."""

    def __init__(self) -> None:
        self._next_due_s = 0.0

    def is_too_soon(self, now_s: float, max_rate_hz: float) -> bool:
        """Whether a frame that comes now is to be left out.

        Args:
            now_s: on the monotonic clock.
            max_rate_hz: the mean rate; 0 or less lets all through.
        """
        if max_rate_hz <= 0.0:
            return False
        period_s = 1.0 / max_rate_hz
        # Frames jitter: a tenth of a period early still counts as on time, and the next one is
        # due a period after this one was, so that the mean rate is kept.
        if now_s < self._next_due_s - 0.1 * period_s:
            return True
        self._next_due_s = max(self._next_due_s, now_s - period_s) + period_s
        return False
