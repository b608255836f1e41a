"""Reading plain YAML values strictly: nothing unknown, repeated, missing or of another type."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from typing import Any, NoReturn

import yaml

from seg_perception.errors import ModelCardError

_REQUIRED: Any = object()


class Fields:
    """A mapping of the card that knows which of its fields nobody asked for.

    Every reader raises ModelCardError where the field is missing (and has no default) or of
    another type.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            fail(where or 'the card', 'a mapping of fields', values)
        self._values: dict[object, Any] = values
        self._where = where
        self._asked: list[str] = []

    def _name(self, key: str) -> str:
        return f'{self._where}.{key}' if self._where else key

    def _get(self, key: str, default: Any) -> Any:
        self._asked.append(key)
        value = self._values.get(key)
        if value is None:
            if default is _REQUIRED:
                fail(self._name(key), 'a value (the field is required)', 'none')
            return default
        return value

    def has(self, key: str) -> bool:
        """Whether the field is there; asking makes it a known one."""
        self._asked.append(key)
        return self._values.get(key) is not None

    def names(self) -> list[str]:
        """What is there, in the order of the file."""
        return [str(key) for key in self._values]

    def finish(self) -> None:
        """Fails where the mapping has fields that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                close = difflib.get_close_matches(str(key), self._asked, 1)
                remedy = f"did you mean '{close[0]}'?" if close else 'remove it'
                known = ', '.join(self._asked)
                fail(self._name(str(key)), f'one of the fields {known}', 'an unknown one', remedy)

    def section(self, key: str, *, optional: bool = False) -> Fields:
        """A mapping inside this one."""
        return Fields(self._get(key, {} if optional else _REQUIRED), self._name(key))

    def mapping(self, key: str) -> dict[str, Any]:
        """A free mapping with text keys, {} where absent."""
        value = self._get(key, {})
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            fail(self._name(key), 'a mapping with text keys', value)
        return value

    def text_mapping(self, key: str) -> dict[str, str]:
        """A mapping of text to text, {} where absent."""
        value = self.mapping(key)
        for name, item in value.items():
            self._check_text(f'{self._name(key)}.{name}', item)
        return value

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A text."""
        return self._check_text(self._name(key), self._get(key, default))

    def texts(self, key: str, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        """A list of texts."""
        values = self.sequence(key, default)
        return tuple(
            self._check_text(f'{self._name(key)}[{i}]', value) for i, value in enumerate(values)
        )

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            fail(self._name(key), 'true or false', value)
        return value

    def integer(self, key: str, default: int | None = _REQUIRED) -> int | None:
        """An integer; booleans are none."""
        value = self._get(key, default)
        if value is not None and type(value) is not int:
            fail(self._name(key), 'an integer', value)
        return value

    def number(self, key: str, default: float = _REQUIRED) -> float:
        """An integer or a float, as a float; booleans are none."""
        value = self._get(key, default)
        if type(value) not in (int, float):
            fail(self._name(key), 'a number', value)
        return self._as_float(self._name(key), value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers."""
        values = self.sequence(key)
        if not all(type(value) is int for value in values):
            fail(self._name(key), 'a list of integers', values)
        return tuple(values)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of integers or floats."""
        values = self.sequence(key)
        if not all(type(value) in (int, float) for value in values):
            fail(self._name(key), 'a list of numbers', values)
        return tuple(self._as_float(self._name(key), value) for value in values)

    def sequence(self, key: str, default: Sequence[Any] = _REQUIRED) -> Sequence[Any]:
        """A list of anything."""
        value = self._get(key, default)
        if not isinstance(value, (list, tuple)):
            fail(self._name(key), 'a list', value)
        return value

    @staticmethod
    def _as_float(where: str, value: int | float) -> float:
        try:
            return float(value)
        except OverflowError:
            digits = value.bit_length() if isinstance(value, int) else 0
            fail(where, 'a number that a float can hold', f'one of {digits} bits')

    @staticmethod
    def _check_text(where: str, value: object) -> str:
        if not isinstance(value, str):
            # `no`, `on` and all-digit hashes are not text in YAML 1.1
            remedy = 'put it in quotes' if isinstance(value, (bool, int, float)) else ''
            fail(where, 'text', value, remedy)
        return value


class UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a repeated key instead of keeping its last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See the base class; raises ConstructorError for a repeated key."""
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            seen = set()
            for key_node, _ in node.value:
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'repeated field {key_node.value!r}', key_node.start_mark
                    )
                seen.add(key_node.value)
        return mapping


class CardLoader(UniqueKeyLoader):
    """Refuses aliases too: a few lines of them stand for more values than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """See the base class; raises ComposerError for an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, 'an alias (*name); write the value out', event.start_mark
            )
        return super().compose_node(parent, index)


def check_choice(where: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ModelCardError where ``value`` is none of ``choices``."""
    if value not in choices:
        close = difflib.get_close_matches(value, choices, 1)
        fail(where, f'one of {", ".join(choices)}', value, f"'{close[0]}'?" if close else '')


def fail(where: str, expected: str, actual: object, remedy: str = '') -> NoReturn:
    """Raises ModelCardError: field, expected, actual, remedy."""
    found = actual if isinstance(actual, str) and actual else reprlib.repr(actual)
    raise ModelCardError(
        f'{where}: expected {expected}, got {found}' + (f'; {remedy}' if remedy else '')
    )


def say_yaml_error(error: Exception) -> str:
    """What PyYAML complains of, in one line."""
    mark = getattr(error, 'problem_mark', None)
    problem = getattr(error, 'problem', None)
    if mark is None or problem is None:
        return ' '.join(str(error).split())
    return f'line {mark.line + 1}, column {mark.column + 1}: {problem}'
