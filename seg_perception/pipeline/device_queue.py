"""Work that is queued on a device: how long its stages take, and what comes back from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy.typing as npt
import torch

from seg_perception.pipeline.finishing import Part


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

    def host_stage(self, name: str) -> AbstractContextManager[None]:
        """Times a stage that runs on the host."""
        return _HostStage(self._host_ms, name)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times a stage that runs on the device."""
        return self.host_stage(name) if self._stream is None else self._device_stage(name)

    @contextmanager
    def _device_stage(self, name: str) -> Iterator[None]:
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


class _HostStage:
    """Adds the time from entering to leaving to a stage's; several a frame, so it is light."""

    __slots__ = ('_name', '_start_s', '_total_ms')

    def __init__(self, total_ms: dict[str, float], name: str) -> None:
        self._total_ms, self._name, self._start_s = total_ms, name, 0.0

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed_ms = (time.perf_counter() - self._start_s) * 1e3
        self._total_ms[self._name] = self._total_ms.get(self._name, 0.0) + elapsed_ms


class Download:
    """Brings a part to the host, from CUDA beside what is queued afterwards.

    Attributes:
        indices: which images it is about.
        classes: what their class ids mean.

    Args:
        part: results of work on the current stream.
        stream: where CUDA copies run; the current stream is not held up.
    """

    def __init__(self, part: Part, stream: torch.cuda.Stream | None) -> None:
        self.indices, self.classes = part.indices, part.classes
        self._done: torch.cuda.Event | None = None
        self._tensors = part.tensors
        if stream is None:
            return
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            self._tensors = {
                name: torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(
                    t, non_blocking=True
                )
                for name, t in part.tensors.items()
            }
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record(stream)
        for tensor in part.tensors.values():  # nobody gets their memory before it is copied
            tensor.record_stream(stream)

    def hold_up(self, stream: torch.cuda.Stream) -> None:
        """Lets what is queued on a stream from now on wait until the part is read."""
        if self._done is not None:
            stream.wait_event(self._done)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The part's tensors as arrays; waits for them."""
        if self._done is not None:
            self._done.synchronize()
        return {name: tensor.numpy() for name, tensor in self._tensors.items()}
