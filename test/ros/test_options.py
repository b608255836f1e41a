"""Values of start-up parameters: what is taken, what is refused and how."""

from __future__ import annotations

import array

import pytest

from seg_perception.errors import ConfigurationError
from seg_perception.ros.options import Meaning, checked

ANY = Meaning('any')


@pytest.mark.parametrize(
    ('value', 'default', 'expected'),
    [
        (10, 0.0, 10.0),
        (2.5, 0.0, 2.5),
        (3, 1, 3),
        (True, False, True),
        ('text', '', 'text'),
        ([1, 2], (0, 0), (1, 2)),
        (array.array('q', [1, 2]), (0, 0), (1, 2)),
        ([1, 0.5], (0.0, 0.0), (1.0, 0.5)),
        (array.array('d', [1.0, 2.0]), (0.0, 0.0), (1.0, 2.0)),
    ],
)
def test_taken(value, default, expected):
    result = checked('p', value, default, ANY)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ('value', 'default', 'message'),
    [
        ('fast', 0.0, "parameter p: expected a number, got 'fast'"),
        (True, 0.0, 'expected a number, got True'),
        (2.5, 1, 'expected a whole number, got 2.5'),
        (True, 1, 'expected a whole number, got True'),
        (1, False, 'expected true or false, got 1'),
        (5, '', 'expected a text, got 5'),
        ([1.5, 2.0], (0, 0), r'expected 2 whole numbers, got \[1.5, 2.0\]'),
        ([1, 2, 3], (0, 0), r'expected 2 whole numbers, got \[1, 2, 3\]'),
        ([1.0, 2.0, 3.0], (0.0, 0.0), r'expected 2 numbers, got \[1.0, 2.0, 3.0\]'),
        ([1.0, True], (0.0, 0.0), r'expected 2 numbers, got \[1.0, True\]'),
        ('ab', (0, 0), "expected 2 whole numbers, got 'ab'"),
        (None, '', 'expected a text, got None'),
        (
            None,
            ('',),
            r"a list of texts, got nothing, or an empty list \(for no items, give \[''\]\)",
        ),
    ],
)
def test_refused_type(value, default, message):
    with pytest.raises(ConfigurationError, match=message):
        checked('p', value, default, ANY)


@pytest.mark.parametrize(
    ('value', 'default', 'meaning', 'message'),
    [
        (0, 1, Meaning('', minimum=1, maximum=9), 'parameter p: expected 1 to 9, got 0'),
        (9.5, 1.0, Meaning('', minimum=1, maximum=9), 'expected 1 to 9, got 9.5'),
        (-1, 0.0, Meaning('', minimum=0), 'expected 0 or more, got -1'),
        ([5, -5], (0, 0), Meaning('', minimum=0), 'expected 0 or more, got -5'),
        ([1.0, float('nan')], (0.0, 0.0), Meaning('', minimum=0), 'expected 0 or more, got nan'),
        ('c', 'a', Meaning('', choices=('a', 'b')), "expected one of a, b, got 'c'"),
        (float('nan'), 1.0, Meaning('', minimum=0), 'expected 0 or more, got nan'),
    ],
)
def test_refused_value(value, default, meaning, message):
    with pytest.raises(ConfigurationError, match=message):
        checked('p', value, default, meaning)
