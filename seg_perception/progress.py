"""How far long work has come, for a person who watches."""

from __future__ import annotations

import sys
import time
from typing import Any

_LINE_EVERY_S = 10.0


class ProgressBar:
    """Shows items done, rate and time left on stderr.

    A bar of tqdm where that is installed, else a line now and then. Nothing is shown before the
    first item: much work turns out to be done already.

    Args:
        name: of the work; may be empty.
        total: how many items there are; None where nobody knows.
        done: how many of them were done before; they do not count for the rate.
        unit: what an item is called, ``'B'`` for bytes.
        is_shown: whether to show anything; where None, only if stderr is a terminal.
    """

    def __init__(
        self,
        name: str = '',
        *,
        total: int | None = None,
        done: int = 0,
        unit: str = 'image',
        is_shown: bool | None = None,
    ) -> None:
        self.total = total
        self.done = done
        self._name = name
        self._unit = unit
        self._is_shown = sys.stderr.isatty() if is_shown is None else is_shown
        self._start_done = done
        self._start_s = self._line_s = time.monotonic()
        self._bar: Any = None

    def add(self, num: int = 1) -> None:
        """Counts items that were done since the last call."""
        self.reach(self.done + num)

    def reach(self, done: int, total: int | None = None) -> None:
        """Says how many items are done in all.

        Args:
            done: since the work began, those done before included.
            total: how many there are, where that became known; None leaves it as it was.
        """
        self.done = done
        self.total = self.total if total is None else total
        if not self._is_shown:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            self._print_line()
            return
        if self._bar is None:
            self._bar = tqdm(
                desc=self._name or None,
                total=self.total,
                initial=self._start_done,
                unit=self._unit,
                unit_scale=self._unit == 'B',
                dynamic_ncols=True,
                file=sys.stderr,
            )
            self._bar.start_t = self._bar.last_print_t = time.time() - self._elapsed_s
        self._bar.total = self.total
        self._bar.update(done - self._bar.n)

    def count_before(self, num: int) -> None:
        """Counts items that were done before, in the total too; before the first is done now."""
        self.done += num
        self._start_done += num
        if self.total is not None:
            self.total += num

    def say(self, message: str) -> None:
        """Writes a line on stderr, shown or not, without damage to the bar."""
        if self._bar is None:
            sys.stderr.write(f'{message}\n')
        else:
            self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it is now; harmless when repeated."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start_s

    def _print_line(self) -> None:
        now_s = time.monotonic()
        is_last = self.done == self.total
        if now_s - self._line_s < _LINE_EVERY_S and not is_last:
            return
        self._line_s = now_s
        unit, scale = ('MB', 1e-6) if self._unit == 'B' else (self._unit, 1)
        rate = (self.done - self._start_done) / max(self._elapsed_s, 1e-9)
        of_total = '' if self.total is None else f' of {self.total * scale:.4g}'
        parts = [f'{self.done * scale:.4g}{of_total} {unit}, {rate * scale:.3g} {unit}/s']
        if self.total is not None and rate > 0.0 and not is_last:
            parts.append(f'{(self.total - self.done) / rate:.0f} s left')
        name = f'{self._name}: ' if self._name else ''
        sys.stderr.write(f'{name}{", ".join(parts)}\n')
