"""Turns a library's failure during inference into this package's errors."""

from __future__ import annotations

import re
from types import TracebackType

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


class device_failures:
    """A context that raises DeviceMemoryError or DeviceLostError for what a device did.

    Leaves other errors alone. A CUDA device reports what a kernel did at a later call, which may
    be anyone's. A class, as several are entered for every frame and a generator costs as much
    again.

    Args:
        model: the model's name.
        doing: completes "it failed …".
    """

    __slots__ = ('_doing', '_model')

    def __init__(self, model: str, doing: str) -> None:
        self._model, self._doing = model, doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, SegPerceptionError):
            self._translate(error)

    def _translate(self, error: Exception) -> None:
        """Raises this package's error in place of a library's; returns where there is none."""
        model, doing = self._model, self._doing
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


class translated(device_failures):
    """As `device_failures`, and InferenceError for whatever else a library raises inside."""

    __slots__ = ()

    def _translate(self, error: Exception) -> None:
        super()._translate(error)
        raise InferenceError(
            f'{self._model}: failed {self._doing}: {type(error).__name__}: {_line(error)}'
        ) from error


def one_line(error: Exception, max_length: int = 300) -> str:
    """What a library said, on one line for people: without its colours and its indentation."""
    text = ' '.join(_TERMINAL.sub('', str(error)).split())
    return text[:max_length] or type(error).__name__


def _line(error: Exception) -> str:
    lines = [line.strip() for line in _TERMINAL.sub('', str(error)).splitlines() if line.strip()]
    return lines[0][:300] if lines else 'no message'
