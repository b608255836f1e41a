"""Parameters of the package's nodes as text: the shipped YAML file and the pages' tables."""

from __future__ import annotations

from typing import Any, Literal, get_args

from seg_perception.ros.environment import require_ros
from seg_perception.ros.options import Meaning, constraints, rows
from seg_perception.ros.params import CameraParameters, Parameters

NodeName = Literal['segmentation_node', 'image_source_node', 'monitor_node']
NODE_NAMES: tuple[NodeName, ...] = get_args(NodeName)


def to_yaml(node: NodeName = 'segmentation_node') -> str:
    """A parameter file with every parameter of a node and its default.

    That of the segmentation node is ``config/segmentation.yaml``.
    """
    option = '' if node == 'segmentation_node' else f'--node {node} '
    lines = [
        f'# Parameters of {node} with their defaults.',
        f'# Made by: seg-perception params {option}--format yaml',
        '/**:',
        '  ros__parameters:',
    ]
    for table, prefix in _tables(node):
        indent = 6 if prefix else 4
        if prefix:
            lines.append('    camera:')
        for name, default, meaning in rows(table):
            allowed = constraints(meaning)
            remark = f' {allowed[0].upper()}{allowed[1:]}.' if allowed else ''
            lines.append(f'{" " * indent}# {meaning.description}{remark}')
            text = _yaml_value(default).replace('<camera>', 'camera')
            lines.append(f'{" " * indent}{name}: {text}')
    return '\n'.join(lines) + '\n'


def to_markdown(node: NodeName = 'segmentation_node') -> str:
    """The parameter table of a node's page."""
    tables = _tables(node)
    has_live = any(_when(meaning) for table, _ in tables for _, _, meaning in rows(table))
    heading = [
        'parameter',
        'type',
        'default',
        'allowed',
        *(['live'] if has_live else []),
        'meaning',
    ]
    lines = [_row(heading), '|---' * len(heading) + '|']
    for table, prefix in tables:
        for name, default, meaning in rows(table):
            cells = [f'`{prefix}{name}`', _type(default), f'`{_yaml_value(default)}`']
            cells.append(constraints(meaning).removeprefix('one of '))
            cells += [_when(meaning)] if has_live else []
            # <topic> would be taken for HTML.
            lines.append(_row([*cells, meaning.description.replace('<', '&lt;')]))
    return '\n'.join(lines) + '\n'


def to_document(node: NodeName = 'segmentation_node') -> list[dict[str, Any]]:
    """The parameters of a node, for programs."""
    return [
        {
            'name': f'{prefix}{name}',
            'type': _type(default),
            'default': default,
            'choices': meaning.choices,
            'minimum': meaning.minimum,
            'maximum': meaning.maximum,
            'live': meaning.is_live or meaning.is_swapped,
            'description': meaning.description,
        }
        for table, prefix in _tables(node)
        for name, default, meaning in rows(table)
    ]


def _tables(node: NodeName) -> list[tuple[type[Any], str]]:
    """The node's tables, and what stands before the names in each.

    Raises:
        MissingLibraryError: there is no ROS 2, and the node is not the segmentation node.
    """
    if node == 'segmentation_node':
        return [(Parameters, ''), (CameraParameters, '<camera>.')]
    require_ros(f'read the parameters of {node}')
    if node == 'image_source_node':
        from seg_perception.ros.image_source import SourceOptions

        return [(SourceOptions, '')]
    from seg_perception.ros.monitor import MonitorOptions

    return [(MonitorOptions, '')]


def _row(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _type(default: Any) -> str:
    """The name of a parameter's type in ROS 2, with the length of arrays that have one."""
    if isinstance(default, tuple):
        item = _type(default[0])
        return f'{item}[]' if item == 'string' else f'{item}[{len(default)}]'
    return {bool: 'bool', int: 'integer', float: 'double', str: 'string'}[type(default)]


def _when(meaning: Meaning) -> str:
    return 'swapped' if meaning.is_swapped else 'yes' if meaning.is_live else ''


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return '[' + ', '.join(_yaml_value(item) for item in value) + ']'
    if isinstance(value, str):
        return f"'{value}'"
    return str(value)
