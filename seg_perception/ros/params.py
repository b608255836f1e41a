"""Every parameter of the segmentation node, in one table.

The two frozen dataclasses below are the only place where a parameter's name, default, range and
description are written down: declaration, validation, ``config/segmentation.yaml`` and the
documentation are made from them. This module does not import rclpy until a node asks for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from seg_perception.backends import Precision
from seg_perception.errors import ConfigurationError
from seg_perception.imaging import DEFAULT_MAX_PIXELS
from seg_perception.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from rclpy.node import Node


@dataclass(frozen=True, slots=True)
class Constraints:
    """What is known of a parameter besides its type and default.

    Attributes:
        description: for people; says the unit.
        choices: the only values allowed, () for any.
        minimum: smallest number allowed.
        maximum: largest number allowed.
        is_live: takes effect at once; others take effect at the next configure and are refused
            while a model is loaded.
    """

    description: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_live: bool = False


def _parameter(
    default: Any,
    description: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    is_live: bool = False,
) -> Any:
    constraints = Constraints(description, choices, minimum, maximum, is_live)
    return field(default=default, metadata={'constraints': constraints})


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of one camera, prefixed with its name: ``<camera>.image_topic``."""

    image_topic: str = _parameter(
        '<camera>/image_raw', 'Topic of the images; resolved and remapped as topic names are.'
    )
    transport: str = _parameter(
        'raw',
        'raw subscribes to image_topic, compressed to image_topic/compressed (JPEG or PNG).',
        choices=('raw', 'compressed'),
    )
    camera_info_topic: str = _parameter(
        '', 'Topic of the calibration; empty for camera_info beside the image topic.'
    )
    max_rate_hz: float = _parameter(
        0.0,
        'Frames per second at most; 0 for as many as the model can do.',
        minimum=0.0,
        maximum=1000.0,
        is_live=True,
    )
    weight: float = _parameter(
        1.0,
        'Share of the model when several cameras wait for it.',
        minimum=0.01,
        maximum=100.0,
        is_live=True,
    )


