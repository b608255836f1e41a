"""The three percentiles that the node reports of whatever it times."""

from __future__ import annotations

from collections.abc import Collection

Percentiles = tuple[float, float, float]
"""p50, p95 and p99."""
NO_PERCENTILES: Percentiles = (float('nan'),) * 3


def percentiles_of(values: Collection[float]) -> Percentiles:
    """p50, p95 and p99; NaN of nothing."""
    if not values:
        return NO_PERCENTILES
    # NumPy takes four times as long for so few.
    ordered = sorted(values)
    p50, p95, p99 = (_at(ordered, share) for share in (0.5, 0.95, 0.99))
    return p50, p95, p99


def _at(ordered: list[float], share: float) -> float:
    """The value at that share of the way from the first to the last, between its neighbours."""
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
