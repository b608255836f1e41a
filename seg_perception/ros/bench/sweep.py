"""Measures cases: all modes interleaved in one run, each checked before it is timed."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from seg_perception.benchmarks import parity
from seg_perception.benchmarks.bare import BareModel, LoopTimes, copy_cost_ms, run_loop
from seg_perception.benchmarks.cases import BYTES_PER_PIXEL, OUTPUTS, Case, rig_of
from seg_perception.benchmarks.pictures import pictures
from seg_perception.benchmarks.statistics import Distribution
from seg_perception.pipeline import Segmenter
from seg_perception.ros.bench.rig import OURS, PLAIN, LiveFigures, NodeUnderTest, Rig

NULL_RATE_HZ = 10.0
"""Slow enough that both nodes process every image, so that CPU time is per image."""
FASTER = 1.3
"""How much faster than the bare model cameras are where the model is the limit."""
MIN_NEAREST_AGREEMENT = 0.97


def say(text: str) -> None:
    """Progress, for people."""
    sys.stderr.write(f'{text}\n')
    sys.stderr.flush()


@dataclass(slots=True)
class CaseFigures:
    """What was measured of one case.

    Attributes:
        case: the case.
        parity: how well the labels of each mode agree with the reference.
        rate_hz: of each camera.
        copies_ms: CPU time for copying the input once and the outputs once.
        bare: the model's forward alone.
        segmenter: our `Segmenter`, in this process.
        live: our node and the plain node, by kind.
    """

    case: Case
    parity: dict[str, float]
    rate_hz: float
    copies_ms: float
    bare: LoopTimes
    segmenter: LoopTimes
    live: dict[str, LiveFigures] = field(default_factory=dict)

    def to_document(self, num_cores: int) -> dict[str, Any]:
        """For the report."""
        ours = self.live[OURS]
        ratios = {
            'node_cpu_over_copies': ours.cpu_ms_per_frame / self.copies_ms,
            'bare_cpu_over_node_cpu': self.bare.cpu_ms_per_call / ours.cpu_ms_per_frame,
        }
        if not self.case.is_null:  # whose camera is slower than the model
            ratios['throughput_over_bare'] = (
                ours.rate_without_camera_hz(num_cores) * self.bare.seconds / len(self.bare.wall_ms)
            )
        if PLAIN in self.live:
            ratios['node_cpu_over_plain'] = (
                ours.cpu_ms_per_frame / self.live[PLAIN].cpu_ms_per_frame
            )
        return {
            'case': dataclasses.asdict(self.case),
            'title': self.case.title,
            'parity': self.parity,
            'camera_rate_hz': self.rate_hz,
            'copies_ms': self.copies_ms,
            'modes': {
                'bare': _loop_document(self.bare),
                'segmenter': _loop_document(self.segmenter),
                **{kind: figures.to_document() for kind, figures in self.live.items()},
            },
            'ratios': ratios,
        }


def _loop_document(times: LoopTimes) -> dict[str, Any]:
    return {
        'frames': len(times.wall_ms),
        'seconds': round(times.seconds, 3),
        'rate_hz': len(times.wall_ms) / times.seconds,
        'latency_ms': dataclasses.asdict(Distribution.of(times.wall_ms)),
        'cpu_ms_per_frame': times.cpu_ms_per_call,
    }


class Bench:
    """Nodes and models that stay for as long as consecutive cases share them.

    Args:
        rig: what measures.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._stack = ExitStack()
        self._key: tuple[Any, ...] = ()
        self._local: Local
        self._nodes: list[NodeUnderTest] = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def run(
        self, case: Case, *, rounds: int, seconds: float, rate_hz: float | None = None
    ) -> CaseFigures:
        """Checks and measures one case.

        Args:
            case: what to measure.
            rounds: how often each mode has its turn.
            seconds: length of each turn.
            rate_hz: of each camera; None for one that suits the model.

        Raises:
            ParityError: labels are wrong.
            ProcessError: a process failed.
        """
        if rig_of(case) != self._key:
            self._stack.close()
            self._key = rig_of(case)
            self._local = self._stack.enter_context(Local(self.rig, case))
            kinds = (OURS, PLAIN) if case.num_cameras == 1 else (OURS,)
            self._nodes = [self.rig.node(kind, case) for kind in kinds]
            for node in self._nodes:
                self._stack.callback(node.child.stop)
        modes = self._local.modes(case)
        agreement = check_parity(self.rig, self._local, self._nodes, case)
        bare, segmenter = (run_loop(step, seconds / 2) for step in modes)
        if rate_hz is None:
            bare_hz = len(bare.wall_ms) / bare.seconds
            rate_hz = NULL_RATE_HZ if case.is_null else FASTER * bare_hz / case.num_cameras
        figures = CaseFigures(
            case, agreement, rate_hz, copy_cost_ms(_num_bytes(case)), bare, segmenter
        )
        for turn in range(rounds):
            if turn:
                bare.add(run_loop(modes[0], seconds / 2))
                segmenter.add(run_loop(modes[1], seconds / 2))
            for node in self._nodes:
                seen = self.rig.measure(node, case, [rate_hz] * case.num_cameras, seconds)
                if node.kind in figures.live:
                    figures.live[node.kind].add(seen)
                else:
                    figures.live[node.kind] = seen
        return figures


