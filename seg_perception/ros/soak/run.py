"""Runs the soak from start to end; nothing of it is left when it is over or interrupted."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from seg_perception.errors import ConfigurationError
from seg_perception.interruption import terminable
from seg_perception.ros.bench.processes import ProcessError
from seg_perception.ros.environment import require_ros
from seg_perception.ros.soak.ledger import Ledger

_LIFETIME_MARGIN_S = 900.0
_SAY_EVERY_S = 30.0
_MAX_WEDGED = 3
_LAST_ANSWER_S = 5.0


def run_soak(
    minutes: float,
    seed: int,
    *,
    domain_id: int | None = None,
    log_dir: Path | None = None,
) -> dict[str, Any]:
    """Soaks a node and says how it was; an interrupt ends it early, with a report.

    Args:
        minutes: how long, once the node has started and shown everything; the step under way is
            finished.
        seed: the same one, the same steps.
        domain_id: ROS domain; None for a private one.
        log_dir: folder for the processes' messages; None for none.

    Raises:
        ConfigurationError: no time to run.
        MissingLibraryError: rclpy or psutil is missing.
    """
    if not minutes > 0.0:
        raise ConfigurationError(f'expected minutes above 0, got {minutes:g}')
    require_ros()
    from seg_perception.ros.soak.report import make_document
    from seg_perception.ros.soak.stage import Stage

    ledger = Ledger()
    accounts: dict[str, Any] = {'num': 0, 'wrong': [], 'frames': {}}
    is_interrupted = False
    lifetime_s = minutes * 60.0 + _LIFETIME_MARGIN_S
    with (
        terminable(),
        Stage(ledger, lifetime_s=lifetime_s, domain_id=domain_id, log_dir=log_dir) as stage,
    ):
        try:
            _soak(stage, ledger, minutes * 60.0, seed)
        except ProcessError as error:
            ledger.crash = str(error)
        except KeyboardInterrupt:
            is_interrupted = True
        if stage.log_has_traceback():
            ledger.problem("the node's log has a traceback; see --log-dir")
        # The observer may be waiting for a node that is no more.
        with suppress(ProcessError):
            accounts = stage.observer.ask('accounts', timeout_s=_LAST_ANSWER_S)
    return make_document(ledger, accounts, seed, is_interrupted=is_interrupted)


def _soak(stage: Any, ledger: Ledger, seconds: float, seed: int) -> None:
    from seg_perception.ros.soak.stage import BrokenError
    from seg_perception.ros.soak.steps import STEPS, plan, see_everything_once

    num_wedged = 0
    next_line_s = 0.0
    stage.become_calm('start')
    see_everything_once(stage)
    stage.become_calm('everything once')
    end_s = ledger.elapsed_s + seconds
    for name, rng in plan(seed):
        if ledger.elapsed_s > end_s:
            return
        ledger.steps[name] += 1
        try:
            STEPS[name](stage, rng)
        except BrokenError as error:
            ledger.problem(f'{name}: {error}')
        try:
            stage.become_calm(name)
            num_wedged = 0
        except BrokenError as error:
            ledger.problem(f'after {name}: {error}')
            num_wedged += 1
        if num_wedged >= _MAX_WEDGED:
            raise stage.node.failure(f'did not recover in {num_wedged} steps')
        if ledger.elapsed_s > next_line_s:
            next_line_s = ledger.elapsed_s + _SAY_EVERY_S
            sys.stderr.write(_line(ledger) + '\n')


def _line(ledger: Ledger) -> str:
    sample = ledger.samples[-1]
    return (
        f'# {ledger.elapsed_s / 60:6.1f} min  {sum(ledger.steps.values())} steps  '
        f'{ledger.num_labels} labels  {sample.rss_mib:.0f} MiB  {sample.num_threads} threads  '
        f'{sample.num_fds} fds  faults {ledger.reported.total()}/{ledger.injected.total()}  '
        f'problems {len(ledger.problems)}'
    )
