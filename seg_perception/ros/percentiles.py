"""The three percentiles that the node reports of whatever it times."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

Percentiles = tuple[float, float, float]
"""p50, p95 and p99."""
NO_PERCENTILES: Percentiles = (float('nan'),) * 3


def percentiles_of(values: Collection[float]) -> Percentiles:
    """p50, p95 and p99; NaN of nothing."""
    if not values:
        return NO_PERCENTILES
    p50, p95, p99 = np.percentile(np.fromiter(values, float), (50, 95, 99))
    return float(p50), float(p95), float(p99)
