"""The segmentation node's parameters as text: the shipped YAML file and the pages' table."""

from __future__ import annotations

from typing import Any

from seg_perception.ros.options import Meaning, constraints, rows
from seg_perception.ros.params import CameraParameters, Parameters


def to_yaml() -> str:
    """The text of ``config/segmentation.yaml``: every parameter with its default."""
    lines = [
        '# Parameters of segmentation_node with their defaults.',
        '# Made by: seg-perception params --format yaml',
        '/**:',
        '  ros__parameters:',
    ]
    for table, prefix, indent in ((Parameters, '', 4), (CameraParameters, 'camera', 6)):
        if prefix:
            lines.append(f'{" " * (indent - 2)}{prefix}:')
        for name, default, meaning in rows(table):
            lines.append(f'{" " * indent}# {_describe(meaning)}')
            text = _yaml_value(default).replace('<camera>', 'camera')
            lines.append(f'{" " * indent}{name}: {text}')
    return '\n'.join(lines) + '\n'


def to_markdown() -> str:
    """The parameter table of the documentation."""
    lines = ['| parameter | default | live | meaning |', '|---|---|---|---|']
    for table, prefix in ((Parameters, ''), (CameraParameters, '<camera>.')):
        for name, default, meaning in rows(table):
            lines.append(
                f'| `{prefix}{name}` | `{_yaml_value(default)}` | '
                f'{_when(meaning)} | {_describe(meaning)} |'
            )
    return '\n'.join(lines) + '\n'


def _when(meaning: Meaning) -> str:
    return 'swapped' if meaning.is_swapped else 'yes' if meaning.is_live else ''


def _describe(meaning: Meaning) -> str:
    allowed = constraints(meaning)
    return meaning.description + (f' {allowed[0].upper()}{allowed[1:]}.' if allowed else '')


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return '[' + ', '.join(_yaml_value(item) for item in value) + ']'
    if isinstance(value, str):
        return f"'{value}'"
    return str(value)
