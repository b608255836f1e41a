"""The node's accounts as diagnostic_msgs/DiagnosticArray."""

from __future__ import annotations

import math
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from seg_perception.ros.accounting import DropReason, Snapshot
from seg_perception.ros.depth import DepthSnapshot

SILENT_AFTER_S = 3.0
"""A camera that sent nothing for this long is reported."""
RECENT_S = 10.0
"""How long a dropped frame shows in a camera's level."""
UNUSABLE = (DropReason.MALFORMED, DropReason.UNSUPPORTED)


def camera_status(
    name: str,
    topic: str,
    listening_s: float | None,
    account: Snapshot,
    depth: DepthSnapshot | None = None,
) -> DiagnosticStatus:
    """The status of one camera.

    Args:
        name: full name of the status, e.g. ``'segmentation: front'``.
        topic: the camera's image topic, shown as hardware_id.
        listening_s: seconds since the node subscribed to it; None where it is not subscribed.
        account: its counts and times.
        depth: the counts of its depth images; None where it has none.
    """
    recent = [r for r, age_s in account.since_drop_s.items() if age_s < RECENT_S]
    unusable = [f'{account.dropped[r]} {r.value}' for r in UNUSABLE if r in recent]
    level, message = DiagnosticStatus.OK, f'{account.rate_hz:.1f} Hz'
    age_s = min(s for s in (account.age_s, listening_s, math.inf) if s is not None)
    if listening_s is None:
        message = 'not listening: no output is wanted, or the node is disabled or inactive'
    elif age_s > SILENT_AFTER_S:
        level, message = DiagnosticStatus.WARN, f'no image on {topic} for {age_s:.1f} s'
    elif DropReason.MODEL_ERROR in recent:
        num_failed = account.dropped[DropReason.MODEL_ERROR]
        level, message = DiagnosticStatus.ERROR, f'the model failed on {num_failed} frames'
    elif unusable:
        level, message = DiagnosticStatus.WARN, f'unusable frames: {", ".join(unusable)}'
    elif depth is not None and (faults := _recent_faults(depth)):
        level, message = DiagnosticStatus.WARN, f'{depth.topic}: {faults}'
    values = {
        'received': account.received,
        'published': account.published,
        **{f'dropped_{reason}': count for reason, count in account.dropped.items()},
        'pending': account.pending,
        'rate_hz': account.rate_hz,
        'age_s': math.nan if account.age_s is None else account.age_s,
        **_percentile_values('latency', account.latency_ms),
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
    return make_status(name, level, message, values, hardware_id=topic)


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


def _recent_faults(depth: DepthSnapshot) -> str:
    """Why images had no depth lately; empty where all had."""
    recent = [fault for fault, age_s in depth.since_fault_s.items() if age_s < RECENT_S]
    return ', '.join(f'{depth.faults[fault]} images with depth {fault}' for fault in recent)


def _percentile_values(
    prefix: str, percentiles_ms: tuple[float, float, float]
) -> dict[str, float]:
    return {
        f'{prefix}_{name}_ms': value
        for name, value in zip(('p50', 'p95', 'p99'), percentiles_ms, strict=True)
    }


def _text(value: object) -> str:
    return f'{value:.3f}' if isinstance(value, float) else str(value)
