"""Learning rates over the steps of a run, by name, from a YAML mapping.

    schedule: {name: poly, power: 0.9, warmup_steps: 500}

A schedule is a closed form of the step, so that a resumed run goes on exactly where it was. The
learning rate given to the optimizer is the highest one; a schedule multiplies it by a factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from seg_perception.errors import ConfigurationError
from seg_perception.training.options import (
    count_or_share,
    known_name,
    number,
    numbers,
    only_known,
)

# Factor of the learning rate at a progress of 0 to 1.
Curve = Callable[[float], float]


def poly(*, power: object = 0.9, end_factor: object = 0.0) -> Curve:
    """(1 - progress)^power, down to ``end_factor``.

    Source: Liu, Rabinovich and Berg, ParseNet, 2015; Chen et al., DeepLab, TPAMI 2018.
    """
    exponent = number('poly power', power, above=0)
    end = number('poly end_factor', end_factor, at_least=0, at_most=1)
    return lambda progress: end + (1 - end) * (1 - progress) ** exponent


def cosine(*, end_factor: object = 0.0) -> Curve:
    """Half a cosine wave from 1 to ``end_factor``.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts.
    """
    end = number('cosine end_factor', end_factor, at_least=0, at_most=1)
    return lambda progress: _cosine(1.0, end, progress)


def one_cycle(
    *, rise_share: object = 0.3, div_factor: object = 25.0, final_div_factor: object = 1e4
) -> Curve:
    """From 1 / div_factor up to 1 and down to that / final_div_factor, in half cosine waves.

    Source: Smith and Topin, Super-convergence, 2018; the waves as in fast.ai and torch's
    OneCycleLR, whose ``pct_start`` is ``rise_share`` here.
    """
    rise = number('one_cycle rise_share', rise_share, above=0, below=1)
    start = 1 / number('one_cycle div_factor', div_factor, at_least=1)
    end = start / number('one_cycle final_div_factor', final_div_factor, at_least=1)

    def factor(progress: float) -> float:
        if progress <= rise:
            return _cosine(start, 1.0, progress / rise)
        return _cosine(1.0, end, (progress - rise) / (1 - rise))

    return factor


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: Mapping[str, Callable[..., Curve]] = {
    'cosine': cosine,
    'one_cycle': one_cycle,
    'poly': poly,
}
_OPTIONS = {
    'cosine': {'end_factor'},
    'one_cycle': {'rise_share', 'div_factor', 'final_div_factor', 'momentum'},
    'poly': {'power', 'end_factor'},
}
_SHARED_OPTIONS = {'name', 'warmup_steps', 'warmup_factor'}


class Schedule(LRScheduler):
    """A learning rate in closed form. Call ``step()`` after each step of the optimizer.

    Step t has the factor, W being the warm-up's steps and N all steps:
    t < W: curve(0) times (f + (1 - f) t / W), f being ``warmup_factor``;
    else: curve((t - W) / (N - W)); after the last step it stays.

    Args:
        optimizer: its learning rates, per group, are the highest.
        config: plain values that describe the schedule, kept in the state.
        curve: factor after the warm-up.
        num_steps: N, of the optimizer.
        warmup_steps: W.
        warmup_factor: f.
        momentum: lowest and highest momentum (first beta of Adam) moved against the curve,
            or None to leave it alone.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        config: Mapping[str, Any],
        curve: Curve,
        num_steps: int,
        *,
        warmup_steps: int = 0,
        warmup_factor: float = 0.0,
        momentum: tuple[float, float] | None = None,
    ) -> None:
        self.config, self.curve, self.num_steps = dict(config), curve, num_steps
        self.warmup_steps, self.warmup_factor = warmup_steps, warmup_factor
        self.momentum = momentum
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """What the highest learning rate is multiplied by at a step."""
        if step < self.warmup_steps:
            ramp = self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_steps
            return self.curve(0.0) * ramp
        return self.curve(self._progress(step))

    def get_lr(self) -> list[float | Tensor]:
        """The learning rates of this step, one per group."""
        self._set_momentum()
        factor = self.factor(self.last_epoch)
        return [float(rate) * factor for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the step, and what the schedule was made of."""
        return {
            'config': self.config,
            'num_steps': self.num_steps,
            'step': self.last_epoch,
            'base_lrs': [float(rate) for rate in self.base_lrs],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another schedule of the same configuration was.

        The optimizer gets the step's learning rates, whether its own state is loaded before,
        after or never.

        Raises:
            ConfigurationError: the state is of another schedule or number of steps.
        """
        ours = self.state_dict()
        for name in ('config', 'num_steps'):
            if state_dict.get(name) != ours[name]:
                raise ConfigurationError(
                    f'schedule {name}: expected that of the run to resume, '
                    f'{state_dict.get(name)!r}, got {ours[name]!r}'
                )
        self.base_lrs = list(state_dict['base_lrs'])
        self.last_epoch = state_dict['step']
        self._step_count = self.last_epoch + 1
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group['lr'] = rate
        self._last_lr = self.get_lr()

    def _progress(self, step: int) -> float:
        return min((step - self.warmup_steps) / (self.num_steps - self.warmup_steps), 1.0)

    def _set_momentum(self) -> None:
        """Lowest where the learning rate is highest (Smith and Topin, 2018)."""
        if self.momentum is None:
            return
        low, high = self.momentum
        rise = float(self.config.get('rise_share', 0.3))
        progress = self._progress(max(self.last_epoch, self.warmup_steps))
        if progress <= rise:
            value = _cosine(high, low, progress / rise)
        else:
            value = _cosine(low, high, (progress - rise) / (1 - rise))
        for group in self.optimizer.param_groups:
            if 'betas' in group:
                group['betas'] = (value, *group['betas'][1:])
            else:
                group['momentum'] = value


def build_schedule(
    config: Mapping[str, object] | str, optimizer: Optimizer, num_steps: int
) -> Schedule:
    """The schedule a configuration describes, at its first step.

    Args:
        config: ``name`` and options, or a name alone. All have ``warmup_steps`` (a whole number
            of steps, or a share of all as a float below 1.0; default 0) and ``warmup_factor``
            (where the linear ramp starts; default 0.01). ``poly``: power, end_factor.
            ``cosine``: end_factor. ``one_cycle``: rise_share, div_factor, final_div_factor and
            momentum, a list of the lowest and highest.
        optimizer: with its highest learning rates.
        num_steps: steps of the optimizer in the whole run.

    Raises:
        ConfigurationError: an unknown name or option, or a value that cannot work.
    """
    if isinstance(config, str):
        config = {'name': config}
    if not isinstance(config, Mapping):
        raise ConfigurationError(f'schedule: expected a mapping with a name, got {config!r}')
    name = known_name('schedule', config.get('name'), SCHEDULES)
    only_known(f'schedule {name}', config, _OPTIONS[name] | _SHARED_OPTIONS)
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
        raise ConfigurationError(f'schedule: expected one step or more, got {num_steps!r}')
    curve_options = {
        key: config[key] for key in _OPTIONS[name] & config.keys() if key != 'momentum'
    }
    momentum = config.get('momentum')
    return Schedule(
        optimizer,
        config,
        SCHEDULES[name](**curve_options),
        num_steps,
        warmup_steps=_warmup_steps(config.get('warmup_steps', 0), num_steps),
        warmup_factor=number(
            'warmup_factor', config.get('warmup_factor', 0.01), at_least=0, at_most=1
        ),
        momentum=None if momentum is None else _momentum_range(momentum, optimizer),
    )


def _warmup_steps(value: object, num_steps: int) -> int:
    wanted = count_or_share('warmup_steps', value)
    steps = wanted if isinstance(wanted, int) else round(wanted * num_steps)
    if steps >= num_steps:
        raise ConfigurationError(
            f'warmup_steps: expected fewer than the {num_steps} steps of the run, got {value!r}'
        )
    return steps


def _momentum_range(value: object, optimizer: Optimizer) -> tuple[float, float]:
    low, high = numbers('one_cycle momentum', value, 2, at_least=0)
    if not low <= high < 1:
        raise ConfigurationError(
            f'one_cycle momentum: expected lowest <= highest < 1, got {value!r}'
        )
    if not all('betas' in group or 'momentum' in group for group in optimizer.param_groups):
        raise ConfigurationError(
            f'one_cycle momentum: {type(optimizer).__name__} has no momentum; remove the option'
        )
    return low, high
