"""A node's start-up parameters from a frozen dataclass: names, defaults and meaning in one place.

For the small nodes, whose parameters are read once when they start. This module imports rclpy
only when a node asks for it.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from seg_perception.errors import ConfigurationError

if TYPE_CHECKING:
    from rclpy.node import Node

Options = TypeVar('Options')


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is known of an option besides its type and default.

    Attributes:
        description: for people; says the unit.
        choices: the only values allowed, () for any.
        minimum: smallest number allowed, inclusive.
        maximum: largest number allowed, inclusive.
    """

    description: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def option(
    default: Any,
    description: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A field of an options dataclass: a bool, int, float, str, or a tuple of ints."""
    meaning = Meaning(description, choices, minimum, maximum)
    return field(default=default, metadata={'meaning': meaning})


def declare(node: Node, table: type[Options]) -> Options:
    """Declares every option as a read-only parameter and returns the values given.

    A whole number is accepted where a float is expected: ``rate_hz:=10`` means 10.0. A parameter
    given that no table knows is reported once, as it is most likely misspelt.

    Raises:
        ConfigurationError: a value of the wrong type or out of range; says what was expected.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    values = {}
    for f in dataclasses.fields(table):  # type: ignore[arg-type]
        meaning: Meaning = f.metadata['meaning']
        descriptor = ParameterDescriptor(
            description=meaning.description,
            additional_constraints=_constraints(meaning),
            read_only=True,
            dynamic_typing=True,  # Types are checked below, with a message that helps.
        )
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        value = node.declare_parameter(f.name, default, descriptor).value
        values[f.name] = checked(f.name, value, f.default, meaning)
    report_unknown(node)
    return table(**values)


def checked(name: str, value: Any, default: Any, meaning: Meaning) -> Any:
    """The value as the type of its default.

    Raises:
        ConfigurationError: it has another type, or is not among what is allowed.
    """
    expected = _type_name(default)
    if isinstance(default, tuple):
        items = list(value) if not isinstance(value, (str, bytes)) and _has_items(value) else None
        is_typed = items is not None and all(type(item) is int for item in items)
        value = tuple(items) if is_typed and items is not None else value
        numbers: tuple[Any, ...] = value if is_typed else ()
    elif isinstance(default, float):
        is_typed = type(value) in (int, float)
        value = float(value) if is_typed else value
        numbers = (value,)
    else:
        is_typed = type(value) is type(default)
        numbers = (value,) if type(default) is int else ()
    if not is_typed:
        raise ConfigurationError(f'parameter {name}: expected {expected}, got {value!r}')
    if meaning.choices and value not in meaning.choices:
        raise ConfigurationError(
            f'parameter {name}: expected one of {", ".join(meaning.choices)}, got {value!r}'
        )
    for number in numbers:
        is_low = meaning.minimum is not None and number < meaning.minimum
        is_high = meaning.maximum is not None and number > meaning.maximum
        if is_low or is_high:
            raise ConfigurationError(
                f'parameter {name}: expected {_constraints(meaning)}, got {number:g}'
            )
    return value


def _constraints(meaning: Meaning) -> str:
    if meaning.choices:
        return f'one of {", ".join(meaning.choices)}'
    if meaning.minimum is not None and meaning.maximum is not None:
        return f'{meaning.minimum:g} to {meaning.maximum:g}'
    if meaning.minimum is not None:
        return f'{meaning.minimum:g} or more'
    return ''


def _type_name(default: Any) -> str:
    if isinstance(default, tuple):
        return f'{len(default)} whole numbers'
    names = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a text'}
    return names[type(default)]


def _has_items(value: Any) -> bool:
    return hasattr(value, '__iter__')


def report_unknown(node: Node) -> None:
    """Warns of parameters given that were never declared; rclpy drops them without a word."""
    given = getattr(node, '_parameter_overrides', {})
    for name in sorted(given):
        if not node.has_parameter(name) and not name.startswith('qos_overrides.'):
            close = difflib.get_close_matches(name, list(node._parameters), n=1)
            hint = f'; did you mean {close[0]}?' if close else ''
            node.get_logger().warning(f'unknown parameter {name} ignored{hint}')
