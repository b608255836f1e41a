"""What became of every frame of a camera: counts that always add up, and how long things took."""

from __future__ import annotations

import enum
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from seg_perception.ros.percentiles import NO_PERCENTILES, Percentiles, percentiles_of

_WINDOW = 300
_RATE_WINDOW_S = 10.0


class DropReason(str, enum.Enum):
    """Why a received frame was not published."""

    SUPERSEDED = 'superseded'
    """A newer frame of the same camera arrived before the model was free."""
    RATE_LIMITED = 'rate_limited'
    """It came sooner than ``max_rate_hz`` allows."""
    SHED = 'shed'
    """Fewer frames are segmented to keep ``latency_budget_ms``."""
    STALE = 'stale'
    """Its stamp was farther than ``max_frame_age_s`` from now when the model was free."""
    INACTIVE = 'inactive'
    """The node was disabled or deactivated before the frame was processed."""
    UNWANTED = 'unwanted'
    """Nobody listened to any output that has something to say about it."""
    UNPAIRED = 'unpaired'
    """Only outputs that need depth or a pose were listened to, and it had none."""
    MALFORMED = 'malformed'
    """Its bytes contradict its header, or are corrupt."""
    UNSUPPORTED = 'unsupported'
    """Its encoding or format is not one the node can decode."""
    MODEL_ERROR = 'model_error'
    """The model failed on it."""
    SERVER = 'server'
    """The model's server did not answer, or not within ``server_timeout_s``."""


_BEFORE_THE_MODEL = frozenset(
    {
        DropReason.SUPERSEDED,
        DropReason.RATE_LIMITED,
        DropReason.SHED,
        DropReason.MALFORMED,
        DropReason.UNSUPPORTED,
    }
)
"""Drops that say nothing of how the frames before come along."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The account of one camera at one moment.

    ``received == published + sum(dropped.values()) + pending`` holds exactly.

    Attributes:
        received: frames that arrived since the account was opened.
        published: frames with at least one message published.
        dropped: frames not published, by reason.
        since_drop_s: seconds since the last frame was dropped, by reason; only reasons that
            occurred.
        pending: frames in the mailbox or with the model.
        busy_s: for how long there were pending frames and none was done; 0 where none is pending.
        rate_hz: published frames per second over the last 10 s.
        age_s: seconds since the last frame arrived; None before the first.
        since_publish_s: seconds since the last frame was published; None before the first.
        last_stamp_ns: that frame's stamp; 0 before the first.
        latency_ms: stamp to publish, p50, p95 and p99 over the recent window; NaN where they were
            not asked for.
        stages_ms: the same percentiles for each stage; none where they were not asked for.
    """

    received: int
    published: int
    dropped: Mapping[str, int]
    since_drop_s: Mapping[str, float]
    pending: int
    busy_s: float
    rate_hz: float
    age_s: float | None
    since_publish_s: float | None
    last_stamp_ns: int
    latency_ms: Percentiles
    stages_ms: Mapping[str, Percentiles]


class CameraAccount:
    """Counts frames and times of one camera; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._published = 0
        self._dropped: Counter[DropReason] = Counter()
        self._dropped_at_s: dict[DropReason, float] = {}
        self._last_received_s: float | None = None
        self._published_at_s: deque[float] = deque(maxlen=20 * _WINDOW)
        self._latency_ms: deque[float] = deque(maxlen=_WINDOW)
        self._stages_ms: dict[str, deque[float]] = {}
        self._last_stamp_ns = 0
        self._pending = 0
        self._waiting_since_s = 0.0

    def receive(self) -> None:
        """A frame arrived."""
        with self._lock:
            self._received += 1
            self._last_received_s = time.monotonic()
            if not self._pending:
                self._waiting_since_s = self._last_received_s
            self._pending += 1

    def drop(self, reason: DropReason) -> None:
        """A received frame will not be published."""
        with self._lock:
            self._dropped[reason] += 1
            self._dropped_at_s[reason] = now_s = time.monotonic()
            self._pending -= 1
            if reason not in _BEFORE_THE_MODEL:
                self._waiting_since_s = now_s

    def publish(
        self, stamp_ns: int, latency_ms: float | None, stages_ms: Mapping[str, float]
    ) -> None:
        """A received frame was published.

        Args:
            stamp_ns: the frame's.
            latency_ms: from its stamp until now; None where the stamp cannot tell.
            stages_ms: how long each stage took.
        """
        with self._lock:
            self._published += 1
            self._pending -= 1
            self._last_stamp_ns = stamp_ns
            self._waiting_since_s = now_s = time.monotonic()
            self._published_at_s.append(now_s)
            if latency_ms is not None:
                self._latency_ms.append(latency_ms)
            for stage, duration_ms in stages_ms.items():
                self._stages_ms.setdefault(stage, deque(maxlen=_WINDOW)).append(duration_ms)

    def snapshot(self, *, in_full: bool = True) -> Snapshot:
        """The account now; all its numbers belong to the same moment.

        Args:
            in_full: whether with percentiles, which cost as much as all the rest.
        """
        with self._lock:
            now_s = time.monotonic()
            return Snapshot(
                received=self._received,
                published=self._published,
                dropped={reason.value: self._dropped[reason] for reason in DropReason},
                since_drop_s={r.value: now_s - t for r, t in self._dropped_at_s.items()},
                pending=self._pending,
                busy_s=now_s - self._waiting_since_s if self._pending else 0.0,
                rate_hz=_rate_hz(self._published_at_s, now_s),
                age_s=None if self._last_received_s is None else now_s - self._last_received_s,
                since_publish_s=now_s - self._published_at_s[-1] if self._published else None,
                last_stamp_ns=self._last_stamp_ns,
                latency_ms=percentiles_of(self._latency_ms) if in_full else NO_PERCENTILES,
                stages_ms={
                    name: percentiles_of(times)
                    for name, times in self._stages_ms.items()
                    if in_full
                },
            )


def _rate_hz(times_s: deque[float], now_s: float) -> float:
    """Events per second over the last seconds, up to now: a camera that fell silent slows down."""
    num, first_s = 0, now_s
    for time_s in reversed(times_s):
        if now_s - time_s >= _RATE_WINDOW_S:
            break
        num, first_s = num + 1, time_s
    return (num - 1) / (now_s - first_s) if num > 1 else 0.0
