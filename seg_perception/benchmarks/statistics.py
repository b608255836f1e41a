"""Percentiles, jitter and fair shares: the arithmetic behind the benchmark's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles of a number of values, in the values' unit; NaN of none."""

    num: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """The distribution of these values; linear between neighbours, as NumPy's default."""
        if not len(values):
            return cls(0, math.nan, math.nan, math.nan)
        p50, p95, p99 = np.percentile(np.asarray(values, np.float64), (50, 95, 99))
        return cls(len(values), float(p50), float(p95), float(p99))


def jitter_ms(received_ns: Sequence[int]) -> float:
    """How irregular arrivals are: the 95th percentile of |interval - median interval|.

    NaN with fewer than three arrivals.
    """
    if len(received_ns) < 3:
        return math.nan
    intervals_ms = np.diff(np.sort(np.asarray(received_ns, np.int64))) * 1e-6
    return float(np.percentile(np.abs(intervals_ms - np.median(intervals_ms)), 95))


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The b of ``cost = a * size ** b`` that fits best: 1 is linear, 0 is no growth."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def fair_rates_hz(
    offered_hz: Mapping[str, float], weights: Mapping[str, float], capacity_hz: float
) -> dict[str, float]:
    """What each camera is due when a model of limited capacity is shared by weight.

    Nobody gets more than it offers; what it leaves is shared among the others (max-min fairness).
    """
    due_hz = dict.fromkeys(offered_hz, 0.0)
    open_cameras = set(offered_hz)
    while open_cameras:
        left_hz = max(capacity_hz - sum(due_hz[c] for c in due_hz if c not in open_cameras), 0.0)
        unit_hz = left_hz / sum(weights[camera] for camera in open_cameras)
        satisfied = {c for c in open_cameras if offered_hz[c] <= unit_hz * weights[c]}
        for camera in satisfied or open_cameras:
            due_hz[camera] = min(offered_hz[camera], unit_hz * weights[camera])
        open_cameras -= satisfied or open_cameras
    return due_hz
