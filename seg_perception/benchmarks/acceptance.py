"""The bounds that the node is accepted by, and whether measured values keep them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from seg_perception.errors import ConfigurationError

MAX_LATENCY_MS = 3.0
MAX_LATENCY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Bound:
    """A line of the table.

    Attributes:
        group: bounds of one group are measured together.
        sign: ``<=`` or ``>=``.
        limit: what the value is compared with; None where it depends on what is measured.
        meaning: what the value is, with its unit.
    """

    group: str
    sign: str
    limit: float | None
    meaning: str


BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {
        'node_cpu_vs_plain': Bound(
            'null',
            '<=',
            0.25,
            'CPU per frame of the node over that of the plain node: null model, 1280x720 rgb8, '
            'labels and confidence',
        ),
        'masks_and_overlay': Bound(
            'null', '<=', 1.2, 'the same of the node with 5 masks and overlay over without'
        ),
        'growth_with_pixels': Bound(
            'null',
            '<=',
            1.1,
            'exponent b of CPU = a pixels^b from 640x480 to 1920x1080: 1 is linear',
        ),
        'growth_with_classes': Bound(
            'classes',
            '<=',
            2.0,
            'what 150 classes cost more than 2 where both see the same borders, the forward '
            'aside, over softmax and argmax of the logits that came on top',
        ),
        'throughput_vs_bare': Bound(
            'default',
            '>=',
            0.95,
            "the node's rate over the bare forward loop's, the camera's CPU time subtracted",
        ),
        'added_latency_ms': Bound(
            'default',
            '<=',
            None,
            'stamp to publish minus forward, p50, with a camera at half the rate of the model; '
            '10 % of the forward or 3 ms',
        ),
        'four_cameras_total': Bound(
            'cameras', '>=', 0.95, "rate of four cameras together over that of one camera's node"
        ),
        'four_cameras_shares': Bound(
            'cameras', '<=', 0.1, 'largest deviation of a share from its weight (1, 1, 2, 2)'
        ),
        'slow_cameras_served': Bound(
            'cameras',
            '>=',
            0.9,
            'least of what the slow cameras got over their fair share, beside one at 100 Hz',
        ),
        'memory_growth_mib': Bound(
            'memory',
            '<=',
            5.0,
            'resident memory after 10,000 frames minus after 1,000, of changing sizes',
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A measured value and its bound."""

    name: str
    value: float
    limit: float

    @property
    def is_passed(self) -> bool:
        """Whether the bound is kept; what is not a number keeps none."""
        compare: Callable[[float, float], bool] = {'<=': operator.le, '>=': operator.ge}[
            BOUNDS[self.name].sign
        ]
        return compare(self.value, self.limit)

    def line(self) -> str:
        """``name value bound PASS``."""
        outcome = 'PASS' if self.is_passed else 'FAIL'
        return f'{self.name} {self.value:.3f} {BOUNDS[self.name].sign}{self.limit:.3f} {outcome}'


def verdict(name: str, value: float, limit: float | None = None) -> Verdict:
    """A value against the table's limit, or the one given where the table has none."""
    fixed = BOUNDS[name].limit
    chosen = fixed if fixed is not None else limit
    assert chosen is not None
    return Verdict(name, value, chosen)


def latency_limit_ms(forward_ms: float) -> float:
    """What the node may add to a forward of this length."""
    return max(MAX_LATENCY_SHARE * forward_ms, MAX_LATENCY_MS)


def share_deviation(frames: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """The largest |share / weight's share - 1| of all cameras; infinite where nothing came."""
    num_frames, total = sum(frames.values()), sum(weights.values())
    if not num_frames:
        return float('inf')
    return max(
        abs((frames[camera] / num_frames) / (weight / total) - 1.0)
        for camera, weight in weights.items()
    )


def select(names: str) -> frozenset[str]:
    """The bounds named, separated by commas; ``all`` for all.

    Raises:
        ConfigurationError: there is no such bound.
    """
    chosen = set(BOUNDS) if names == 'all' else {name for name in names.split(',') if name}
    if not chosen or chosen - set(BOUNDS):
        raise ConfigurationError(
            f'expected bounds among {", ".join(BOUNDS)}, got '
            f'{", ".join(sorted(chosen - set(BOUNDS))) or "none"}'
        )
    return frozenset(chosen)
