"""Which cases a sweep has, and in which order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from seg_perception.benchmarks.cases import OUTPUTS, Case, rig_of, sweep
from seg_perception.errors import ConfigurationError


def test_every_further_value_is_varied_alone():
    cases = sweep({'size_wh': [(64, 48), (128, 96)], 'outputs': ['labels', '+overlay']})
    assert [(case.size_wh, case.outputs) for case in cases] == [
        ((64, 48), 'labels'),
        ((128, 96), 'labels'),
        ((64, 48), '+overlay'),
    ]


def test_cases_with_the_same_processes_are_neighbours():
    cases = sweep({'num_cameras': [1, 2], 'encoding': ['rgb8', 'jpeg', 'bgr8']})
    rigs = [rig_of(case) for case in cases]
    changes = sum(a != b for a, b in pairwise(rigs))
    assert changes == len(set(rigs)) - 1 == 2


def test_only_the_null_model_has_another_number_of_classes():
    cases = sweep({'model': ['null', 'other'], 'num_classes': [21, 2, 150]})
    assert [(case.model, case.num_classes) for case in cases] == [
        ('null', 21),
        ('null', 2),
        ('null', 150),
        ('other', 21),
    ]


def test_repeated_values_are_measured_once():
    assert len(sweep({'num_threads': [1, 1, 2, 2]})) == 2


def test_title_says_everything():
    assert Case(num_classes=2, num_cameras=4, num_threads=2).title == (
        'null/2 1280x720 rgb8 labels+confidence, 4 cameras, 2 threads'
    )
    assert Case('some.model', 9).title.startswith('some.model 1280x720')


def test_outputs_grow_line_by_line():
    rows = list(OUTPUTS.values())
    assert all(set(a) < set(b) for a, b in pairwise(rows))


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('outputs', 'masks', r"expected outputs among labels, .* got 'masks'"),
        ('encoding', 'rgb9', "expected an encoding among jpeg, .* got 'rgb9'"),
        ('size_wh', (0, 10), 'at least 1, got 0'),
        ('num_threads', 0, 'at least 1, got 0'),
    ],
)
def test_values_that_cannot_be(field, value, message):
    with pytest.raises(ConfigurationError, match=message):
        Case(**{field: value})
