"""CPU time of other processes, to the nanosecond.

What ``ps`` and psutil read counts ticks of 10 ms: a third of a millisecond per frame where thirty
frames are looked at.

Sources: clock_getcpuclockid(3), Linux' Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def process_cpu_s(pid: int) -> float:
    """Seconds of user and system time so far, all threads, those that ended too.

    Raises:
        ProcessLookupError: there is no such process.
    """
    clock = ctypes.c_int()
    code = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if code:
        raise OSError(code, os.strerror(code), str(pid))
    return time.clock_gettime(clock.value)


def thread_cpu_s(pid: int) -> Iterator[tuple[str, int, float]]:
    """Name, id and the same of each thread there is now; none where the system does not say."""
    for folder in Path(f'/proc/{pid}/task').glob('*'):
        with suppress(OSError):  # it ended just now
            name = (folder / 'comm').read_text(encoding='utf-8', errors='replace').rstrip()
            on_cpu_ns = int((folder / 'schedstat').read_text(encoding='ascii').split()[0])
            yield name, int(folder.name), on_cpu_ns * 1e-9
