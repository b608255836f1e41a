"""The report: a JSON document for machines and the same figures as Markdown for people."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_perception.benchmarks import machine
from seg_perception.benchmarks.modes import MODES
from seg_perception.benchmarks.plot import write_plot
from seg_perception.errors import ConfigurationError

SCHEMA = 1


def make_document(
    cases: Sequence[Mapping[str, Any]], command: str, busy_before: float
) -> dict[str, Any]:
    """The whole report.

    Args:
        cases: of each case, what ``CaseFigures.to_document`` gives.
        command: what reproduces it.
        busy_before: share of the cores that others used before, see ``machine.busy_share``.
    """
    return {
        'schema': SCHEMA,
        'created': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'command': command,
        'hardware': machine.hardware(),
        'busy_before': busy_before,
        'versions': machine.versions(),
        'cases': list(cases),
    }


def write_report(document: Mapping[str, Any], folder: Path) -> None:
    """Writes ``report.json``, ``report.md`` and ``report.png``; NaN becomes null in JSON.

    Raises:
        MissingExtraError: matplotlib is not installed; the others are written by then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(document), indent=1)
    (folder / 'report.json').write_text(text + '\n', encoding='utf-8')
    (folder / 'report.md').write_text(to_markdown(document), encoding='utf-8')
    write_plot(document, folder / 'report.png')


def read_json(path: Path) -> dict[str, Any]:
    """Reads a report.

    Raises:
        ConfigurationError: it cannot be read or is not a report.
    """
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f'{path}: expected a report of this command: {error}') from error
    if not isinstance(document, dict) or document.get('schema') != SCHEMA:
        raise ConfigurationError(f'{path}: expected a report of schema {SCHEMA}')
    return document


def to_markdown(document: Mapping[str, Any]) -> str:
    """Machine, one table of all modes, one of the node's stages."""
    hardware, versions = document['hardware'], document['versions']
    lines = [
        f'{hardware["cpu"]}, {hardware["num_cores"]} cores, {hardware["memory_gib"]} GiB, '
        f'GPU {hardware["gpu"] or "none"}; {document["busy_before"]:.0%} of the cores busy with '
        'other work before; '
        + ', '.join(f'{name} {version}' for name, version in versions.items())
        + f'; {document["created"]}',
        '',
        f'`{document["command"]}`',
        '',
        '| case | mode | CPU ms/frame | p50 / p95 / p99 ms | Hz | missed | jitter ms | RSS MiB |',
        '|---|---|---:|---:|---:|---:|---:|---:|',
    ]
    for case in document['cases']:
        title = case['title']
        for mode, name in MODES.items():
            if mode in case['modes']:
                lines.append(f'| {title} | {name} | {_mode_cells(case["modes"][mode])} |')
                title = ''
        threads = case['modes'].get('node', {}).get('cpu_ms_per_frame_by_thread', {})
        for kind, value in threads.items():
            lines.append(f"| | the node's {kind} | {_number(value, 2)} | | | | | |")
        copies = _number(case['copies_ms'], 2)
        lines.append(f'| | copying the bytes once | {copies} | | | | | |')
        lines.append(f'| | *{_ratios(case["ratios"])}* | | | | | | |')
    lines += ['', '| case | stage | p50 / p95 / p99 ms |', '|---|---|---:|']
    for case in document['cases']:
        title = case['title']
        stages = case['modes'].get('node', {}).get('stages_ms', {})
        for stage in sorted({key.rpartition('_')[0] for key in stages}):
            cells = _percentiles({p: stages.get(f'{stage}_{p}') for p in ('p50', 'p95', 'p99')})
            lines.append(f'| {title} | {stage.removeprefix("stage_")} | {cells} |')
            title = ''
    return '\n'.join(lines) + '\n'


def _mode_cells(mode: Mapping[str, Any]) -> str:
    rss = mode.get('rss_mib')
    cells = [
        _number(mode['cpu_ms_per_frame'], 2),
        _percentiles(mode['latency_ms']),
        _number(mode['rate_hz'], 1),
        str(mode.get('missed', '')),
        _number(mode['jitter_ms'], 1) if 'jitter_ms' in mode else '',
        f'{_number(rss["steady"], 0)} / {_number(rss["peak"], 0)}' if rss else '',
    ]
    return ' | '.join(cells)


def _percentiles(values: Mapping[str, Any]) -> str:
    return ' / '.join(_number(values[name], 2) for name in ('p50', 'p95', 'p99'))


def _ratios(ratios: Mapping[str, float]) -> str:
    return ', '.join(f'{name.replace("_", " ")} {_number(v, 2)}' for name, v in ratios.items())


def _number(value: float | None, digits: int) -> str:
    return '–' if value is None or math.isnan(value) else f'{value:.{digits}f}'


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
