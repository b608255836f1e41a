"""``seg-perception bench --live``: models and engines over live topics, by turns in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from seg_perception.benchmarks.cases import Case
from seg_perception.benchmarks.contenders import Contender
from seg_perception.benchmarks.statistics import Distribution
from seg_perception.errors import ConfigurationError
from seg_perception.ros.bench.rig import OURS, LiveFigures, Rig

IDLE_SHARE = 0.5
"""Cameras leave the slowest model idle for this share of the time, so that nothing waits."""


def measure_live(
    rig: Rig,
    contenders: Sequence[Contender],
    *,
    size_wh: tuple[int, int],
    num_threads: int,
    rounds: int,
    seconds: float,
    rate_hz: float | None,
) -> list[dict[str, Any]]:
    """Runs one node per contender and plays to each in turn.

    Args:
        rig: what measures.
        contenders: the first is what the others are compared with.
        size_wh: of the camera's images.
        num_threads: CPU threads of each model.
        rounds: how often each has its turn.
        seconds: length of a turn.
        rate_hz: images per second; None for what leaves the slowest one idle half of the time.

    Returns:
        One mapping per contender: ``title``, ``latency_ms`` from stamp to arrived label image,
        ``stages_ms``, ``frames``, ``speed`` against the first.

    Raises:
        ProcessError: a node failed or gave nothing in time.
        ConfigurationError: nothing to compare.
    """
    if not contenders:
        raise ConfigurationError('expected at least one model to run')
    cases = [
        Case(c.model, size_wh=size_wh, outputs='labels', num_threads=num_threads)
        for c in contenders
    ]
    with ExitStack() as stack:
        nodes = []
        for contender, case in zip(contenders, cases, strict=True):
            node = rig.node(OURS, case, parameters_of(contender))
            stack.callback(node.child.stop)
            nodes.append(node)
        slowest_ms = 0.0
        for node, case in zip(nodes, cases, strict=True):
            first = rig.measure(node, case, [1.0], 3.0)
            slowest_ms = max(slowest_ms, Distribution.of(first.latencies_ms).p50)
        rate = rate_hz or min(30.0, IDLE_SHARE * 1e3 / slowest_ms)
        figures = [LiveFigures() for _ in contenders]
        for _ in range(rounds):
            for node, case, seen in zip(nodes, cases, figures, strict=True):
                seen.add(rig.measure(node, case, [rate], seconds))
    latencies = [Distribution.of(seen.latencies_ms) for seen in figures]
    return [
        {
            'title': contender.title,
            'rate_hz': rate,
            'frames': seen.num_frames,
            'latency_ms': {'p50': d.p50, 'p95': d.p95, 'p99': d.p99},
            'cpu_ms_per_frame': seen.cpu_ms_per_frame,
            'stages_ms': seen.stages_ms,
            'speed': latencies[0].p50 / d.p50,
        }
        for contender, seen, d in zip(contenders, figures, latencies, strict=True)
    ]


def parameters_of(contender: Contender) -> Mapping[str, Any]:
    """The node's parameters that make it run a contender."""
    weights = {'weights_path': str(Path(contender.weights).absolute())}
    return {
        'engine': contender.engine,
        'precision': contender.precision,
        **(weights if contender.weights else {}),
    }


def to_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f'stamp to arrived labels, {rows[0]["rate_hz"]:.1f} images per second',
        '',
        '| model and engine | p50 ms | p95 ms | p99 ms | CPU ms per frame | frames | speed |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        d = row['latency_ms']
        lines.append(
            f'| {row["title"]} | {d["p50"]:.1f} | {d["p95"]:.1f} | {d["p99"]:.1f} | '
            f'{row["cpu_ms_per_frame"]:.1f} | {row["frames"]} | {row["speed"]:.2f}x |'
        )
    return '\n'.join(lines) + '\n'
