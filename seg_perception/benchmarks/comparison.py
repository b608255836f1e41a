"""Two reports side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seg_perception.benchmarks.modes import MODES
from seg_perception.errors import ConfigurationError

FIGURES: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    'CPU ms/frame': lambda mode: mode['cpu_ms_per_frame'],
    'p50 ms': lambda mode: mode['latency_ms']['p50'],
    'Hz': lambda mode: mode['rate_hz'],
}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A Markdown table of the cases that both reports have: before, after, after / before.

    Raises:
        ConfigurationError: they have none in common.
    """
    old = {case['title']: case for case in before['cases']}
    pairs = [(old[case['title']], case) for case in after['cases'] if case['title'] in old]
    if not pairs:
        raise ConfigurationError(
            'expected reports with a case in common, got '
            f'{", ".join(old) or "none"} and {", ".join(c["title"] for c in after["cases"])}'
        )
    lines = []
    for part in ('hardware', 'versions'):
        for name in sorted(before[part].keys() | after[part].keys()):
            values = before[part].get(name), after[part].get(name)
            if values[0] != values[1]:
                lines.append(f'{name}: {values[0]} → {values[1]}')
    lines += [
        '',
        '| case | mode | figure | before | after | ratio |',
        '|---|---|---|---:|---:|---:|',
    ]
    for first, second in pairs:
        title = first['title']
        for mode, mode_name in MODES.items():
            if mode not in first['modes'] or mode not in second['modes']:
                continue
            for name, read in FIGURES.items():
                old_value = read(first['modes'][mode])
                new_value = read(second['modes'][mode])
                if old_value is None or new_value is None:
                    continue
                ratio = f'{new_value / old_value:.2f}' if old_value else '–'
                cells = f'{old_value:.2f} | {new_value:.2f} | {ratio}'
                lines.append(f'| {title} | {mode_name} | {name} | {cells} |')
                title = mode_name = ''
    return '\n'.join(lines) + '\n'
