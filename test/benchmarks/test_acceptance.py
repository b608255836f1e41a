"""Verdicts on hand-made numbers."""

from __future__ import annotations

import math

import pytest

from seg_perception.benchmarks.acceptance import (
    BOUNDS,
    Verdict,
    latency_limit_ms,
    select,
    share_deviation,
    verdict,
)
from seg_perception.errors import ConfigurationError


@pytest.mark.parametrize(
    ('name', 'value', 'line'),
    [
        ('node_cpu_vs_plain', 0.25, 'node_cpu_vs_plain 0.250 <=0.250 PASS'),
        ('node_cpu_vs_plain', 0.2501, 'node_cpu_vs_plain 0.250 <=0.250 FAIL'),
        ('throughput_vs_bare', 0.96, 'throughput_vs_bare 0.960 >=0.950 PASS'),
        ('throughput_vs_bare', 0.94, 'throughput_vs_bare 0.940 >=0.950 FAIL'),
        ('memory_growth_mib', -1.0, 'memory_growth_mib -1.000 <=5.000 PASS'),
        ('throughput_vs_bare', math.nan, 'throughput_vs_bare nan >=0.950 FAIL'),
    ],
)
def test_lines(name, value, line):
    assert verdict(name, value).line() == line


def test_latency_may_add_a_tenth_of_the_forward_or_three_milliseconds():
    assert latency_limit_ms(10.0) == 3.0
    assert latency_limit_ms(100.0) == pytest.approx(10.0)
    assert verdict('added_latency_ms', 3.5, latency_limit_ms(40.0)).is_passed
    assert not verdict('added_latency_ms', 3.5, latency_limit_ms(20.0)).is_passed


def test_a_bound_of_the_table_is_not_overruled():
    assert verdict('node_cpu_vs_plain', 0.3, 0.5) == Verdict('node_cpu_vs_plain', 0.3, 0.25)


def test_share_deviation_by_hand():
    weights = {'a': 1.0, 'b': 3.0}
    assert share_deviation({'a': 25, 'b': 75}, weights) == 0.0
    assert share_deviation({'a': 30, 'b': 70}, weights) == pytest.approx(0.2)
    assert share_deviation({'a': 100}, {'a': 2.0}) == 0.0
    assert share_deviation({'a': 0, 'b': 0}, weights) == math.inf


def test_selection_by_name():
    assert select('all') == frozenset(BOUNDS)
    assert select('memory_growth_mib,node_cpu_vs_plain,') == {
        'memory_growth_mib',
        'node_cpu_vs_plain',
    }
    with pytest.raises(ConfigurationError, match=r'node_cpu_vs_plain.*, got speed$'):
        select('speed,memory_growth_mib')
    with pytest.raises(ConfigurationError, match=r'got none$'):
        select(',')


def test_every_bound_says_what_it_is_about():
    assert all(bound.meaning and bound.sign in ('<=', '>=') for bound in BOUNDS.values())
    assert [name for name, bound in BOUNDS.items() if bound.limit is None] == ['added_latency_ms']
