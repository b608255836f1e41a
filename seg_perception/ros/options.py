"""A node's parameters from a frozen dataclass: names, defaults and meaning in one place.

``declare`` serves small nodes, whose parameters are read once when they start; ``params`` builds
the segmentation node's table on the rest. This module imports rclpy only when a node asks for it.
"""

from __future__ import annotations

import dataclasses
import difflib
from array import array
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
        is_live: a change takes effect at once.
        is_swapped: a change is prepared beside what runs and takes its place between two frames.
    """

    description: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_live: bool = False
    is_swapped: bool = False


def option(
    default: Any,
    description: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    is_live: bool = False,
    is_swapped: bool = False,
) -> Any:
    """A field of an options dataclass.

    Its type is that of its default: a bool, int, float, str, a tuple of as many ints or floats, or
    a tuple of any number of texts.
    """
    meaning = Meaning(description, choices, minimum, maximum, is_live, is_swapped)
    return field(default=default, metadata={'meaning': meaning})


def rows(table: type[Any]) -> list[tuple[str, Any, Meaning]]:
    """Name, default and meaning of each option of a table, in order."""
    return [
        (f.name, f.default, f.metadata['meaning'])
        for f in dataclasses.fields(table)
        if 'meaning' in f.metadata
    ]


def declare(node: Node, table: type[Options]) -> Options:
    """Declares every option as a read-only parameter and returns the values given.

    A whole number is accepted where a float is expected: ``rate_hz:=10`` means 10.0. A parameter
    given that no table knows is reported once, as it is most likely misspelt.

    Raises:
        ConfigurationError: a value of the wrong type or out of range; says what was expected.
    """
    values = {
        name: checked(name, declare_one(node, name, default, meaning), default, meaning)
        for name, default, meaning in rows(table)
    }
    report_unknown(node)
    return table(**values)


def declare_one(
    node: Node, name: str, default: Any, meaning: Meaning, *, is_read_only: bool = True
) -> Any:
    """Declares one parameter and returns the value given for it, unchecked."""
    from rcl_interfaces.msg import ParameterDescriptor

    descriptor = ParameterDescriptor(
        description=meaning.description,
        additional_constraints=constraints(meaning),
        read_only=is_read_only,
        dynamic_typing=True,  # Types are checked by `checked`, with a message that helps.
    )
    default = list(default) if isinstance(default, tuple) else default
    return node.declare_parameter(name, default, descriptor).value


def checked(name: str, value: Any, default: Any, meaning: Meaning) -> Any:
    """The value as the type of its default.

    Raises:
        ConfigurationError: it has another type, or is not among what is allowed.
    """
    expected = _type_name(default)
    numbers: tuple[Any, ...] = ()
    if isinstance(default, tuple):
        item_type = type(default[0])
        items = tuple(value) if isinstance(value, (list, tuple, array)) else ()
        allowed_types = (int, float) if item_type is float else (item_type,)
        is_typed = bool(items) and all(type(item) in allowed_types for item in items)
        if item_type is not str:
            is_typed = is_typed and len(items) == len(default)
            items = tuple(item_type(item) for item in items) if is_typed else ()
            numbers = items
        value = items if is_typed else value
    elif isinstance(default, float):
        is_typed = type(value) in (int, float)
        value = float(value) if is_typed else value
        numbers = (value,)
    else:
        is_typed = type(value) is type(default)
        numbers = (value,) if type(default) is int else ()
    if not is_typed:
        # ROS 2 gives an empty list no type, and rclpy then no value.
        is_empty = value is None and isinstance(default, tuple) and type(default[0]) is str
        got = "nothing, or an empty list (for no items, give [''])" if is_empty else repr(value)
        raise ConfigurationError(f'parameter {name}: expected {expected}, got {got}')
    if meaning.choices and value not in meaning.choices:
        raise ConfigurationError(
            f'parameter {name}: expected one of {", ".join(meaning.choices)}, got {value!r}'
        )
    for number in numbers:
        # Not a number is neither below nor above, and must not pass.
        is_low = meaning.minimum is not None and not number >= meaning.minimum
        is_high = meaning.maximum is not None and not number <= meaning.maximum
        if is_low or is_high:
            raise ConfigurationError(
                f'parameter {name}: expected {constraints(meaning)}, got {number:g}'
            )
    return value


def constraints(meaning: Meaning) -> str:
    """What is allowed, for people; empty for anything."""
    if meaning.choices:
        return f'one of {", ".join(meaning.choices)}'
    if meaning.minimum is not None and meaning.maximum is not None:
        return f'{_digits(meaning.minimum)} to {_digits(meaning.maximum)}'
    if meaning.minimum is not None:
        return f'{_digits(meaning.minimum)} or more'
    return ''


def _digits(number: float) -> str:
    return str(number) if isinstance(number, int) else f'{number:g}'


def _type_name(default: Any) -> str:
    if isinstance(default, tuple):
        names = {int: f'{len(default)} whole numbers', float: f'{len(default)} numbers'}
        return names.get(type(default[0]), 'a list of texts')
    names = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a text'}
    return names[type(default)]


def report_unknown(node: Node) -> None:
    """Warns of parameters given that were never declared; rclpy drops them without a word."""
    given = getattr(node, '_parameter_overrides', {})
    for name in sorted(given):
        if not node.has_parameter(name) and not name.startswith('qos_overrides.'):
            close = difflib.get_close_matches(name, list(node._parameters), n=1)
            hint = f'; did you mean {close[0]}?' if close else ''
            node.get_logger().warning(f'unknown parameter {name} ignored{hint}')
