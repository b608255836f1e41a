"""Checks of what a training configuration may say, with errors that name what is possible.

Raises:
    ConfigurationError: everywhere here, naming the option, what was expected and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seg_perception.errors import ConfigurationError


def known_name(what: str, name: object, known: Iterable[str]) -> str:
    """The name, where it is one of those known."""
    names = sorted(known)
    if not isinstance(name, str) or name not in names:
        raise ConfigurationError(f'expected as {what} one of {", ".join(names)}; got {name!r}')
    return name


def only_known(where: str, options: Mapping[Any, object], known: Iterable[str]) -> None:
    """Refuse options that nobody would read."""
    names = sorted(known)
    unknown = sorted(str(name) for name in options if name not in names)
    if unknown:
        raise ConfigurationError(
            f'{where} has no option {", ".join(unknown)}; it has '
            + (', '.join(names) if names else 'none')
        )


def number(
    where: str,
    value: object,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """A finite number within bounds. Truth values and text are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        hint = ' (YAML reads 1e-4 as text: write 1.0e-4)' if isinstance(value, str) else ''
        raise ConfigurationError(f'{where}: expected a number, got {value!r}{hint}')
    if not (at_least <= value <= at_most and above < value < below):
        limits = [
            f'{sign} {limit:g}'
            for sign, limit in (('>=', at_least), ('>', above), ('<=', at_most), ('<', below))
            if math.isfinite(limit)
        ]
        raise ConfigurationError(
            f'{where}: expected a number {" and ".join(limits)}, got {value!r}'
        )
    return float(value)


def numbers(where: str, value: object, count: int, *, at_least: float = -math.inf) -> list[float]:
    """That many numbers."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != count:
        raise ConfigurationError(f'{where}: expected {count} numbers, got {value!r}')
    return [number(f'{where}[{i}]', item, at_least=at_least) for i, item in enumerate(value)]


def count_or_share(where: str, value: object) -> int | float:
    """A whole number of things, or (a float of 0 to 1) a share of them; 1.0 is all, 1 is one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(number(where, value, at_least=0))
    try:
        return number(where, value, at_least=0, at_most=1)
    except ConfigurationError as error:
        raise ConfigurationError(
            f'{where}: expected a whole number, or a share of 0.0 to 1.0; got {value!r}'
        ) from error


def truth_value(where: str, value: object) -> bool:
    """True or false, and nothing that only resembles them."""
    if not isinstance(value, bool):
        raise ConfigurationError(f'{where}: expected true or false, got {value!r}')
    return value
