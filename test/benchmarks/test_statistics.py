"""Percentiles, jitter, growth and fair shares on hand-made numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.benchmarks.statistics import (
    Distribution,
    fair_rates_hz,
    growth_exponent,
    jitter_ms,
)


def test_percentiles_of_hundred_and_one_values():
    assert Distribution.of(range(101)) == Distribution(101, 50.0, 95.0, 99.0)


def test_percentiles_of_one_value_and_of_none():
    assert Distribution.of([7.0]) == Distribution(1, 7.0, 7.0, 7.0)
    none = Distribution.of([])
    assert none.num == 0
    assert math.isnan(none.p50)


def test_jitter_of_a_steady_and_of_a_late_stream():
    steady = [i * 100_000_000 for i in range(20)]
    assert jitter_ms(steady) == 0.0
    # One of two intervals is 20 ms longer than the median of both.
    assert jitter_ms([0, 100_000_000, 240_000_000]) == pytest.approx(20.0)
    assert math.isnan(jitter_ms([0, 1]))


def test_growth_of_a_line_of_a_square_and_of_a_constant():
    sizes = (1.0, 3.0, 7.0)
    assert growth_exponent(sizes, [5.0 * s for s in sizes]) == pytest.approx(1.0)
    assert growth_exponent(sizes, [0.1 * s**2 for s in sizes]) == pytest.approx(2.0)
    assert growth_exponent(sizes, [4.0, 4.0, 4.0]) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ('capacity_hz', 'due_hz'),
    [
        (12.0, {'fast': 3.0, 'a': 3.0, 'b': 3.0, 'c': 3.0}),  # all wait: equal shares
        (60.0, {'fast': 45.0, 'a': 5.0, 'b': 5.0, 'c': 5.0}),  # the slow ones get all they offer
        (200.0, {'fast': 100.0, 'a': 5.0, 'b': 5.0, 'c': 5.0}),  # there is enough
    ],
)
def test_fair_rates_of_one_fast_and_three_slow_cameras(capacity_hz, due_hz):
    offered_hz = {'fast': 100.0, 'a': 5.0, 'b': 5.0, 'c': 5.0}
    weights = dict.fromkeys(offered_hz, 1.0)
    assert fair_rates_hz(offered_hz, weights, capacity_hz) == pytest.approx(due_hz)


def test_fair_rates_follow_weights():
    assert fair_rates_hz({'a': 50.0, 'b': 50.0}, {'a': 1.0, 'b': 2.0}, 30.0) == pytest.approx(
        {'a': 10.0, 'b': 20.0}
    )


@given(
    st.dictionaries(
        st.text('abcdef', min_size=1, max_size=2),
        st.tuples(st.floats(0.1, 200.0), st.floats(0.1, 10.0)),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.1, 300.0),
)
def test_fair_rates_use_the_capacity_and_give_nobody_more_than_it_offers(cameras, capacity_hz):
    offered_hz = {name: pair[0] for name, pair in cameras.items()}
    weights = {name: pair[1] for name, pair in cameras.items()}
    due_hz = fair_rates_hz(offered_hz, weights, capacity_hz)
    assert sum(due_hz.values()) == pytest.approx(min(capacity_hz, sum(offered_hz.values())))
    assert all(due_hz[name] <= offered_hz[name] * (1 + 1e-9) for name in cameras)
    # Who gets less than it offers gets no less per weight than anybody else.
    per_weight = {name: due_hz[name] / weights[name] for name in cameras}
    waiting = [name for name in cameras if due_hz[name] < offered_hz[name] * (1 - 1e-9)]
    assert all(per_weight[name] >= max(per_weight.values()) * (1 - 1e-6) for name in waiting)
