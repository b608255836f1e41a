"""Keeps the stack that signal handlers run on as it was, where a library exchanges it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2), as Linux has it."""

    _fields_ = [('sp', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Gives this thread back the alternate signal stack that it had before.

    OpenVINO's CPU plugin sets one of 11 kB where the processor has AMX. Python's signal handlers
    run on such a stack, and what the processor then saves leaves too little of it: the process
    ends with a segmentation fault at the next Ctrl-C or end of a child process.
    """
    sigaltstack = getattr(ctypes.CDLL(None), 'sigaltstack', None)
    if sigaltstack is None:
        yield
        return
    before = _Stack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)