class Local:
    """The bare model and our `Segmenter`, in this process.

    Args:
        rig: knows the model.
        case: model and threads.
    """

    def __init__(self, rig: Rig, case: Case) -> None:
        card = rig.card(case)
        torch.set_num_threads(case.num_threads)
        self.bare = BareModel(card, case.num_threads)
        self.segmenter = Segmenter(
            card, num_threads=case.num_threads, trust_model_code=case.is_null
        )

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.bare.close()
        self.segmenter.close()

    def modes(self, case: Case) -> tuple[Callable[[int], object], Callable[[int], object]]:
        """One step of the bare forward loop, and one of the Segmenter."""
        frames = pictures(case.size_wh, case.encoding, scene=case.scene)
        batches = [self.bare.prepare(frame)[0] for frame in frames]
        with_confidence = 'confidence' in OUTPUTS[case.outputs]

        def forward(index: int) -> object:
            return self.bare.logits(batches[index % len(batches)])

        def segment(index: int) -> object:
            frame = frames[index % len(frames)]
            return self.segmenter.segment([frame], confidence=with_confidence)

        return forward, segment


def check_parity(
    rig: Rig, local: Local, nodes: Sequence[NodeUnderTest], case: Case
) -> dict[str, float]:
    """Asserts that all modes give the labels they promise.

    Returns:
        Share of differing (tied) pixels for exact modes; agreement of cells for the plain node.

    Raises:
        ParityError: one does not.
    """
    [image] = pictures(case.size_wh, case.encoding, scene=case.scene, num=1)
    batch_B3HW, geometry = local.bare.prepare(image)
    logits_CHW = local.bare.logits(batch_B3HW)[0].float().cpu()
    align_corners = local.bare.card.output.align_corners
    scores = logits_CHW.numpy()
    reference = parity.slow_labels(scores, geometry, align_corners=align_corners)
    if len(np.unique(reference[0])) < 2:
        raise parity.ParityError(f'{case.title}: expected several classes in the picture, got one')
    [own] = local.segmenter.segment([image])
    agreement = {
        'segmenter': parity.check_exact('Segmenter', own.labels_YX, *reference, scores),
    }
    for node in nodes:
        labels_YX = rig.labels_of_first_picture(node, case)
        if node.kind == OURS:
            agreement[node.kind] = parity.check_exact('node', labels_YX, *reference, scores)
            continue
        if node.kind == PLAIN:
            at_input = torch.nn.functional.interpolate(
                logits_CHW[None], geometry.input_hw, mode='bilinear', align_corners=align_corners
            )
            small_HW = at_input[0].argmax(0).numpy()
        else:
            small_HW = scores.argmax(0)
        agreement[node.kind] = parity.check_nearest(
            'plain node', labels_YX, small_HW, MIN_NEAREST_AGREEMENT
        )
    return agreement


def run_sweep(
    rig: Rig, cases: Sequence[Case], *, rounds: int, seconds: float, rate_hz: float | None
) -> list[CaseFigures]:
    """Measures all cases; see `Bench.run`."""
    figures = []
    start_s = time.monotonic()
    with Bench(rig) as bench:
        for index, case in enumerate(cases):
            say(f'[{index + 1}/{len(cases)}, {time.monotonic() - start_s:4.0f} s] {case.title}')
            figures.append(bench.run(case, rounds=rounds, seconds=seconds, rate_hz=rate_hz))
    return figures


def _num_bytes(case: Case) -> tuple[int, ...]:
    """Sizes of the input and of each output."""
    [image] = pictures(case.size_wh, case.encoding, scene=case.scene, num=1)
    pixels = case.size_wh[0] * case.size_wh[1]
    outputs = (BYTES_PER_PIXEL[name] * pixels for name in OUTPUTS[case.outputs])
    return (len(bytes(image.data)), *outputs)
