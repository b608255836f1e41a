"""All that a GPU does for one kind of batch as one CUDA graph, launched at once.

Launching every kernel by itself costs the host more than a small model takes on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from seg_perception.pipeline.device_queue import Download
from seg_perception.pipeline.finishing import Part
from seg_perception.pipeline.recency import Recent
from seg_perception.structures import U8

_NUM_SLOTS = 2
"""One is filled while the device works on the other."""
_MAX_KINDS = 8
"""Kinds of batches that have graphs at a time; each holds its own images on the device."""
_NUM_WHEN_FULL = 16
"""Batches of a kind before it drives out another: a capture costs as much as some replays save."""
_NUM_COPIERS = 4
_PIECE_BYTES = 2**18
"""Smaller pieces cost more to hand to a thread than to copy."""


class StageGraphs:
    """Captures what is done with a kind of batch when it is seen for the second time.

    The kinds used latest are kept, see `Recent`.

    Args:
        device: a CUDA device.
        tables: whatever the stages made for later use; what a graph reads there stays alive with
            it, even where they do not keep it.
    """

    def __init__(self, device: torch.device, tables: Callable[[], object]) -> None:
        self._device = device
        self._tables = tables
        self._uploads = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._slots: Recent[list[_Slot]] = Recent(_MAX_KINDS, _NUM_WHEN_FULL, _finish)
        self._copiers = ThreadPoolExecutor(_NUM_COPIERS - 1, 'upload')

    def run(
        self,
        kind: Hashable,
        images: Sequence[U8],
        stages: Callable[[Sequence[torch.Tensor]], list[Part]],
        download: Callable[[list[Part]], list[Download]],
    ) -> list[Download] | None:
        """Uploads images and replays the stages on them.

        Args:
            kind: equal for batches on which the stages do the same.
            images: bytes of each; free on return.
            stages: static control flow from the images' bytes on the device to tensors there.
            download: begins to bring the parts to the host.

        Returns:
            None where there is no graph of that kind (yet); run the stages by themselves then.
        """

        def capture() -> list[_Slot]:
            sizes = [image.size for image in images]
            slots = [_Slot(sizes, stages, self._device, self._pool) for _ in range(_NUM_SLOTS)]
            for slot in slots:
                slot.tables = self._tables()
            return slots

        slots = self._slots.find(kind, capture)
        if slots is None:
            return None
        slots.append(slot := slots.pop(0))
        slot.uploaded.synchronize()
        self._copy_all(images, slot.staged)
        stream = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._uploads):
            self._uploads.wait_event(slot.replayed)
            for source, staged in zip(slot.sources, slot.staged, strict=True):
                source.copy_(staged, non_blocking=True)
            slot.uploaded.record(self._uploads)
        stream.wait_event(slot.uploaded)
        for earlier in slot.downloads:
            earlier.hold_up(stream)  # the graph writes over what they bring
        slot.graph.replay()
        slot.replayed.record(stream)
        slot.downloads = download(slot.parts)
        return slot.downloads

    def _copy_all(self, sources: Sequence[U8], targets: Sequence[torch.Tensor]) -> None:
        """Copies bytes; large images by several threads: one alone does not fill the bus."""
        pieces: list[tuple[U8, U8]] = []
        for source, target in zip(sources, targets, strict=True):
            step = max(_PIECE_BYTES, -(-source.size // _NUM_COPIERS))
            pieces += [
                (target.numpy()[start : start + step], source[start : start + step])
                for start in range(0, source.size, step)
            ]
        others = [self._copiers.submit(np.copyto, *piece) for piece in pieces[1:]]
        np.copyto(*pieces[0])
        for other in others:
            other.result()

    def forget(self) -> None:
        """Frees the graphs' memory; kinds seen again are captured anew."""
        self._slots.clear()
        # torch refuses to capture into a pool whose graphs are all gone
        self._pool = torch.cuda.graph_pool_handle()

    def close(self) -> None:
        """Frees the graphs' memory and ends its threads; calling it again does nothing."""
        self.forget()
        self._copiers.shutdown()


def _finish(slots: list[_Slot]) -> None:
    """Waits for all that a kind's graphs are doing: others get their memory."""
    for slot in slots:
        slot.replayed.synchronize()
        for download in slot.downloads:
            download.arrays()


class _Slot:
    """Memory of one batch and the graph that works on it."""

    def __init__(
        self,
        sizes: Sequence[int],
        stages: Callable[[Sequence[torch.Tensor]], list[Part]],
        device: torch.device,
        pool: Any,
    ) -> None:
        self.staged = [torch.empty(n, dtype=torch.uint8, pin_memory=True) for n in sizes]
        self.sources = [torch.zeros(n, dtype=torch.uint8, device=device) for n in sizes]
        self.uploaded, self.replayed = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.downloads: list[Download] = []
        self.tables: object = None
        self.graph = torch.cuda.CUDAGraph()
        stages(self.sources)  # fills tables and compiles kernels outside of the capture
        torch.cuda.synchronize(device)
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode='thread_local'):
            self.parts = stages(self.sources)
