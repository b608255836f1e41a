"""Values of the segmentation node's parameters: declared, read, changed, and checked each time.

This module does not import rclpy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from seg_perception.errors import ConfigurationError
from seg_perception.ros.options import checked, declare_one, report_unknown, rows
from seg_perception.ros.params import CameraParameters, Parameters

if TYPE_CHECKING:
    from rclpy.node import Node

Table = TypeVar('Table', Parameters, CameraParameters)


def declare(node: Node) -> Parameters:
    """Declares the table on a node, and the group of each camera named in ``cameras``.

    Raises:
        ConfigurationError: a value given has another type or is not allowed.
    """
    for name, default, meaning in rows(Parameters):
        declare_one(node, name, default, meaning, is_read_only=False)
    parameters = load(node)
    report_unknown(node)
    return parameters


def load(node: Node) -> Parameters:
    """The node's present parameters; the groups of new cameras are declared on the way.

    Raises:
        ConfigurationError: a value has another type or is not allowed.
    """
    parameters = _read(node, Parameters, '')
    _check_cameras(parameters.cameras)
    groups = {}
    for camera in parameters.cameras:
        for name, default, meaning in rows(CameraParameters):
            full_name = f'{camera}.{name}'
            if isinstance(default, str):
                default = default.replace('<camera>', camera)
            if not node.has_parameter(full_name):
                declare_one(node, full_name, default, meaning, is_read_only=False)
        groups[camera] = _read(node, CameraParameters, f'{camera}.')
    parameters = dataclasses.replace(parameters, camera=groups)
    _check_sizes(parameters)
    _check_thresholds(parameters)
    _check_timeouts(parameters)
    return parameters


def changed(parameters: Parameters, changes: Mapping[str, Any], *, is_loaded: bool) -> Parameters:
    """The parameters after a change, checked before anything is changed.

    Args:
        parameters: the values now.
        changes: new values by full name; parameters of others (QoS overrides) are left alone.
        is_loaded: whether a model is loaded, so that only live and swapped ones may change.

    Raises:
        ConfigurationError: a value is not allowed, or not now.
    """
    values: dict[str, Any] = {}
    groups = dict(parameters.camera)
    for full_name, value in changes.items():
        camera, _, name = full_name.rpartition('.')
        table = CameraParameters if camera in groups else Parameters
        row = next((row for row in rows(table) if row[0] == name), None)
        if row is None or (camera and camera not in groups):
            continue
        _, default, meaning = row
        if is_loaded and not (meaning.is_live or meaning.is_swapped):
            raise ConfigurationError(
                f'parameter {full_name} takes effect when the node is configured: deactivate and '
                f'clean it up first (ros2 lifecycle set), or set it before the start'
            )
        value = checked(full_name, value, default, meaning)
        if camera:
            groups[camera] = dataclasses.replace(groups[camera], **{name: value})
        else:
            values[name] = value
    parameters = dataclasses.replace(parameters, **values, camera=groups)
    _check_cameras(parameters.cameras)
    _check_sizes(parameters)
    _check_thresholds(parameters)
    _check_timeouts(parameters)
    return parameters


def _check_cameras(cameras: tuple[str, ...]) -> None:
    if not cameras or not all(cameras) or len(set(cameras)) != len(cameras):
        raise ConfigurationError(
            f'parameter cameras: expected unique, non-empty names, got {list(cameras)}'
        )


def _check_sizes(parameters: Parameters) -> None:
    for name in ('input_size_wh', 'output_size_wh'):
        size_wh = getattr(parameters, name)
        if (size_wh[0] == 0) != (size_wh[1] == 0):
            raise ConfigurationError(
                f'parameter {name}: expected [width, height], both 0 or both positive, got '
                f'{list(size_wh)}'
            )


def _check_timeouts(parameters: Parameters) -> None:
    if not parameters.model.startswith('triton:'):
        return  # No server is asked: its time-out says nothing.
    if 0.0 < parameters.model_timeout_s <= parameters.server_timeout_s:
        raise ConfigurationError(
            f'parameter server_timeout_s: expected less than model_timeout_s '
            f'({parameters.model_timeout_s:g}), else a slow server is taken for a model that '
            f'hangs, got {parameters.server_timeout_s:g}'
        )


def _check_thresholds(parameters: Parameters) -> None:
    for name, grows in (
        ('silence_thresholds_s', True),
        ('age_thresholds_s', True),
        ('rate_thresholds', False),
    ):
        warn, error = getattr(parameters, name)
        if all((warn, error)) and (warn > error if grows else warn < error):
            raise ConfigurationError(
                f'parameter {name}: expected [warning, error], the error being the '
                f'{"larger" if grows else "smaller"}, got {[warn, error]}'
            )


def _read(node: Node, table: type[Table], prefix: str) -> Table:
    return table(
        **{
            name: checked(prefix + name, node.get_parameter(prefix + name).value, default, meaning)
            for name, default, meaning in rows(table)
        }
    )
