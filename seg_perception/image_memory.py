"""Memory of images that are made to be sent: there is room before the pixels for what says so.

A message is what describes an image, then its pixels. An image that lies in such memory becomes a
message without being copied, wherever it has been viewed meanwhile, by torch too.
"""

from __future__ import annotations

import math
import threading
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

HEADROOM = 512
"""Bytes before the pixels; a multiple of what processors want arrays to begin at."""

_memory_at: WeakValueDictionary[int, npt.NDArray[np.uint8]] = WeakValueDictionary()
_lock = threading.Lock()


def empty_image(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As ``np.empty``, with room before the pixels."""
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(HEADROOM + num_bytes, np.uint8)
    with _lock:
        _memory_at[_address(memory) + HEADROOM] = memory
    return memory[HEADROOM:].view(dtype).reshape(shape)


def memory_of(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8] | None:
    """The memory of an image that `empty_image` made, its room first; None of any other array."""
    if not pixels.flags.c_contiguous:
        return None
    with _lock:
        memory = _memory_at.get(_address(pixels))
    return memory if memory is not None and memory.nbytes == HEADROOM + pixels.nbytes else None


def _address(array: npt.NDArray[Any]) -> int:
    """What ``array.ctypes.data`` says, without an object made for it."""
    address: int = array.__array_interface__['data'][0]
    return address
