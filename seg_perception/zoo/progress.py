"""A download that people can watch."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class DownloadBar:
    """Shows progress on stderr: tqdm's bar where it is installed, a line now and then elsewhere.

    Nothing is shown before the first byte: most downloads turn out to be in the cache.

    Args:
        name: of what is downloaded.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None
        self._next_percent = 0

    def update(self, num_received: int, num_expected: int | None) -> None:
        """See `models.weights.Progress`."""
        try:
            from tqdm import tqdm
        except ImportError:
            self._print(num_received, num_expected)
            return
        if self._bar is None:
            self._bar = tqdm(
                total=num_expected,
                desc=self._name,
                unit='B',
                unit_scale=True,
                dynamic_ncols=True,
                file=sys.stderr,
            )
        self._bar.update(num_received - self._bar.n)

    def __enter__(self) -> DownloadBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def _print(self, num_received: int, num_expected: int | None) -> None:
        percent = 100 * num_received // num_expected if num_expected else 0
        if percent >= self._next_percent:
            self._next_percent = percent + 10
            sys.stderr.write(f'{self._name}: {percent} % ({num_received / 1e6:.1f} MB)\n')
