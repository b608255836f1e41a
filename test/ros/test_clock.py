"""Jumps of the node's clock."""

from __future__ import annotations

import pytest
from rclpy.clock import Clock, ROSClock
from rclpy.clock_type import ClockType
from rclpy.time import Time

from seg_perception.ros.clock import ClockWatch, is_sim_time, now_ns

S = 1_000_000_000
NOW = 1_700_000_000 * S


def looks(watch, times, *, is_sim):
    """What the watch says to pairs of (node's clock, steady clock), seconds after NOW and 0."""
    return [
        watch.look(NOW + round(now_s * S), round(steady_s * S), is_sim=is_sim)
        for now_s, steady_s in times
    ]


@pytest.mark.parametrize(
    ('step_s', 'jump_s'), [(0.1, None), (0.4, None), (3600.1, 3600.0), (-3599.9, -3600.0)]
)
def test_a_system_clock_that_is_set(step_s, jump_s):
    watch = ClockWatch()
    found = looks(watch, [(0, 0), (0.1, 0.1), (0.1 + step_s, 0.2)], is_sim=False)
    assert found == [None, None, jump_s if jump_s is None else pytest.approx(jump_s)]
    assert watch.snapshot().num_jumps == (jump_s is not None)


def test_waiting_long_between_looks_is_no_jump():
    assert looks(ClockWatch(), [(0, 0), (100, 100)], is_sim=False) == [None, None]


def test_sim_time_runs_at_any_rate_and_jumps_back_when_a_recording_begins_anew():
    watch = ClockWatch()
    fast = [(i * 0.5, i * 0.1) for i in range(100)]
    assert not any(looks(watch, fast, is_sim=True))
    assert looks(watch, [(0.0, 10.0)], is_sim=True) == [pytest.approx(-49.5)]
    assert looks(watch, [(100.0, 10.1)], is_sim=True) == [pytest.approx(100.0)]
    snapshot = watch.snapshot()
    assert (snapshot.num_jumps, snapshot.last_jump_s) == (2, pytest.approx(100.0))


def test_a_long_time_without_looks_is_no_jump_of_sim_time():
    watch = ClockWatch()
    assert looks(watch, [(0.0, 0.0)], is_sim=True) == [None]
    watch.start()
    assert looks(watch, [(30.0, 30.0), (30.1, 30.1)], is_sim=True) == [None, None]
    assert watch.snapshot().num_jumps == 0


def test_sim_time_that_never_started_or_stands_still_is_reported():
    watch = ClockWatch()
    assert watch.look(0, 0, is_sim=True) is None
    assert 'nothing came on /clock' in watch.snapshot().trouble
    assert watch.look(NOW, S, is_sim=True) is None, 'its start is no jump'
    assert watch.snapshot().trouble == ''
    assert watch.look(NOW, 6 * S, is_sim=True) is None
    assert watch.snapshot().trouble == '/clock stands still for 5 s'
    assert watch.look(NOW + S, 7 * S, is_sim=True) is None
    assert watch.snapshot().trouble == ''


def test_a_clock_is_read_as_rclpy_reads_it():
    clock = ROSClock()
    before_ns, read_ns, after_ns = clock.now().nanoseconds, now_ns(clock), clock.now().nanoseconds
    assert before_ns <= read_ns <= after_ns
    assert not is_sim_time(clock)
    clock._set_ros_time_is_active(True)
    assert is_sim_time(clock)
    assert now_ns(clock) == 0  # nothing came on /clock
    clock.set_ros_time_override(Time(seconds=5, clock_type=ClockType.ROS_TIME))
    assert now_ns(clock) == 5 * S
    assert not is_sim_time(Clock(clock_type=ClockType.SYSTEM_TIME))
