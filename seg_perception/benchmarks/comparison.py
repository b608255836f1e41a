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


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What changed between two reports, in the cases that both have.

    Returns:
        ``changes``: hardware and versions that differ; ``rows``: of each case, mode and figure,
        ``before``, ``after`` and ``ratio`` (after / before; None where before is 0).

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
    changes = [
        {'what': name, 'before': before[part].get(name), 'after': after[part].get(name)}
        for part in ('hardware', 'versions')
        for name in sorted(before[part].keys() | after[part].keys())
        if before[part].get(name) != after[part].get(name)
    ]
    rows = []
    for first, second in pairs:
        for mode in MODES:
            if mode not in first['modes'] or mode not in second['modes']:
                continue
            for name, read in FIGURES.items():
                old_value, new_value = read(first['modes'][mode]), read(second['modes'][mode])
                if old_value is None or new_value is None:
                    continue
                rows.append(
                    {
                        'case': first['title'],
                        'mode': mode,
                        'figure': name,
                        'before': old_value,
                        'after': new_value,
                        'ratio': new_value / old_value if old_value else None,
                    }
                )
    return {'changes': changes, 'rows': rows}


def comparison_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`compare` as a Markdown table, below the machines' differences."""
    compared = compare(before, after)
    lines = [f'{c["what"]}: {c["before"]} → {c["after"]}' for c in compared['changes']]
    lines += [
        '',
        '| case | mode | figure | before | after | ratio |',
        '|---|---|---|---:|---:|---:|',
    ]
    last: tuple[str, str] = ('', '')
    for row in compared['rows']:
        title = row['case'] if row['case'] != last[0] else ''
        mode = MODES[row['mode']] if (row['case'], row['mode']) != last else ''
        last = (row['case'], row['mode'])
        ratio = f'{row["ratio"]:.2f}' if row['ratio'] is not None else '–'
        cells = f'{row["before"]:.2f} | {row["after"]:.2f} | {ratio}'
        lines.append(f'| {title} | {mode} | {row["figure"]} | {cells} |')
    return '\n'.join(lines) + '\n'
