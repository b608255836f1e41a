"""The node's clock: reads it, and notices when it jumps, stands still or never started.

Legend: sim time is what /clock says (``use_sim_time``); a steady clock never jumps.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from rclpy.clock import Clock, ROSClock

SYSTEM_JUMP_S = 0.5
"""A system clock that moved this much more or less than the steady one was set."""
SIM_SKIP_S = 10.0
"""Sim time that moved this far between two looks was moved, not played."""
SIM_PAUSED_S = 3.0
"""Sim time that did not move for this long is reported as standing still."""


def is_sim_time(clock: Clock) -> bool:
    """Whether a node's clock is sim time now."""
    return isinstance(clock, ROSClock) and clock.ros_time_is_active


def now_ns(clock: Clock) -> int:
    """The time of a node's clock, nanoseconds; 0 where sim time has not begun.

    Where it is the system's it is read as such, in a tenth of the time that rclpy takes.
    """
    return int(clock.now().nanoseconds) if is_sim_time(clock) else time.time_ns()


@dataclass(frozen=True, slots=True)
class ClockSnapshot:
    """The clock at one moment.

    Attributes:
        num_jumps: how often it jumped.
        since_jump_s: seconds since the last jump; None where there was none.
        last_jump_s: how far, negative for back.
        trouble: what is wrong now, for people; empty where nothing is.
    """

    num_jumps: int
    since_jump_s: float | None
    last_jump_s: float
    trouble: str


class ClockWatch:
    """Compares the node's clock with the steady one.

    One thread looks, any may take a snapshot.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, int, bool] | None = None
        self._moved_ns = time.monotonic_ns()
        self._num_jumps = 0
        self._jumped_ns: int | None = None
        self._last_jump_s = 0.0
        self._trouble = ''

    def start(self) -> None:
        """Forgets the last look, after which nobody looked for any time."""
        with self._lock:
            self._last = None

    def look(self, now_ns: int, steady_ns: int, *, is_sim: bool) -> float | None:
        """Takes both clocks, read together.

        Args:
            now_ns: the node's clock.
            steady_ns: the steady one.
            is_sim: whether the node's clock is sim time.

        Returns:
            How far the clock jumped since the last look, seconds, negative for back; None where
            it did not.
        """
        with self._lock:
            last, self._last = self._last, (now_ns, steady_ns, is_sim)
            jump_s = None
            if last is None or last[2] != is_sim or last[0] == 0:
                self._moved_ns = steady_ns
            else:
                moved_s, elapsed_s = (now_ns - last[0]) * 1e-9, (steady_ns - last[1]) * 1e-9
                if now_ns != last[0]:
                    self._moved_ns = steady_ns
                if is_sim:
                    jump_s = moved_s if moved_s < 0.0 or moved_s > SIM_SKIP_S else None
                elif abs(moved_s - elapsed_s) > SYSTEM_JUMP_S:
                    jump_s = moved_s - elapsed_s
            self._trouble = self._find_trouble(now_ns, steady_ns, is_sim)
            if jump_s is not None:
                self._num_jumps += 1
                self._jumped_ns, self._last_jump_s = steady_ns, jump_s
            return jump_s

    def snapshot(self) -> ClockSnapshot:
        """The clock as it was at the last look."""
        with self._lock:
            since_s = None
            if self._jumped_ns is not None:
                since_s = (time.monotonic_ns() - self._jumped_ns) * 1e-9
            return ClockSnapshot(self._num_jumps, since_s, self._last_jump_s, self._trouble)

    def _find_trouble(self, now_ns: int, steady_ns: int, is_sim: bool) -> str:
        if not is_sim:
            return ''
        if now_ns == 0:
            return 'use_sim_time is set and nothing came on /clock: play it, or unset use_sim_time'
        still_s = (steady_ns - self._moved_ns) * 1e-9
        return f'/clock stands still for {still_s:.0f} s' if still_s > SIM_PAUSED_S else ''
