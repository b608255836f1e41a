"""Shows the running figures: a table that updates itself on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol

from seg_perception.ros.tally import RECENT, Tally, list_shares


class Display(Protocol):
    """Somewhere to show the figures while they change."""

    def update(self, tally: Tally, elapsed_s: float) -> None:
        """Shows the figures as they are now."""

    def close(self) -> None:
        """Leaves what was shown last on the screen."""


class LineDisplay:
    """One line per update: for logs, pipes, and where rich is not installed."""

    def update(self, tally: Tally, elapsed_s: float) -> None:
        """Prints a line."""
        print(tally.line(elapsed_s), flush=True)

    def close(self) -> None:
        """Nothing to do."""


class TableDisplay:
    """A table that redraws itself in place, through rich.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(auto_refresh=False)
        self._live.start()

    def update(self, tally: Tally, elapsed_s: float) -> None:
        """Redraws the table."""
        from rich.table import Table

        def number(value: float | None) -> str:
            return '-' if value is None else f'{value:.1f}'

        table = Table('figure', f'last {RECENT} frames', 'all')
        table.add_row('frames', '', f'{tally.num_labels} in {elapsed_s:.1f} s')
        if tally.account is not None:
            table.add_row('of the node', '', str(tally.account))
        table.add_row('rate, Hz', number(tally.rate_hz(is_recent=True)), number(tally.rate_hz()))
        table.add_row(
            'camera, Hz',
            number(tally.camera_rate_hz(is_recent=True)),
            number(tally.camera_rate_hz()),
        )
        for percentile in (50, 95):
            table.add_row(
                f'latency p{percentile}, ms',
                number(tally.latency_ms(percentile, is_recent=True)),
                number(tally.latency_ms(percentile)),
            )
        table.add_row('classes', '', list_shares(tally.mean_shares()))
        self._live.update(table, refresh=True)

    def close(self) -> None:
        """Stops redrawing."""
        self._live.stop()


def open_display() -> Display:
    """A table on a terminal where rich is installed, lines elsewhere."""
    if sys.stdout.isatty():
        try:
            return TableDisplay()
        except ImportError:
            pass
    return LineDisplay()
