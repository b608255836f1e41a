"""The node's accounts as diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

import math
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from seg_perception.ros.health import CameraReport, Health
from seg_perception.ros.percentiles import Percentiles

LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
"""By `Level`."""


def camera_status(
    name: str, report: CameraReport, health: Health, expected_rate_hz: float
) -> DiagnosticStatus:
    """The status of one camera; all its values are numbers.

    Args:
        name: full name of the status, e.g. ``'segmentation: front'``.
        report: what is known of it.
        health: what that means.
        expected_rate_hz: what it should send; 0 where unknown.
    """
    account, arrivals, depth = report.account, report.arrivals, report.depth
    values = {
        'received': account.received,
        'published': account.published,
        **{f'dropped_{reason}': count for reason, count in account.dropped.items()},
        'pending': account.pending,
        'rate_hz': account.rate_hz,
        'received_rate_hz': arrivals.rate_hz,
        'expected_rate_hz': expected_rate_hz,
        'stamp_rate_hz': arrivals.stamp_rate_hz,
        'age_s': _or_nan(account.age_s),
        'since_publish_s': _or_nan(account.since_publish_s),
        **_percentile_values('latency', account.latency_ms),
        **_percentile_values('age_on_arrival', arrivals.age_ms),
        **_jitter_values('jitter', arrivals.jitter_ms),
        **_jitter_values('stamp_jitter', arrivals.stamp_jitter_ms),
        **{f'stamps_{fault}': count for fault, count in arrivals.faults.items()},
    }
    for stage, percentiles_ms in account.stages_ms.items():
        values |= _percentile_values(f'stage_{stage}', percentiles_ms)
    if depth is not None:
        values |= {
            'depth_received': depth.received,
            'depth_paired': depth.paired,
            'boxes_unsupported': depth.unsupported,
        }
        values |= {f'depth_{fault}': count for fault, count in depth.faults.items()}
    if report.prompts is not None:
        values |= {
            'prompts': len(report.prompts.names),
            'prompts_received': report.prompts.received,
            'prompts_refused': report.prompts.refused,
        }
    return make_status(name, LEVELS[health.level], health.message, values, report.topic)


def heartbeat_status(name: str, report: CameraReport, health: Health) -> DiagnosticStatus:
    """What a consumer of a camera's outputs needs to know, many times a second.

    Its level is STALE where nothing is wrong and yet nothing is published.
    """
    level = LEVELS[health.level]
    if not health.state.is_publishing and not health.level:
        level = DiagnosticStatus.STALE
    values = {
        'state': health.state.value,
        'last_stamp_ns': report.account.last_stamp_ns,
        'since_publish_s': _or_nan(report.account.since_publish_s),
        'rate_hz': report.account.rate_hz,
        'labels_from': report.labels_from,
    }
    return make_status(name, level, health.message, values, report.topic)


def make_status(
    name: str,
    level: bytes,
    message: str,
    values: Mapping[str, object],
    hardware_id: str = '',
) -> DiagnosticStatus:
    """A status with its values as text."""
    return DiagnosticStatus(
        name=name,
        level=level,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()],
    )


def _percentile_values(prefix: str, percentiles_ms: Percentiles) -> dict[str, float]:
    return {
        f'{prefix}_{name}_ms': value
        for name, value in zip(('p50', 'p95', 'p99'), percentiles_ms, strict=True)
    }


def _jitter_values(prefix: str, jitter_ms: tuple[float, float]) -> dict[str, float]:
    return {f'{prefix}_mean_ms': jitter_ms[0], f'{prefix}_max_ms': jitter_ms[1]}


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _text(value: object) -> str:
    return f'{value:.3f}' if isinstance(value, float) else str(value)
