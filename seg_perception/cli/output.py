"""What commands print for programs: one JSON document."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import PurePath
from typing import Any


def print_json(document: Any) -> None:
    """Prints a document on stdout, as the last thing that a command prints there.

    Args:
        document: see `to_plain`.
    """
    # Anything else than UTF-8 could not show every name.
    is_utf8 = (sys.stdout.encoding or '').lower().replace('-', '') == 'utf8'
    text = json.dumps(to_plain(document), indent=2, ensure_ascii=not is_utf8, allow_nan=False)
    print(text)


def to_plain(value: Any) -> Any:
    """What JSON can say of a value.

    Args:
        value: nested mappings, sequences, sets, dataclasses, enumerations (their names in lower
            case), paths, dates, NumPy and torch scalars and arrays, and what JSON knows.

    Returns:
        Nothing but dict, list, str, int, float, bool and None. Numbers that JSON does not know
        (NaN, infinities) are None.

    Raises:
        TypeError: it holds something else.
    """
    if value is None or (isinstance(value, bool | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_to_key(key): to_plain(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, 'tolist'):  # NumPy and torch, neither of which is imported for this
        return to_plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted((to_plain(part) for part in value), key=str)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [to_plain(part) for part in value]
    raise TypeError(f'expected something that JSON can say, got {type(value).__name__}: {value!r}')


def _to_key(key: Any) -> str:
    plain = to_plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain)
