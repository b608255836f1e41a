"""The soak's report: a document for machines, a short table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seg_perception.benchmarks.machine import hardware, versions
from seg_perception.benchmarks.statistics import Distribution
from seg_perception.ros.soak.ledger import Ledger

_MAX_SERIES = 500


def make_document(
    ledger: Ledger, accounts: Mapping[str, Any], seed: int, *, is_interrupted: bool
) -> dict[str, Any]:
    """Everything that is known, as JSON can hold it."""
    verdicts = ledger.verdicts(accounts['wrong'])
    latency = Distribution.of(ledger.latencies_ms)
    stride = max(1, len(ledger.samples) // _MAX_SERIES)
    return {
        'seed': seed,
        'minutes': round(ledger.elapsed_s / 60.0, 2),
        'is_interrupted': is_interrupted,
        'is_passed': not any(verdict['is_kept'] is False for verdict in verdicts),
        'bounds': verdicts,
        'steps': dict(sorted(ledger.steps.items())),
        'faults': {
            kind: {'injected': num, 'reported': ledger.reported[kind]}
            for kind, num in sorted(ledger.injected.items())
        },
        'bad_images_lost_on_the_way': ledger.num_lost_on_the_way,
        'cameras_hanging_in_the_middleware': ledger.num_hanging_cameras,
        'frames': accounts['frames'],
        'accounts': accounts['num'],
        'accounts_that_do_not_add_up': accounts['wrong'],
        'labels': ledger.num_labels,
        'rate_hz': round(ledger.num_labels / max(ledger.elapsed_s, 1e-9), 2),
        'latency_ms': {'p50': latency.p50, 'p95': latency.p95, 'p99': latency.p99},
        'process': [
            [round(s.at_s, 1), round(s.rss_mib, 1), s.num_threads, s.num_fds, s.step]
            for s in ledger.samples[::stride]
        ],
        'problems': ledger.problems,
        'crash': ledger.crash,
        'hardware': hardware(),
        'versions': versions(),
    }


def to_text(document: Mapping[str, Any]) -> str:
    """The same in short, for people."""
    lines = [
        f'{document["minutes"]:g} min, seed {document["seed"]}, '
        f'{sum(document["steps"].values())} steps, {document["labels"]} label images '
        f'({document["rate_hz"]:g} Hz), latency p50/p95/p99 '
        + '/'.join(f'{document["latency_ms"][p]:.0f}' for p in ('p50', 'p95', 'p99'))
        + ' ms',
        '',
        f'{"fault":32} injected reported',
    ]
    lines += [
        f'{kind:32} {num["injected"]:8} {num["reported"]:8}'
        for kind, num in document['faults'].items()
    ]
    for camera, totals in document['frames'].items():
        shown = [f'{key.removeprefix("dropped_")} {num}' for key, num in totals.items() if num]
        lines += ['', f'{camera}: {", ".join(shown)}']
    series = document['process']
    if series:
        first, last = series[0], series[-1]
        lines += ['', f'node: {first[1]:.0f} MiB, {first[2]} threads, {first[3]} fds at first']
        lines += [f'      {last[1]:.0f} MiB, {last[2]} threads, {last[3]} fds at last', '']
    num_hanging = document['cameras_hanging_in_the_middleware']
    if num_hanging:
        lines += [f'cameras hung in the middleware {num_hanging} time(s), and were killed', '']
    lines += [f'problem at {problem}' for problem in document['problems']]
    lines += [f'contradiction: {text}' for text in document['accounts_that_do_not_add_up']]
    lines += [document['crash']] if document['crash'] else []
    outcomes = {True: 'PASS', False: 'FAIL', None: 'too short to say'}
    lines += [
        f'{v["name"]} {v["value"]:g} <={v["limit"]:g} {outcomes[v["is_kept"]]}'
        for v in document['bounds']
    ]
    return '\n'.join([*lines, ''])
