"""Keeps a latency budget by doing less: a smaller network input first, then fewer frames.

The policy, for the time from a frame's arrival until it is published:

- *down*: once the median of the last frames (5 to 10, all of this step) is above the budget.
- *up*: once a step has lasted for the hold time and 9 of 10 of its last frames would have stayed
  below 80 % of the budget at the size of the step above (cost grows with the input's area).
- *hold time*: 5 s; doubled, up to a minute, whenever a step up had to be taken back at once; 5 s
  again when one lasted.

Labels keep their size: the network's output is upsampled to it at every step.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

_MIN_FRAMES = 5
_MAX_FRAMES = 10
_MARGIN = 0.8
_HOLD_S = 5.0
_MAX_HOLD_S = 60.0


@dataclass(frozen=True, slots=True)
class LoadStep:
    """How much is done.

    Attributes:
        input_scale: of the sides of the network's input.
        one_in: of so many frames of a camera one is segmented.
    """

    input_scale: float = 1.0
    one_in: int = 1

    def __str__(self) -> str:
        parts = []
        if self.input_scale < 1.0:
            parts.append(f'network input at {self.input_scale:.0%} of its size')
        if self.one_in > 1:
            parts.append(f'one frame in {self.one_in}')
        return ', '.join(parts) or 'everything'


SCALED: tuple[LoadStep, ...] = (
    LoadStep(),
    LoadStep(0.75),
    LoadStep(0.5),
    LoadStep(0.5, 2),
    LoadStep(0.5, 4),
)
"""For networks that take inputs of any size."""
UNSCALED: tuple[LoadStep, ...] = (LoadStep(), LoadStep(one_in=2), LoadStep(one_in=4))
"""For the others."""


class LoadControl:
    """Decides how much is done; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps = SCALED
        self._index = 0
        self._step = LoadStep()  # that of the index; one attribute, read without the lock
        self._latencies_ms: deque[float] = deque(maxlen=_MAX_FRAMES)
        self._since_s = -_MAX_HOLD_S
        self._hold_s = _HOLD_S
        self._was_up = False
        self._num_frames: Counter[str] = Counter()

    @property
    def step(self) -> LoadStep:
        """What is done now."""
        return self._step

    def start(self, *, can_scale: bool) -> None:
        """Begins with everything.

        Args:
            can_scale: whether the network takes inputs of any size.
        """
        with self._lock:
            self._steps = SCALED if can_scale else UNSCALED
            self._go_to(0, time.monotonic())
            self._hold_s, self._was_up = _HOLD_S, False

    def is_shed(self, camera: str) -> bool:
        """Whether the frame that just arrived is not to be segmented."""
        one_in = self.step.one_in
        if one_in == 1:
            return False
        self._num_frames[camera] += 1
        return self._num_frames[camera] % one_in != 0

    def observe(
        self, latency_ms: float, budget_ms: float, now_s: float | None = None
    ) -> tuple[LoadStep, str] | None:
        """Takes the latency of a frame that was published.

        Args:
            latency_ms: from its arrival.
            budget_ms: what it should have been at most; 0 for no limit.
            now_s: on the monotonic clock; None for now.

        Returns:
            The new step and the reason, where it changed.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            if budget_ms <= 0.0:
                if self._index == 0:
                    return None
                self._go_to(0, now_s)
                return self.step, 'there is no latency budget any more'
            self._latencies_ms.append(latency_ms)
            if len(self._latencies_ms) < _MIN_FRAMES:
                return None
            lasted_s = now_s - self._since_s
            median_ms = float(np.median(self._latencies_ms))
            if median_ms > budget_ms:
                if self._index == len(self._steps) - 1:
                    return None
                if self._was_up and lasted_s < 2.0 * self._hold_s:
                    self._hold_s = min(2.0 * self._hold_s, _MAX_HOLD_S)
                self._was_up = False
                self._go_to(self._index + 1, now_s)
                return self.step, f'{median_ms:.0f} ms exceed the budget of {budget_ms:.0f} ms'
            if self._was_up and lasted_s >= 2.0 * self._hold_s:
                self._hold_s, self._was_up = _HOLD_S, False
            if self._index == 0 or lasted_s < self._hold_s:
                return None
            above_ms = float(np.percentile(self._latencies_ms, 90)) * self._cost_of_step_above()
            if above_ms > _MARGIN * budget_ms:
                return None
            self._was_up = True
            self._go_to(self._index - 1, now_s)
            return self.step, f'{above_ms:.0f} ms are expected of a budget of {budget_ms:.0f} ms'

    def _go_to(self, index: int, now_s: float) -> None:
        self._index, self._since_s = index, now_s
        self._step = self._steps[index]
        self._latencies_ms.clear()

    def _cost_of_step_above(self) -> float:
        above, here = self._steps[self._index - 1], self._steps[self._index]
        return (above.input_scale / here.input_scale) ** 2
