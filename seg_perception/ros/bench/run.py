"""Runs the benchmark from start to end; nothing of it is left when it is over or interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_perception.benchmarks.acceptance import Verdict, select
from seg_perception.benchmarks.cases import sweep
from seg_perception.benchmarks.contenders import Contender
from seg_perception.benchmarks.machine import busy_share
from seg_perception.errors import ConfigurationError
from seg_perception.interruption import terminable
from seg_perception.ros.environment import require_ros

MAX_BUSY = 0.1


def measure_sweep(
    choices: Mapping[str, Sequence[Any]],
    *,
    rounds: int,
    seconds: float,
    rate_hz: float | None,
    domain_id: int | None = None,
    log_dir: Path | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Measures a sweep.

    Args:
        choices: values by field of `Case`.
        rounds: how often each mode has its turn.
        seconds: length of a turn.
        rate_hz: images per second of each camera; None for what suits the model.
        domain_id: ROS domain; None for a private one.
        log_dir: folder for the processes' messages; None for none.

    Returns:
        The report's part about each case, and the share of the cores that were busy before.

    Raises:
        SegPerceptionError: an option cannot be, labels are wrong, or a process failed.
    """
    if rounds < 1 or not seconds > 0.0 or (rate_hz is not None and not rate_hz > 0.0):
        raise ConfigurationError(
            f'expected rounds of at least 1, seconds and rate above 0, got {rounds}, {seconds:g}, '
            f'{rate_hz}'
        )
    cases = sweep(choices)
    require_ros()
    from seg_perception.ros.bench.rig import Rig
    from seg_perception.ros.bench.sweep import run_sweep

    with terminable():
        busy_before = _look_around()
        with Rig(domain_id, log_dir) as rig:
            figures = run_sweep(rig, cases, rounds=rounds, seconds=seconds, rate_hz=rate_hz)
    num_cores = len(os.sched_getaffinity(0))
    return [case.to_document(num_cores) for case in figures], busy_before


def measure_acceptance(
    names: str, *, domain_id: int | None = None, log_dir: Path | None = None
) -> Iterator[Verdict]:
    """Measures the bounds named (or ``all``), each verdict as soon as it is known.

    Raises:
        ConfigurationError: no bound has a given name.
        SegPerceptionError: labels are wrong, or a process failed.
    """
    wanted = select(names)
    require_ros()
    from seg_perception.ros.bench.bounds import measure_bounds
    from seg_perception.ros.bench.rig import Rig

    with terminable():
        _look_around()
        with Rig(domain_id, log_dir) as rig:
            yield from measure_bounds(rig, wanted)


def measure_contenders(
    contenders: Sequence[Contender],
    *,
    size_wh: tuple[int, int],
    num_threads: int,
    rounds: int,
    seconds: float,
    rate_hz: float | None,
    domain_id: int | None = None,
    log_dir: Path | None = None,
) -> list[dict[str, Any]]:
    """Measures models and engines over live topics, see ``live.measure_live``.

    Raises:
        SegPerceptionError: an option cannot be, or a process failed.
    """
    require_ros()
    from seg_perception.ros.bench.live import measure_live
    from seg_perception.ros.bench.rig import Rig

    with terminable():
        _look_around()
        with Rig(domain_id, log_dir) as rig:
            return measure_live(
                rig,
                contenders,
                size_wh=size_wh,
                num_threads=num_threads,
                rounds=rounds,
                seconds=seconds,
                rate_hz=rate_hz,
            )


def _look_around() -> float:
    """Share of the cores that others use; says so where it is too much for clocks to be right."""
    busy = busy_share()
    if busy > MAX_BUSY:
        sys.stderr.write(
            f'# {busy:.0%} of the cores are busy with other work: CPU times are usable, rates and '
            'latencies are not\n'
        )
    return busy
