"""Turns a library's failure during inference into this package's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from seg_perception.errors import InferenceError, SegPerceptionError


@contextmanager
def translated(model: str, doing: str) -> Iterator[None]:
    """Raises InferenceError for whatever a library raises inside.

    Args:
        model: the model's name.
        doing: completes "it failed …", e.g. ``on a batch of (1, 3, 8, 8)``.
    """
    try:
        yield
    except SegPerceptionError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise InferenceError(
            f'{model}: out of device memory {doing}: {_line(error)}; use a '
            f"smaller input size or batch, precision 'fp16', or free the device's memory"
        ) from error
    except Exception as error:
        raise InferenceError(
            f'{model}: failed {doing}: {type(error).__name__}: {_line(error)}'
        ) from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else 'no message'
