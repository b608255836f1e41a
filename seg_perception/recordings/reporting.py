"""What became of a recording, in words and for programs."""

from __future__ import annotations

from typing import Any

from seg_perception.recordings.run import Account

_MAX_TOLD = 20
"""Images that could not be segmented and are named for people; programs get all of them."""


def to_document(account: Account) -> dict[str, Any]:
    """Everything, in plain values."""
    return {
        'out': str(account.out),
        'is_complete': account.is_complete,
        'num_messages': account.num_messages,
        'num_copied': account.num_copied,
        'num_lost': account.num_lost,
        'topics': {
            topic: {'images': num, 'segmented': account.num_segmented[topic]}
            for topic, num in sorted(account.num_images.items())
        },
        'faults': [
            {'topic': topic, 'log_time_ns': log_ns, 'reason': reason}
            for topic, log_ns, reason in account.faults
        ],
        'num_uncalibrated': account.num_uncalibrated,
        'damage': account.damage,
        'num_tasks_done_before': account.num_tasks_done_before,
        'failures_overcome': account.failures,
    }


def to_text(account: Account) -> str:
    """What a person wants to know."""
    lines = []
    for topic, num in sorted(account.num_images.items()):
        lines.append(f'{topic}: {account.num_segmented[topic]} of {num} images segmented')
    if account.num_uncalibrated:
        num = account.num_uncalibrated
        why = 'none came before them, or the newest was of another size'
        lines.append(f'{num} images got no camera_info: {why}')
    if account.num_tasks_done_before:
        lines.append(f'{account.num_tasks_done_before} pieces of work were done before')
    if account.faults:
        lines.append(f'{len(account.faults)} images could not be segmented:')
        for topic, log_ns, reason in account.faults[:_MAX_TOLD]:
            lines.append(f'  {topic} at {log_ns / 1e9:.6f}: {reason}')
        if len(account.faults) > _MAX_TOLD:
            lines.append(f'  and {len(account.faults) - _MAX_TOLD} more (--json names all)')
    for damage in account.damage:
        lines.append(f'damaged: {damage}')
    if account.num_lost:
        lines.append(f'{account.num_lost} messages of damaged files were lost')
    lines.append(
        f'{account.out}: {account.num_messages} messages, {account.num_copied} of them as they '
        f'were recorded'
    )
    return '\n'.join(lines)
