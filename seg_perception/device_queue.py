"""Work that is queued on a device: how long its stages take, and what comes back from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class StageClock:
    """Time by stage: on the host's clock, on a CUDA device by events on the current stream.

    Events wait for nothing: a stage's time is known once the device is done with it.

    Args:
        device: where the stages run.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device) if device.type == 'cuda' else None
        self._host_ms: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def host_stage(self, name: str) -> Iterator[None]:
        """Times a stage that runs on the host."""
        start_s = time.perf_counter()
        yield
        elapsed_ms = (time.perf_counter() - start_s) * 1e3
        self._host_ms[name] = self._host_ms.get(name, 0.0) + elapsed_ms

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage that runs on the device."""
        if self._stream is None:
            with self.host_stage(name):
                yield
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record(self._stream)
        yield
        end.record(self._stream)
        self._events.append((name, start, end))

    def timings_ms(self) -> Mapping[str, float]:
        """Milliseconds by stage; on a device only when it is done with all of them."""
        total_ms = dict(self._host_ms)
        for name, start, end in self._events:
            total_ms[name] = total_ms.get(name, 0.0) + start.elapsed_time(end)
        return total_ms


class Download:
    """Brings tensors of one device to the host, from CUDA beside what is queued afterwards.

    Args:
        tensors: results of work on the current stream.
        stream: where CUDA copies run; the current stream is not held up.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], stream: torch.cuda.Stream | None) -> None:
        self._done: torch.cuda.Event | None = None
        if stream is None:
            self._tensors = list(tensors)
            return
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            self._tensors = [
                torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True)
                for t in tensors
            ]
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record(stream)
        for tensor in tensors:  # their memory is not given to others before it is copied
            tensor.record_stream(stream)

    def arrays(self) -> list[npt.NDArray[Any]]:
        """The tensors as arrays, in order; waits for them."""
        if self._done is not None:
            self._done.synchronize()
        return [np.asarray(tensor.numpy()) for tensor in self._tensors]
