"""Arrivals and stamps of one camera."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.ros.timing import FrameTiming, StampFault

S = 1_000_000_000
NOW = 1_700_000_000 * S


@pytest.mark.parametrize(
    ('stamp_ns', 'now_ns', 'faults'),
    [
        (NOW, NOW, ()),
        (NOW + S // 20, NOW, ()),
        (NOW + S, NOW, (StampFault.AHEAD,)),
        (NOW + S, 0, ()),
        (0, NOW, (StampFault.ZERO,)),
        (NOW - 10 * S, NOW, (StampFault.REPEATED,)),
        (NOW - 20 * S, NOW, (StampFault.BACKWARDS,)),
    ],
)
def test_each_odd_stamp_is_found(stamp_ns, now_ns, faults):
    timing = FrameTiming()
    assert timing.add(NOW - 10 * S, NOW) == ()
    assert timing.add(stamp_ns, now_ns) == faults
    found = timing.snapshot().faults
    assert {fault for fault, count in found.items() if count} == {f.value for f in faults}


@given(st.lists(st.integers(0, 5), max_size=50))
def test_counts_are_those_of_a_plain_loop(stamps):
    timing = FrameTiming()
    last, expected = None, dict.fromkeys(StampFault, 0)
    for stamp in stamps:
        timing.add(stamp, NOW)
        if stamp == 0:
            expected[StampFault.ZERO] += 1
            continue
        if last is not None:
            expected[StampFault.REPEATED] += stamp == last
            expected[StampFault.BACKWARDS] += stamp < last
        last = stamp
    assert timing.snapshot().faults == {fault.value: n for fault, n in expected.items()}


def test_rate_jitter_and_age(monkeypatch):
    now_s = 1000.0
    clock = SimpleNamespace(monotonic=lambda: now_s)
    monkeypatch.setattr('seg_perception.ros.timing.time', clock)
    timing = FrameTiming()
    for i in range(11):
        late_ns = S // 50 if i % 2 else 0
        now_s = 1000.0 + i / 20
        timing.add(NOW + i * S // 10 + late_ns, NOW + i * S // 10 + S // 4)
    found = timing.snapshot()
    assert found.rate_hz == pytest.approx(20.0)
    assert found.jitter_ms == pytest.approx((0.0, 0.0), abs=1e-6)
    assert found.stamp_rate_hz == pytest.approx(10.0)
    assert found.stamp_jitter_ms == pytest.approx((20.0, 20.0), abs=0.1)
    assert found.age_ms[0] == pytest.approx(250.0, abs=20.1)
    timing.restart()
    assert timing.add(1, NOW) == (), 'what came before does not count any more'
    assert math.isnan(timing.snapshot().age_ms[0])
