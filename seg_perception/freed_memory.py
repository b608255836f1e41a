"""Keeps the memory of one image for the next one.

glibc returns large blocks to the system when they are freed and gets them back page by page: of
the CPU time of receiving an image, that is more than half, and a third of that of a network's
forward pass.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_KEPT_BYTES = 2**30  # at the end of the heap


def keep_freed_memory() -> None:
    """Makes glibc keep what is freed for what is allocated next.

    To be called before there are threads: heaps that they have by then stay theirs, and the next
    thread's, and large blocks are not kept in those.

    What the user has set (``MALLOC_…_``, ``GLIBC_TUNABLES``) stays; other C libraries are left
    alone.
    """
    if any(name.startswith(('MALLOC_', 'GLIBC_TUNABLES')) for name in os.environ):
        return
    mallopt = _glibc('mallopt')
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        # A block that is mapped on its own is returned with it. The threshold for that ends at
        # 32 MiB, and what a layer makes of a large image, or of several, is more.
        mallopt(_M_MMAP_MAX, 0)
        # The arenas that threads get otherwise are returned whole, whatever the threshold.
        mallopt(_M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Returns to the system what is kept, after something large was freed for good."""
    malloc_trim = _glibc('malloc_trim')
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(function: str) -> ctypes._NamedFuncPointer | None:
    library = ctypes.CDLL(None)
    return getattr(library, function, None) if hasattr(library, 'gnu_get_libc_version') else None
