"""What supervisors send (systemd, Docker, batch queues, ``timeout``) ends work as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends what runs here by an exception, so that it stops its processes and cleans up.

    Raises:
        KeyboardInterrupt: the signal came. Outside of the main thread, where Python hears no
            signals, nothing is changed.
    """

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
