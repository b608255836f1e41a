"""What was done to the node, what it said of it, and whether the bounds were kept."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

MAX_RSS_GROWTH_MIB = 10.0
MIN_SAMPLES = 100
"""Fewer samples after warm-up say nothing about growth: it is then shown and not judged."""
WARM_UP_SHARE = 0.25
_MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """The node's process at a calm moment.

    Attributes:
        at_s: seconds since the start.
        step: the step before it.
        rss_mib: resident memory.
        num_threads: threads.
        num_fds: open file descriptors.
    """

    at_s: float
    step: str
    rss_mib: float
    num_threads: int
    num_fds: int


@dataclass(slots=True)
class FrameTotals:
    """The node's accounts of one camera, added up over every time it was configured."""

    before: Counter[str] = field(default_factory=Counter)
    newest: Counter[str] = field(default_factory=Counter)

    def see(self, values: Mapping[str, str]) -> None:
        """Takes a newer account; one that starts anew is added to the older ones."""
        counts = Counter(
            {
                key: int(value)
                for key, value in values.items()
                if key in ('received', 'published') or key.startswith('dropped_')
            }
        )
        if counts['received'] < self.newest['received']:
            self.before += self.newest
        self.newest = counts

    def total(self) -> dict[str, int]:
        """Counts of all frames seen, by what became of them."""
        return dict(self.before + self.newest)


class Ledger:
    """Everything the report says."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self.steps: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.reported: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.problems: list[str] = []
        self.num_labels = 0
        self.num_lost_on_the_way = 0
        self.num_hanging_cameras = 0
        self.latencies_ms: list[float] = []
        self.crash = ''

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start_s

    def fault(self, kind: str, is_reported: bool, what_was_seen: object = '') -> None:
        """A fault was injected; whether the node reported it as what it was."""
        self.injected[kind] += 1
        self.reported[kind] += is_reported
        if not is_reported:
            self.problem(f'{kind}: not reported; seen instead: {what_was_seen}')

    def problem(self, what: str) -> None:
        """Something is not as it has to be."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f'{self.elapsed_s:.0f} s: {what}')

    def verdicts(self, contradictions: Sequence[str]) -> list[dict[str, Any]]:
        """Each bound: name, value, limit, whether it was kept (None: too short to say)."""
        missing = sum((self.injected - self.reported).values())
        rows = [
            ('crashes', float(bool(self.crash)), 0.0, True),
            ('accounts_that_do_not_add_up', float(len(contradictions)), 0.0, True),
            ('faults_not_reported', float(missing), 0.0, True),
            ('problems', float(len(self.problems)), 0.0, True),
        ]
        settled = self.samples[math.ceil(len(self.samples) * WARM_UP_SHARE) :]
        is_long = len(settled) >= MIN_SAMPLES
        limits = {'rss_mib': MAX_RSS_GROWTH_MIB, 'num_threads': 0.0, 'num_fds': 0.0}
        for name, limit in limits.items():
            # A process keeps memory for what comes next; a leak shows where it has the least.
            of = low_decile if name == 'rss_mib' else median
            grown = growth([getattr(sample, name) for sample in settled], of)
            rows.append((f'{name}_growth', grown, limit, is_long))
        return [
            {
                'name': name,
                'value': value,
                'limit': limit,
                'is_kept': value <= limit if is_judged else None,
            }
            for name, value, limit, is_judged in rows
        ]


def growth(values: Sequence[float], of: Callable[[Sequence[float]], float] = median) -> float:
    """How much more there is in the last quarter than in the first, by a figure of each."""
    quarter = len(values) // 4
    if not quarter:
        return 0.0
    return of(values[-quarter:]) - of(values[:quarter])


def low_decile(values: Sequence[float]) -> float:
    """What a tenth of the values are at or below."""
    return sorted(values)[len(values) // 10]
