"""The report as a picture: CPU time per frame of every mode, and how it grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seg_perception.benchmarks.cases import BYTES_PER_PIXEL, OUTPUTS
from seg_perception.benchmarks.modes import MODES
from seg_perception.errors import MissingExtraError

COLORS = {'bare': '#9aa5b1', 'segmenter': '#4c9f70', 'node': '#2566a8', 'plain': '#c8553d'}


def write_plot(document: Mapping[str, Any], path: Path) -> None:
    """Draws the report as a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('matplotlib', 'bench', 'draw the report') from error
    cases = document['cases']
    growths = []
    for label, read in (
        ('megapixels', _megapixels),
        ('classes of the null model', _classes),
        ('bytes published per pixel', _bytes_per_pixel),
    ):
        points = _varying(cases, read)
        if len({x for x, _ in points}) > 2:
            growths.append((label, points))
    bar_height = 0.2 * sum(len(case['modes']) + 1 for case in cases)
    figure = Figure(figsize=(12, 1.5 + bar_height + 3.5 * bool(growths)), layout='constrained')
    grid = figure.add_gridspec(1 + bool(growths), max(len(growths), 1))
    if growths:
        grid.set_height_ratios((bar_height + 1, 3.5))
    axes = figure.add_subplot(grid[0, :])
    position, ticks = 0, []
    for case in cases:
        ticks.append((position + (len(case['modes']) - 1) / 2, case['title']))
        for mode in case['modes']:
            value = case['modes'][mode]['cpu_ms_per_frame']
            axes.barh(position, value, color=COLORS[mode])
            axes.text(value, position, f' {value:.1f}', va='center', fontsize=8)
            position += 1
        axes.plot(
            [case['copies_ms']] * 2, [position - len(case['modes']) - 0.5, position - 0.5], 'k--'
        )
        position += 1
    labels = [title.replace(' ', '\n', 1) for _, title in ticks]
    axes.set_yticks([y for y, _ in ticks], labels, fontsize=8)
    axes.set_ylim(position - 0.5, -1)
    axes.set_xlabel('CPU ms per frame; dashed: copying the bytes once')
    handles = [axes.barh(0, 0, color=color, label=MODES[mode]) for mode, color in COLORS.items()]
    axes.legend(handles=handles, fontsize=8)
    for column, (label, points) in enumerate(growths):
        panel = figure.add_subplot(grid[1, column])
        for mode in ('segmenter', 'node', 'plain'):
            line = sorted((x, modes[mode]) for x, modes in points if mode in modes)
            panel.plot(*zip(*line, strict=True), 'o-', color=COLORS[mode], label=MODES[mode])
        panel.set(xlabel=label, ylabel='CPU ms per frame', xlim=(0, None), ylim=(0, None))
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def _megapixels(case: Mapping[str, Any]) -> float:
    return float(case['size_wh'][0] * case['size_wh'][1] / 1e6)


def _classes(case: Mapping[str, Any]) -> float:
    return float(case['num_classes'])


def _bytes_per_pixel(case: Mapping[str, Any]) -> float:
    return float(sum(BYTES_PER_PIXEL[name] for name in OUTPUTS[case['outputs']]))


def _varying(
    cases: list[dict[str, Any]], read: Callable[[Mapping[str, Any]], float]
) -> list[tuple[float, dict[str, float]]]:
    """Costs of the null model's cases that differ from the first in this value only, by value."""
    null = [case for case in cases if case['case']['model'] == 'null']
    if not null:
        return []
    base = null[0]['case']
    alike = [
        case
        for case in null
        if sum(case['case'][name] != base[name] for name in base) <= 1
        and (case['case'] == base or read(case['case']) != read(base))
    ]
    return [
        (read(case['case']), {m: v['cpu_ms_per_frame'] for m, v in case['modes'].items()})
        for case in alike
    ]
