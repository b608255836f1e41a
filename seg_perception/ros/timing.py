"""When a camera's images come and what their stamps say: rates, jitter, age, odd stamps.

Odd stamps are counted and reported, never mended: an output carries its image's stamp, and only
who made the stamp knows what it should have been.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_perception.ros.percentiles import NO_PERCENTILES, Percentiles, percentiles_of

AHEAD_TOLERANCE_S = 0.1
"""How far in the future a stamp may lie: what clocks of one robot differ by, and not more."""
_WINDOW = 300
_WINDOW_S = 10.0


class StampFault(str, enum.Enum):
    """What is wrong with a frame's stamp."""

    ZERO = 'zero'
    """The driver set none."""
    AHEAD = 'ahead'
    """It lies in the future of the node's clock."""
    REPEATED = 'repeated'
    """The frame before had the same: who pairs messages by their stamp cannot tell them apart."""
    BACKWARDS = 'backwards'
    """It is older than the frame before: a recording began anew, or a clock was set back."""


STAMP_REMEDIES = {
    StampFault.ZERO: 'images have no stamp: their outputs can be paired with nothing; the driver '
    'must set header.stamp',
    StampFault.AHEAD: f"stamps are more than {AHEAD_TOLERANCE_S:g} s ahead of the node's clock: "
    "synchronise the computers' clocks (chrony, PTP), or set use_sim_time for a recording",
    StampFault.REPEATED: 'two images in a row have the same stamp: outputs cannot be told apart; '
    'two drivers may publish on this topic (ros2 topic info -v)',
    StampFault.BACKWARDS: 'stamps went back: a recording began anew, or the clock was set; '
    'tracking and pairing start anew',
}
"""What an odd stamp means, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A camera's timing at one moment, over the last seconds.

    Attributes:
        rate_hz: frames received per second, up to now: a camera that falls silent slows down.
        jitter_ms: how far intervals between arrivals are from their mean: on average, and at most.
        stamp_rate_hz: frames per second by their stamps; NaN where stamps do not ascend.
        stamp_jitter_ms: as ``jitter_ms``, between stamps.
        age_ms: from stamp to arrival, p50, p95 and p99; NaN where no stamp can tell.
        faults: frames with odd stamps since the account was opened, by what is odd.
        since_fault_s: seconds since the last one; only faults that occurred.
    """

    rate_hz: float = 0.0
    jitter_ms: tuple[float, float] = (float('nan'),) * 2
    stamp_rate_hz: float = float('nan')
    stamp_jitter_ms: tuple[float, float] = (float('nan'),) * 2
    age_ms: Percentiles = NO_PERCENTILES
    faults: Mapping[str, int] = field(default_factory=dict)
    since_fault_s: Mapping[str, float] = field(default_factory=dict)


class FrameTiming:
    """Follows the arrivals and stamps of one camera; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived_s: deque[float] = deque(maxlen=_WINDOW)
        self._stamps_ns: deque[int] = deque(maxlen=_WINDOW)
        self._ages_ms: deque[float] = deque(maxlen=_WINDOW)
        self._last_stamp_ns: int | None = None
        self._faults: Counter[StampFault] = Counter()
        self._fault_at_s: dict[StampFault, float] = {}

    def add(self, stamp_ns: int, now_ns: int) -> tuple[StampFault, ...]:
        """A frame arrived.

        Args:
            stamp_ns: the frame's.
            now_ns: the node's clock; 0 where it does not run yet (``use_sim_time``, no /clock).

        Returns:
            What is wrong with its stamp. After `StampFault.BACKWARDS` nothing that was learnt
            from earlier stamps holds any more.
        """
        arrived_s = time.monotonic()
        last_ns, faults = self._last_stamp_ns, []
        if stamp_ns == 0:
            faults.append(StampFault.ZERO)
        elif now_ns and stamp_ns - now_ns > AHEAD_TOLERANCE_S * 1e9:
            faults.append(StampFault.AHEAD)
        if last_ns is not None and stamp_ns:
            if stamp_ns == last_ns:
                faults.append(StampFault.REPEATED)
            elif stamp_ns < last_ns:
                faults.append(StampFault.BACKWARDS)
        with self._lock:
            self._arrived_s.append(arrived_s)
            for fault in faults:
                self._faults[fault] += 1
                self._fault_at_s[fault] = arrived_s
            if StampFault.BACKWARDS in faults:
                self._stamps_ns.clear()
                self._ages_ms.clear()
            if stamp_ns:
                self._last_stamp_ns = stamp_ns
                self._stamps_ns.append(stamp_ns)
                if now_ns and StampFault.AHEAD not in faults:
                    self._ages_ms.append((now_ns - stamp_ns) * 1e-6)
        return tuple(faults)

    def restart(self) -> None:
        """Forgets what was learnt from clock and stamps, after the clock jumped; counts stay."""
        with self._lock:
            self._arrived_s.clear()
            self._stamps_ns.clear()
            self._ages_ms.clear()
            self._last_stamp_ns = None

    def snapshot(self, *, in_full: bool = True) -> Arrivals:
        """The timing now.

        Args:
            in_full: whether with jitter and the stamps' rate, which cost as much as all the rest.
        """
        with self._lock:
            now_s = time.monotonic()
            arrivals_s = [t for t in self._arrived_s if now_s - t < _WINDOW_S]
            stamps_ns = list(self._stamps_ns)[-len(arrivals_s) :]
            ages_ms = list(self._ages_ms)[-len(arrivals_s) :]
            faults = {fault.value: self._faults[fault] for fault in StampFault}
            since_fault_s = {f.value: now_s - at_s for f, at_s in self._fault_at_s.items()}
        if len(arrivals_s) < 2:
            return Arrivals(faults=faults, since_fault_s=since_fault_s)
        rate_hz = (len(arrivals_s) - 1) / (now_s - arrivals_s[0])
        age_ms = percentiles_of(ages_ms)
        if not in_full:
            return Arrivals(
                rate_hz=rate_hz, age_ms=age_ms, faults=faults, since_fault_s=since_fault_s
            )
        arrived_s, stamps_s = np.array(arrivals_s), np.array(stamps_ns, np.int64) * 1e-9
        span_s = stamps_s[-1] - stamps_s[0] if len(stamps_s) > 1 else 0.0
        return Arrivals(
            rate_hz=rate_hz,
            jitter_ms=_jitter_ms(arrived_s),
            stamp_rate_hz=float((len(stamps_s) - 1) / span_s) if span_s > 0 else float('nan'),
            stamp_jitter_ms=_jitter_ms(stamps_s),
            age_ms=age_ms,
            faults=faults,
            since_fault_s=since_fault_s,
        )


def _jitter_ms(times_s: npt.NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Mean and greatest distance of the intervals from their mean."""
    if len(times_s) < 3:
        return (float('nan'),) * 2
    intervals_ms = np.diff(times_s) * 1e3
    off_ms = np.abs(intervals_ms - intervals_ms.mean())
    return float(off_ms.mean()), float(off_ms.max())
