"""Turns a library's failure during inference into this package's errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from seg_perception.errors import (
    DeviceLostError,
    DeviceMemoryError,
    InferenceError,
    SegPerceptionError,
)

# What torch (CPU and CUDA), cuDNN, cuBLAS and onnxruntime say when memory is out.
_OUT_OF_MEMORY = re.compile(
    r'out of memory|STATUS_ALLOC_FAILED|can.t allocate memory|bad_alloc'
    r'|Failed to allocate memory|bad allocation'
)
# After any of these every call of this process to the device fails: CUDA calls them sticky.
_LOST = re.compile(
    r'CUDA error|CUDA failure|cudaError|STATUS_EXECUTION_FAILED|STATUS_INTERNAL_ERROR'
    r'|device-side assert|illegal memory access|unspecified launch failure'
)

_TERMINAL = re.compile(r'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])')
"""Escape sequences: colours, cursor movements, hyperlinks."""


@contextmanager
def translated(model: str, doing: str) -> Iterator[None]:
    """Raises InferenceError, or a child of it, for whatever a library raises inside.

    Args:
        model: the model's name.
        doing: completes "it failed …", e.g. ``on a batch of (1, 3, 8, 8)``.
    """
    try:
        with device_failures(model, doing):
            yield
    except SegPerceptionError:
        raise
    except Exception as error:
        raise InferenceError(
            f'{model}: failed {doing}: {type(error).__name__}: {_line(error)}'
        ) from error


@contextmanager
def device_failures(model: str, doing: str) -> Iterator[None]:
    """Raises DeviceMemoryError or DeviceLostError for what a device did; leaves others alone.

    A CUDA device reports what a kernel did at a later call, which may be anyone's.

    Args:
        model: the model's name.
        doing: completes "it failed …".
    """
    try:
        yield
    except SegPerceptionError:
        raise
    except Exception as error:
        if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or _OUT_OF_MEMORY.search(
            str(error)
        ):
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            raise DeviceMemoryError(
                f'{model}: out of device memory {doing}: {_line(error)}; use a '
                f"smaller input size or batch, precision 'fp16', or free the device's memory"
            ) from error
        if isinstance(error, RuntimeError) and _LOST.search(str(error)):
            raise DeviceLostError(
                f'{model}: the device failed {doing}: {_line(error)}; nothing but a new process '
                'can use it again'
            ) from error
        raise


def one_line(error: Exception, max_length: int = 300) -> str:
    """What a library said, on one line for people: without its colours and its indentation."""
    text = ' '.join(_TERMINAL.sub('', str(error)).split())
    return text[:max_length] or type(error).__name__


def _line(error: Exception) -> str:
    lines = [line.strip() for line in _TERMINAL.sub('', str(error)).splitlines() if line.strip()]
    return lines[0][:300] if lines else 'no message'
