"""Learning rates against torch's schedulers and the closed forms of the papers."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch.optim import lr_scheduler

from seg_perception.errors import ConfigurationError
from seg_perception.training.schedules import build_schedule

STEPS = 50
CONFIGS = {
    'poly': {'name': 'poly'},
    'poly warm': {'name': 'poly', 'power': 2, 'end_factor': 0.1, 'warmup_steps': 7},
    'cosine': {'name': 'cosine', 'end_factor': 0.01},
    'cosine warm': {'name': 'cosine', 'warmup_steps': 0.1, 'warmup_factor': 0.0},
    'one_cycle': {'name': 'one_cycle', 'momentum': [0.85, 0.95]},
    'one_cycle warm': {'name': 'one_cycle', 'warmup_steps': 5, 'rise_share': 0.5},
}


def sgd(rates=(0.1, 0.01)):
    groups = [{'params': [torch.nn.Parameter(torch.zeros(1))], 'lr': rate} for rate in rates]
    return torch.optim.SGD(groups, momentum=0.9)


def run(schedule, optimizer, steps, values=lambda group: (group['lr'], group['momentum'])):
    """What the optimizer had in each step."""
    seen = []
    for _ in range(steps):
        seen.append([values(group) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


def rates_of(config, num_steps=STEPS, steps=None):
    optimizer = sgd()
    schedule = build_schedule(config, optimizer, num_steps)
    seen = run(schedule, optimizer, steps or num_steps + 1, lambda group: group['lr'])
    return [first for first, _ in seen], [second for _, second in seen]


def closed_form(config, t):
    """Factor of the first learning rate after t steps, written from the papers."""
    warm = config.get('warmup_steps', 0)
    warm = round(warm * STEPS) if isinstance(warm, float) else warm
    start = config.get('warmup_factor', 0.01)
    ramp = start + (1 - start) * t / warm if t < warm else 1.0
    x = max(t - warm, 0) / (STEPS - warm)
    end = config.get('end_factor', 0.0)
    if config['name'] == 'poly':
        return ramp * ((1 - end) * (1 - x) ** config.get('power', 0.9) + end)
    if config['name'] == 'cosine':
        return ramp * (end + 0.5 * (1 - end) * (1 + math.cos(math.pi * x)))
    rise, low = config.get('rise_share', 0.3), 1 / 25
    if x < rise:
        return ramp * (low + (1 - low) * 0.5 * (1 - math.cos(math.pi * x / rise)))
    last = low / 1e4
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * (x - rise) / (1 - rise)))


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_every_step_has_the_closed_form_in_every_group(config):
    first, second = rates_of(config)
    expected = [closed_form(config, t) for t in range(STEPS + 1)]
    assert first == pytest.approx([0.1 * factor for factor in expected], rel=1e-12, abs=1e-17)
    assert second == pytest.approx([0.01 * factor for factor in expected], rel=1e-12, abs=1e-17)


def torch_rates(make):
    optimizer = sgd()
    return run(make(optimizer), optimizer, STEPS)


def test_poly_and_cosine_are_torchs():
    poly, cosine = rates_of({'name': 'poly'})[0], rates_of({'name': 'cosine'})[0]
    theirs = torch_rates(lambda o: lr_scheduler.PolynomialLR(o, STEPS, 0.9))
    assert poly[:STEPS] == pytest.approx([groups[0][0] for groups in theirs], rel=1e-9)
    theirs = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS))
    assert cosine[:STEPS] == pytest.approx([groups[0][0] for groups in theirs], rel=1e-9)


def test_warm_up_is_torchs_linear_one():
    theirs = torch_rates(lambda o: lr_scheduler.LinearLR(o, 0.01, 1.0, 10))
    ours = rates_of({'name': 'poly', 'warmup_steps': 10})[0]
    assert ours[:11] == pytest.approx([groups[0][0] for groups in theirs[:11]], rel=1e-9)


@pytest.mark.parametrize('adam', [False, True])
def test_one_cycle_is_torchs_with_its_momentum(adam):
    def optimizer():
        if not adam:
            return sgd()
        return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1, betas=(0.9, 0.99))

    def values(group):
        return group['lr'], (group['betas'] if adam else group['momentum'])

    # torch's cycle ends with the last step, ours after it, where poly and cosine reach 0 too.
    ours, theirs = optimizer(), optimizer()
    schedule = build_schedule({'name': 'one_cycle', 'momentum': [0.85, 0.95]}, ours, STEPS)
    rates = [group['lr'] for group in theirs.param_groups]
    theirs_schedule = lr_scheduler.OneCycleLR(theirs, rates, total_steps=STEPS + 1)
    # torch starts its rise a step early: it counts pct_start * total_steps - 1.
    theirs_schedule._schedule_phases[0]['end_step'] = 0.3 * STEPS
    seen, expected = (
        run(schedule, ours, STEPS, values),
        run(theirs_schedule, theirs, STEPS, values),
    )
    for mine, other in zip(seen, expected, strict=True):
        for (rate, momentum), (their_rate, their_momentum) in zip(mine, other, strict=True):
            assert rate == pytest.approx(their_rate, rel=1e-9)
            assert momentum == pytest.approx(their_momentum, rel=1e-9)


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize('stop', [0, 3, 20])
@pytest.mark.parametrize('optimizer_first', [True, False])
def test_a_resumed_run_continues_to_the_bit(config, stop, optimizer_first):
    optimizer = sgd()
    schedule = build_schedule(config, optimizer, STEPS)
    run(schedule, optimizer, stop)
    stored = io.BytesIO()
    torch.save([schedule.state_dict(), optimizer.state_dict()], stored)
    expected = run(schedule, optimizer, STEPS - stop)

    again = sgd()
    resumed = build_schedule(config, again, STEPS)
    stored.seek(0)
    schedule_state, optimizer_state = torch.load(stored, weights_only=True)
    if optimizer_first:
        again.load_state_dict(optimizer_state)
    resumed.load_state_dict(schedule_state)
    if not optimizer_first:
        again.load_state_dict(optimizer_state)
    assert resumed.get_last_lr() == [group['lr'] for group in again.param_groups]
    assert run(resumed, again, STEPS - stop) == expected


def test_a_resumed_schedule_sets_the_rates_of_an_optimizer_that_was_not_resumed():
    optimizer = sgd()
    schedule = build_schedule(CONFIGS['one_cycle'], optimizer, STEPS)
    run(schedule, optimizer, 20)
    again = sgd()
    build_schedule(CONFIGS['one_cycle'], again, STEPS).load_state_dict(schedule.state_dict())
    for name in ('lr', 'momentum'):
        expected = [group[name] for group in optimizer.param_groups]
        assert [group[name] for group in again.param_groups] == expected


def test_the_state_of_another_schedule_is_refused():
    state = build_schedule({'name': 'poly'}, sgd(), STEPS).state_dict()
    with pytest.raises(ConfigurationError, match='num_steps'):
        build_schedule({'name': 'poly'}, sgd(), STEPS + 1).load_state_dict(state)
    with pytest.raises(ConfigurationError, match='config'):
        build_schedule({'name': 'poly', 'power': 1.0}, sgd(), STEPS).load_state_dict(state)


def test_beyond_the_last_step_the_rate_stays():
    rates = rates_of({'name': 'cosine', 'end_factor': 0.5}, steps=STEPS + 4)[0]
    assert rates[STEPS:] == pytest.approx([0.05] * 4)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'name': 'step'}, 'cosine, one_cycle, poly'),
        ({}, 'cosine, one_cycle, poly'),
        ('linear', 'cosine, one_cycle, poly'),
        (['poly'], 'mapping'),
        ({'name': 'poly', 'pwer': 1}, 'end_factor, name, power, warmup_factor, warmup_steps'),
        ({'name': 'cosine', 'power': 1}, 'no option power'),
        ({'name': 'poly', 'power': 0}, '> 0'),
        ({'name': 'cosine', 'end_factor': 2}, '<= 1'),
        ({'name': 'one_cycle', 'rise_share': 1.0}, '< 1'),
        ({'name': 'one_cycle', 'div_factor': 0.5}, '>= 1'),
        ({'name': 'one_cycle', 'momentum': [0.9, 0.8]}, 'lowest <= highest'),
        ({'name': 'one_cycle', 'momentum': 0.9}, '2 numbers'),
        ({'name': 'poly', 'warmup_steps': 50}, 'fewer than the 50'),
        ({'name': 'poly', 'warmup_steps': 1.0}, 'fewer than the 50'),
        ({'name': 'poly', 'warmup_steps': -1}, '>= 0'),
        ({'name': 'poly', 'warmup_steps': 1.5}, 'share'),
        ({'name': 'poly', 'warmup_factor': '1e-3'}, 'number'),
    ],
)
def test_what_cannot_work_is_refused(config, message):
    with pytest.raises(ConfigurationError, match=message):
        build_schedule(config, sgd(), STEPS)


@pytest.mark.parametrize('num_steps', [0, -1, 1.5, True])
def test_a_run_has_steps(num_steps):
    with pytest.raises(ConfigurationError, match='one step or more'):
        build_schedule('poly', sgd(), num_steps)


def test_momentum_needs_an_optimizer_with_one():
    optimizer = torch.optim.Adagrad([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ConfigurationError, match='Adagrad has no momentum'):
        build_schedule({'name': 'one_cycle', 'momentum': [0.8, 0.9]}, optimizer, STEPS)


def test_one_step_is_a_run():
    assert rates_of('poly', num_steps=1)[0] == pytest.approx([0.1, 0.0])
