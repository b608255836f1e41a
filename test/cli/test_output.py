"""Documents for scripts: what JSON cannot say is said in what it can."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_perception.cli.output import print_json, to_plain


class Gravity(enum.IntEnum):
    ERROR = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    name: str
    size_hw: tuple[int, int]
    speed_ms: float | None = None


@pytest.mark.parametrize(
    ('value', 'plain'),
    [
        (Row('a', (2, 3), float('nan')), {'name': 'a', 'size_hw': [2, 3], 'speed_ms': None}),
        ({Path('a/b'): Path('c'), 3: np.float32('inf')}, {'a/b': 'c', '3': None}),
        ((np.int64(3), np.bool_(True), np.float64(0.5)), [3, True, 0.5]),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), [[1.0, None], [2.0, 3.0]]),
        (torch.tensor([1, 2]), [1, 2]),
        ({3, 1}, [1, 3]),
        (Gravity.ERROR, 'error'),
        (datetime(2026, 1, 2, tzinfo=timezone.utc), '2026-01-02T00:00:00+00:00'),
        ((str(n) for n in range(2)), ['0', '1']),
        (True, True),
    ],
)
def test_values_become_what_json_knows(value, plain):
    made = to_plain(value)
    assert made == plain
    assert type(made) is type(plain)
    assert json.loads(json.dumps(made, allow_nan=False)) == plain


def test_what_it_cannot_say_is_no_text_of_it():
    for value in (object(), b'bytes', Row):
        with pytest.raises(TypeError, match='JSON can say'):
            to_plain({'x': [value]})


@pytest.mark.parametrize('encoding', ['utf-8', 'ascii', 'latin-1'])
def test_names_survive_every_terminal(encoding, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(buffer, encoding))
    print_json({'name': 'Straße → 道'})
    sys.stdout.flush()
    assert json.loads(buffer.getvalue().decode(encoding)) == {'name': 'Straße → 道'}
    assert ('道'.encode() in buffer.getvalue()) == (encoding == 'utf-8')
