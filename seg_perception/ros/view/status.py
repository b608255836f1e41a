"""What the page shows of each camera, and what it waits for, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seg_perception.ros.view.discovery import Camera

SILENT_AFTER_S = 3.0
"""Nothing for so long is said."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a camera at one moment.

    Attributes:
        camera: its topics.
        ages_s: seconds since something came, by kind (``'image'``, ``'labels'`` …); kinds that
            never came are left out.
        node_says: its node's own word on it; None where it says nothing.
        values: the numbers its node gives of it.
    """

    camera: Camera
    ages_s: Mapping[str, float]
    node_says: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def wait_for(report: Report) -> str:
    """What is missing of a camera; empty where nothing is."""
    camera, ages_s = report.camera, report.ages_s
    labels_topic = f'{camera.namespace}/labels'
    said = f'; its node says "{report.node_says}"' if report.node_says else ''
    if 'labels' not in camera.outputs:
        return f'waits for {labels_topic}: nobody publishes there now{said}'
    if not camera.has_images:
        where = camera.image_topic or f'an image topic beside {camera.namespace}'
        return f'waits for {where}: nobody publishes there; does the camera driver run?'
    if silence := _silence(ages_s, 'labels'):
        return f'waits for {labels_topic}: {silence}{said}'
    if silence := _silence(ages_s, 'image'):
        return f'waits for {camera.image_topic}: {silence}; lost? see seg-perception doctor'
    return ''


def to_markdown(reports: Sequence[Report], chosen: Sequence[str]) -> str:
    """The page's text."""
    if not reports:
        return nobody(chosen)
    return '\n\n'.join(_paragraph(report) for report in reports)


def nobody(chosen: Sequence[str]) -> str:
    """What is said where there is no camera."""
    if chosen:
        return f'waits for a camera called {" or ".join(chosen)}: none is segmented here'
    return (
        'waits for a segmentation node: nobody publishes …/segmentation/labels here '
        '(same ROS_DOMAIN_ID? see seg-perception doctor)'
    )


def _paragraph(report: Report) -> str:
    waiting = wait_for(report)
    text = f'**{report.camera.name}** '
    text += waiting or f'shows {", ".join(_shown(report))}'
    if rows := _rows(report):
        text += '\n\n|  |  |\n|---|---|\n' + '\n'.join(f'| {a} | {b} |' for a, b in rows)
    return text


def _shown(report: Report) -> list[str]:
    return [
        kind.replace('_', ' ').replace('objects 3d', 'boxes')
        for kind in report.ages_s
        if kind in ('labels', 'confidence', 'objects', 'points', 'objects_3d')
    ]


def _rows(report: Report) -> list[tuple[str, str]]:
    """The node's account, where it gives one."""
    values = report.values
    rows = [('node', report.node_says)] if report.node_says else []
    if 'received' in values:
        dropped = {
            name.removeprefix('dropped_'): int(count)
            for name, count in values.items()
            if name.startswith('dropped_') and count > 0
        }
        why = ', '.join(f'{count} {name}' for name, count in dropped.items())
        rows.append(('frames', f'{values["published"]:.0f} of {values["received"]:.0f} published'))
        rows.append(('dropped', why or 'none'))
    if math.isfinite(p50_ms := values.get('latency_p50_ms', math.nan)):
        p95_ms, p99_ms = (values.get(f'latency_{p}_ms', math.nan) for p in ('p95', 'p99'))
        rows.append(('latency', f'{p50_ms:.0f} / {p95_ms:.0f} / {p99_ms:.0f} ms (p50, p95, p99)'))
    return rows


def _silence(ages_s: Mapping[str, float], kind: str) -> str:
    age_s = ages_s.get(kind)
    if age_s is None:
        return 'none came yet'
    return f'none for {age_s:.0f} s' if age_s > SILENT_AFTER_S else ''