@dataclass(frozen=True)
class Parameters:
    """Parameters of the segmentation node."""

    cameras: tuple[str, ...] = _parameter(
        ('camera',), 'Names of the cameras; each has its own group of parameters.'
    )
    model: str = _parameter(
        DEFAULT_MODEL,
        'Catalog name, or path of a model card (.yaml) or model file '
        '(.onnx, .tflite, .pt2, .safetensors).',
    )
    weights_path: str = _parameter(
        '', "File to take the model's weights from; empty for where its card says."
    )
    device: str = _parameter('auto', 'auto, cpu, cuda or cuda:N; auto takes a GPU where one is.')
    precision: str = _parameter(
        'auto',
        'Arithmetic of the model; auto takes fp16 on a GPU and fp32 on a CPU.',
        choices=get_args(Precision),
    )
    input_size_wh: tuple[int, ...] = _parameter(
        (0, 0),
        "Width and height of the model's input in pixels; [0, 0] for its card's.",
        minimum=0,
        maximum=8192,
    )
    compile: bool = _parameter(False, 'Compile the model with torch.compile when configuring.')
    cuda_graph: bool = _parameter(
        False, 'Replay the model as CUDA graphs, one per input size; GPU only.'
    )
    trust_model_code: bool = _parameter(
        False, 'Load model files that can run code (.pt2); only for files you trust.'
    )
    num_threads: int = _parameter(
        0, 'CPU threads of the model; 0 leaves it to the library.', minimum=0, maximum=1024
    )
    max_batch_size: int = _parameter(
        8, 'Frames of different cameras the model takes at once.', minimum=1, maximum=64
    )
    confidence_threshold: float = _parameter(
        0.0,
        'Pixels less sure than this (probability) get the unlabelled id.',
        minimum=0.0,
        maximum=1.0,
        is_live=True,
    )
    output_size_wh: tuple[int, ...] = _parameter(
        (0, 0), "Width and height of all outputs in pixels; [0, 0] for the image's own.",
        minimum=0, maximum=16384,
    )
    mask_classes: tuple[str, ...] = _parameter(
        ('',), 'Classes that get a mask topic of their own; [\'\'] for none, [\'*\'] for all.'
    )
    overlay_opacity: float = _parameter(
        0.5, 'Opacity of the colours on the overlay.', minimum=0.0, maximum=1.0, is_live=True
    )
    label_info_sync: bool = _parameter(
        False, 'Publish the class table on label_info_sync with the stamp of every frame.'
    )
    max_frame_age_s: float = _parameter(
        0.0,
        'Frames older than this when the model is free are dropped as stale, seconds; 0 for '
        'no limit.',
        minimum=0.0,
        maximum=3600.0,
        is_live=True,
    )
    max_pixels: int = _parameter(
        DEFAULT_MAX_PIXELS,
        'Larger images are refused before anything is allocated, pixels.',
        minimum=1,
        maximum=2**31,
    )
    lazy: bool = _parameter(
        True, 'Receive and segment images only while somebody listens to an output.'
    )
    autostart: bool = _parameter(
        True, 'Configure and activate at start; false leaves that to a lifecycle manager.'
    )
    diagnostics_period_s: float = _parameter(
        1.0, 'Seconds between messages on /diagnostics.', minimum=0.1, maximum=3600.0
    )
    camera: Mapping[str, CameraParameters] = field(default_factory=dict)

    @property
    def output_size_hw(self) -> tuple[int, int] | None:
        """Size of the outputs as rows and columns; None for the image's own."""
        return _as_hw(self.output_size_wh)

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Size of the model's input as rows and columns; None for its card's."""
        return _as_hw(self.input_size_wh)


def _as_hw(size_wh: tuple[int, ...]) -> tuple[int, int] | None:
    return (size_wh[1], size_wh[0]) if all(size_wh) else None


Table = TypeVar('Table', Parameters, CameraParameters)


def rows(table: type[Parameters] | type[CameraParameters]) -> list[tuple[str, Any, Constraints]]:
    """Name, default and constraints of each parameter of a table, in order."""
    return [
        (f.name, f.default, f.metadata['constraints'])
        for f in dataclasses.fields(table)
        if 'constraints' in f.metadata
    ]


def declare(node: Node) -> None:
    """Declares the table on a node, and the group of each camera named in ``cameras``.

    Raises:
        ConfigurationError: an override has another type or a value outside its range.
    """
    for name, default, constraints in rows(Parameters):
        _declare_one(node, name, default, constraints)
    for camera in node.get_parameter('cameras').value:
        declare_camera(node, camera)


def declare_camera(node: Node, camera: str) -> None:
    """Declares the group of one camera; again is harmless."""
    for name, default, constraints in rows(CameraParameters):
        if not node.has_parameter(f'{camera}.{name}'):
            if isinstance(default, str):
                default = default.replace('<camera>', camera)
            _declare_one(node, f'{camera}.{name}', default, constraints)


def load(node: Node) -> Parameters:
    """The node's present parameters.

    Raises:
        ConfigurationError: values that cannot work together.
    """
    cameras = tuple(node.get_parameter('cameras').value)
    if not cameras or not all(cameras) or len(set(cameras)) != len(cameras):
        raise ConfigurationError(
            f'parameter cameras: expected unique, non-empty names, got {list(cameras)}'
        )
    for camera in cameras:
        declare_camera(node, camera)
    groups = {camera: _read(node, CameraParameters, f'{camera}.') for camera in cameras}
    parameters = dataclasses.replace(_read(node, Parameters, ''), camera=groups)
    check(parameters)
    return parameters


def changed(parameters: Parameters, changes: Mapping[str, Any], *, is_loaded: bool) -> Parameters:
    """The parameters after a change, checked before anything is changed.

    Args:
        parameters: the values now.
        changes: new values by full name; names of other tables (QoS overrides) are left alone.
        is_loaded: whether a model is loaded, so that only live parameters may change.

    Raises:
        ConfigurationError: a value is not allowed, or not now.
    """
    tables: dict[str, tuple[Any, str]] = {name: (Parameters, '') for name, _, _ in rows(Parameters)}
    for camera in parameters.camera:
        for name, _, _ in rows(CameraParameters):
            tables[f'{camera}.{name}'] = (CameraParameters, camera)
    for full_name, value in changes.items():
        if full_name not in tables:
            continue
        table, camera = tables[full_name]
        name = full_name.removeprefix(f'{camera}.') if camera else full_name
        constraints = next(c for n, _, c in rows(table) if n == name)
        if is_loaded and not constraints.is_live:
            raise ConfigurationError(
                f'parameter {full_name} takes effect when the node is configured: deactivate and '
                f'clean it up first (ros2 lifecycle set), or set it before the start'
            )
        value = tuple(value) if isinstance(value, (list, tuple)) or hasattr(value, 'tolist') else value
        if camera:
            group = dataclasses.replace(parameters.camera[camera], **{name: value})
            groups = {**parameters.camera, camera: group}
            parameters = dataclasses.replace(parameters, camera=groups)
        else:
            parameters = dataclasses.replace(parameters, **{name: value})
    check(parameters)
    return parameters


def check(parameters: Parameters) -> None:
    """Checks each value against its constraints and what must hold between them.

    Raises:
        ConfigurationError: names the parameter, what was expected and what was found.
    """
    _check_table(parameters, '')
    for camera, group in parameters.camera.items():
        _check_table(group, f'{camera}.')
    for name in ('input_size_wh', 'output_size_wh'):
        size_wh = getattr(parameters, name)
        if len(size_wh) != 2 or (size_wh[0] == 0) != (size_wh[1] == 0):
            raise ConfigurationError(
                f'parameter {name}: expected [width, height], both 0 or both positive, got '
                f'{list(size_wh)}'
            )


def _check_table(table: Parameters | CameraParameters, prefix: str) -> None:
    for name, _, constraints in rows(type(table)):
        value = getattr(table, name)
        if constraints.choices and value not in constraints.choices:
            raise ConfigurationError(
                f'parameter {prefix}{name}: expected one of {", ".join(constraints.choices)}, '
                f'got {value!r}'
            )
        for number in value if isinstance(value, tuple) else (value,):
            low, high = constraints.minimum, constraints.maximum
            if low is not None and high is not None and not low <= number <= high:
                raise ConfigurationError(
                    f'parameter {prefix}{name}: expected {low:g} to {high:g}, got {number}'
                )


def _read(node: Node, table: type[Table], prefix: str) -> Table:
    values = {}
    for name, default, _ in rows(table):
        value = node.get_parameter(prefix + name).value
        values[name] = tuple(value) if isinstance(default, tuple) else value
    return table(**values)


def _declare_one(node: Node, name: str, default: Any, constraints: Constraints) -> None:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    descriptor = ParameterDescriptor(
        description=constraints.description,
        additional_constraints=f'one of {", ".join(constraints.choices)}'
        if constraints.choices
        else '',
    )
    if constraints.minimum is not None and constraints.maximum is not None:
        if isinstance(default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=constraints.minimum, to_value=constraints.maximum)
            ]
        elif isinstance(default, int):
            descriptor.integer_range = [
                IntegerRange(
                    from_value=int(constraints.minimum), to_value=int(constraints.maximum)
                )
            ]
    value = list(default) if isinstance(default, tuple) else default
    try:
        node.declare_parameter(name, value, descriptor)
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise ConfigurationError(f'parameter {name}: {error}') from error


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
        for name, default, constraints in rows(table):
            lines.append(f'{" " * indent}# {_describe(constraints)}')
            text = _yaml_value(default).replace('<camera>', 'camera')
            lines.append(f'{" " * indent}{name}: {text}')
    return '\n'.join(lines) + '\n'


def to_markdown() -> str:
    """The parameter table of the documentation."""
    lines = ['| parameter | default | live | meaning |', '|---|---|---|---|']
    for table, prefix in ((Parameters, ''), (CameraParameters, '<camera>.')):
        for name, default, constraints in rows(table):
            lines.append(
                f'| `{prefix}{name}` | `{_yaml_value(default)}` | '
                f'{"yes" if constraints.is_live else ""} | {_describe(constraints)} |'
            )
    return '\n'.join(lines) + '\n'


def _describe(constraints: Constraints) -> str:
    text = constraints.description
    if constraints.choices:
        text += f' One of: {", ".join(constraints.choices)}.'
    elif constraints.minimum is not None and constraints.maximum is not None:
        text += f' {constraints.minimum:g} to {constraints.maximum:g}.'
    return text


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return '[' + ', '.join(_yaml_value(item) for item in value) + ']'
    if isinstance(value, str):
        return f"'{value}'"
    return str(value)


__all__: Sequence[str] = (
    'CameraParameters',
    'Constraints',
    'Parameters',
    'changed',
    'check',
    'declare',
    'load',
    'rows',
    'to_markdown',
    'to_yaml',
)
