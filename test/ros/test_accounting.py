"""Counts that always add up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.ros.accounting import CameraAccount, DropReason


@given(st.lists(st.sampled_from(['publish', *DropReason]), max_size=60), st.integers(0, 5))
def test_received_is_published_and_dropped_and_pending(events, num_pending):
    account = CameraAccount()
    for _ in range(len(events) + num_pending):
        account.receive()
    for event in events:
        if event == 'publish':
            account.publish(1, 1.0, {'infer': 0.5})
        else:
            account.drop(event)
    now = account.snapshot()
    assert now.received == now.published + sum(now.dropped.values()) + now.pending
    assert now.pending == num_pending
    assert now.busy_s >= 0.0
    assert num_pending or now.busy_s == 0.0
    assert now.published == events.count('publish')
    assert set(now.dropped) == {reason.value for reason in DropReason}


def test_percentiles_and_rate():
    account = CameraAccount()
    empty = account.snapshot()
    assert empty.age_s is None
    assert empty.rate_hz == 0.0
    assert all(math.isnan(value) for value in empty.latency_ms)
    for latency_ms in range(101):
        account.receive()
        account.publish(1, float(latency_ms), {'infer': 2.0 * latency_ms})
    now = account.snapshot()
    assert now.latency_ms == pytest.approx((50.0, 95.0, 99.0))
    assert now.stages_ms['infer'] == pytest.approx((100.0, 190.0, 198.0))
    assert now.rate_hz > 0.0
    assert now.age_s >= 0.0


def test_waiting_counts_from_the_last_frame_that_was_done(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr('time.monotonic', lambda: now_s)
    account = CameraAccount()
    account.receive()
    now_s = 103.0
    account.receive()
    account.drop(DropReason.SUPERSEDED)
    assert account.snapshot().busy_s == 3.0, 'frames that replace each other are not done'
    account.receive()
    account.publish(1, 1.0, {})
    now_s = 104.0
    assert account.snapshot().busy_s == 1.0
    account.drop(DropReason.MODEL_ERROR)
    assert account.snapshot().busy_s == 0.0
