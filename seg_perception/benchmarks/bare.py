"""The model by itself: the limit that a node can approach, and the grid its labels come from.

Legend: B batch, C classes, H/W model grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import InferenceError
from seg_perception.imaging import decode
from seg_perception.imaging.preprocess import Preprocessor
from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.models import ModelCard
from seg_perception.structures import CompressedFrame, Frame


class BareModel:
    """A model without the pipeline around it.

    Args:
        card: the model's.
        num_threads: CPU threads of the model.

    Raises:
        ModelError: it cannot be loaded.
        InferenceError: it gives no logits, so there is nothing to be exact about.
    """

    def __init__(self, card: ModelCard, num_threads: int) -> None:
        if card.output.kind != 'logits':
            raise InferenceError(
                f'{card.name}: expected a model that gives logits, got {card.output.kind}; the '
                'benchmark compares labels with upsampled logits'
            )
        self.card = card
        self._backend = load_backend(
            card,
            None,
            RunOptions(num_threads=num_threads, trust_model_code=card.name.startswith('null.')),
        )
        spec = card.input
        self.preprocessor = Preprocessor(
            spec.size_hw,
            spec.resize,
            spec.mean_rgb,
            spec.std_rgb,
            'rgb',
            spec.multiple,
            self._backend.device,
            self._backend.dtype,
            self._backend.channels_last,
            interpolation=spec.interpolation,
        )

    def prepare(self, image: Frame | CompressedFrame) -> tuple[torch.Tensor, ResizeGeometry]:
        """The network's input (1, 3, H, W) for an image, and how the image lies in it."""
        frame = image if isinstance(image, Frame) else decode(image)
        [(batch_B3HW, _, [geometry])] = self.preprocessor([frame])
        return batch_B3HW.clone(), geometry

    def logits(self, batch_B3HW: torch.Tensor) -> torch.Tensor:
        """Runs the network; (B, C, H, W)."""
        logits_BCHW = self._backend.infer(batch_B3HW).logits_BCHW
        assert logits_BCHW is not None  # the card says logits
        if logits_BCHW.device.type == 'cuda':
            torch.cuda.synchronize(logits_BCHW.device)
        return logits_BCHW

    def close(self) -> None:
        """Frees its memory."""
        self._backend.close()


@dataclass(slots=True)
class LoopTimes:
    """What the calls of a loop took.

    Attributes:
        wall_ms: each call.
        cpu_s: CPU time of the whole process meanwhile, all threads.
        seconds: wall time of the loop.
    """

    wall_ms: list[float]
    cpu_s: float
    seconds: float

    def add(self, other: LoopTimes) -> None:
        """Appends another round."""
        self.wall_ms += other.wall_ms
        self.cpu_s += other.cpu_s
        self.seconds += other.seconds

    @property
    def cpu_ms_per_call(self) -> float:
        """CPU milliseconds per call."""
        return self.cpu_s * 1e3 / len(self.wall_ms)


def run_loop(step: Callable[[int], object], seconds: float) -> LoopTimes:
    """Calls ``step`` with 0, 1, 2 … for a time, after one call that is not counted."""
    step(0)
    wall_ms: list[float] = []
    start_cpu_s, start_s = time.process_time(), time.perf_counter()
    now_s = start_s
    while now_s - start_s < seconds:
        step(len(wall_ms) + 1)
        wall_ms.append((time.perf_counter() - now_s) * 1e3)
        now_s = time.perf_counter()
    return LoopTimes(wall_ms, time.process_time() - start_cpu_s, now_s - start_s)


def copy_cost_ms(num_bytes: tuple[int, ...]) -> float:
    """CPU milliseconds for copying blocks of these sizes once each: the least a node can do.

    Several blocks take turns, as the images of a stream do.
    """
    pairs = [
        [(np.full(n, 1, np.uint8), np.full(n, 2, np.uint8)) for n in num_bytes] for _ in range(4)
    ]

    def copy(turn: int) -> None:
        for source, target in pairs[turn % len(pairs)]:
            np.copyto(target, source)

    return _least_ms(copy)


def score_cost_ms(num_classes: int, grid_hw: tuple[int, int]) -> float:
    """CPU milliseconds for the softmax and the argmax of so many logits: their own traffic."""
    logits = torch.randn(4, num_classes, *grid_hw)
    with torch.inference_mode():
        return _least_ms(lambda turn: logits[turn % 4].softmax(0).max(0))


def _least_ms(step: Callable[[int], object]) -> float:
    """CPU time of the quickest of several calls: what the machine can do when it is quiet."""
    rounds_ms = []
    for turn in range(24):
        start_s = time.thread_time()
        step(turn)
        rounds_ms.append((time.thread_time() - start_s) * 1e3)
    return min(rounds_ms)
