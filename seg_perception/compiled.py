"""Loops over pixels, compiled to machine code.

NumPy, OpenCV and torch make one pass over memory for each step of a calculation; these loops take
all steps of a pixel at once, in registers. They are compiled when they are first called and kept
beside their module (or in the user's cache where that cannot be written to), so that later
processes load them in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from numba import njit

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')

# Not among them: whatever changes the result of an operation on numbers.
_ASSUMED = {'nnan', 'nsz'}


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compiles a function of arrays and numbers; it runs without the interpreter's lock.

    It must not meet NaN, nor depend on the sign of zero. Sums, products and comparisons are those
    of IEEE 754, in the order in which they are written.
    """
    options: dict[str, Any] = {'nogil': True, 'error_model': 'numpy', 'fastmath': _ASSUMED}
    dispatcher: Any
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        dispatcher = njit(**options)(function)
    return dispatcher  # type: ignore[no-any-return]
