"""The policy that keeps a latency budget, against a simulated machine."""

from __future__ import annotations

import random

import pytest

from seg_perception.ros.load import SCALED, UNSCALED, LoadControl, LoadStep

BUDGET_MS = 100.0


class Machine:
    """Publishes frames whose latency grows with the input's area, and with the load beside it."""

    def __init__(self, *, can_scale=True):
        self.load = LoadControl()
        self.load.start(can_scale=can_scale)
        self.now_s = 1000.0
        self.changes = []
        self.random = random.Random(7)

    def run(self, seconds, full_ms, budget_ms=BUDGET_MS):
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            latency_ms = full_ms * self.load.step.input_scale**2 * self.random.uniform(0.9, 1.1)
            self.now_s += max(latency_ms * 1e-3, 0.033 * self.load.step.one_in)
            change = self.load.observe(latency_ms, budget_ms, self.now_s)
            if change is not None:
                self.changes.append((self.now_s, *change))
        return self.load.step


def test_nothing_is_given_up_without_need():
    machine = Machine()
    assert machine.run(60, 60.0) == LoadStep()
    assert machine.run(60, 500.0, budget_ms=0.0) == LoadStep()
    assert machine.changes == []


@pytest.mark.parametrize(
    ('full_ms', 'step'), [(150.0, SCALED[1]), (300.0, SCALED[2]), (3000.0, SCALED[4])]
)
def test_as_much_is_given_up_as_the_budget_needs(full_ms, step):
    machine = Machine()
    assert machine.run(30, full_ms) == step
    [*_, (_, _, reason)] = machine.changes
    assert 'exceed the budget of 100 ms' in reason


def test_everything_comes_back_when_the_load_is_gone():
    machine = Machine()
    machine.run(30, 3000.0)
    assert machine.run(60, 50.0) == LoadStep()


def test_a_budget_that_is_taken_away_brings_everything_back_at_once():
    machine = Machine()
    machine.run(30, 3000.0)
    assert machine.run(4, 3000.0, budget_ms=0.0) == LoadStep()


def test_a_load_at_the_edge_does_not_make_it_swing():
    """Full size just misses the budget; the steps up that are tried become rare."""
    machine = Machine()
    machine.run(600, 108.0)
    assert len(machine.changes) < 2 * 600 / 30
    at_full = sum(
        b - a
        for (a, step, _), (b, _, _) in zip(machine.changes, machine.changes[1:], strict=False)
        if step == LoadStep()
    )
    assert at_full < 0.2 * 600


def test_a_network_of_one_size_sees_fewer_frames():
    machine = Machine(can_scale=False)
    assert machine.run(30, 300.0) == UNSCALED[-1]
    shed = [machine.load.is_shed('front') for _ in range(400)]
    assert sum(shed) == 300
    assert not Machine().load.is_shed('front')


def test_cameras_are_thinned_out_each_for_itself():
    machine = Machine(can_scale=False)
    machine.run(30, 300.0)
    kept = [name for _ in range(40) for name in ('a', 'b') if not machine.load.is_shed(name)]
    assert kept.count('a') == kept.count('b') == 10


class ReadAllTheTime(LoadControl):
    """As where another thread reads the step after each change of an attribute."""

    is_made = False

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if self.is_made:
            assert self.step in {*SCALED, *UNSCALED}


def test_the_step_may_be_read_while_another_model_begins():
    load = ReadAllTheTime()
    load.is_made = True
    load.start(can_scale=True)
    for i in range(20):
        load.observe(3000.0, BUDGET_MS, 1000.0 * i)
    assert load.step == SCALED[-1]
    load.start(can_scale=False)
    assert load.step == UNSCALED[0]


def test_steps_are_named():
    assert str(LoadStep()) == 'everything'
    assert str(LoadStep(0.5, 2)) == 'network input at 50% of its size, one frame in 2'
