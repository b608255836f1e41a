"""Measures what the acceptance bounds are about, group by group; see ``benchmarks.acceptance``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from statistics import median

from seg_perception.benchmarks.acceptance import (
    BOUNDS,
    Verdict,
    latency_limit_ms,
    share_deviation,
    verdict,
)
from seg_perception.benchmarks.bare import LoopTimes, copy_cost_ms, run_loop, score_cost_ms
from seg_perception.benchmarks.cases import Case
from seg_perception.benchmarks.null_model import INPUT_HW, STRIDE
from seg_perception.benchmarks.statistics import Distribution, fair_rates_hz, growth_exponent
from seg_perception.models import DEFAULT_MODEL
from seg_perception.ros.bench.rig import OURS, PLAIN, PLAIN_GRID, LiveFigures, NodeUnderTest, Rig
from seg_perception.ros.bench.sweep import FASTER, NULL_RATE_HZ, Local, check_parity, say

TURN_S = 3.0
SIZES_WH = ((640, 480), (1280, 720), (1920, 1080))
CHANGING_SIZES_WH = ((320, 240), (424, 240), (640, 360), (320, 180))
CAMERA_RATE_HZ = 30.0
MEMORY_RATE_HZ = 250.0
MEMORY_FRAMES = (1_000, 9_000)
MEMORY_TIMEOUT_S = 480.0
_NULL = Case()


def measure_bounds(rig: Rig, wanted: frozenset[str]) -> Iterator[Verdict]:
    """The verdicts of the bounds wanted, as they are known; groups nobody wants are left out.

    Raises:
        ParityError: labels are wrong.
        ProcessError: a process failed.
    """
    for group, measure in GROUPS.items():
        if any(BOUNDS[name].group == group for name in wanted):
            say(f'measuring {group} …')
            yield from (v for v in measure(rig, wanted) if v.name in wanted)


def measure_null(rig: Rig, wanted: frozenset[str]) -> Iterator[Verdict]:
    """The node's own work: against the plain node, by outputs, by pixels."""
    with ExitStack() as stack:
        local = stack.enter_context(Local(rig, _NULL))
        nodes = [_start(stack, rig, kind) for kind in (OURS, PLAIN, PLAIN_GRID)]
        check_parity(rig, local, nodes, _NULL)
        ours = nodes[0]
        if 'node_cpu_vs_plain' in wanted:
            ours_in_all, turns = LiveFigures(), []
            for _ in range(4):
                seen = [rig.measure(node, _NULL, [NULL_RATE_HZ], TURN_S) for node in nodes]
                ours_in_all.add(seen[0])
                turns.append([figures.cpu_ms_per_frame for figures in seen])
            _itemise(local, ours_in_all, [median(turn) for turn in zip(*turns, strict=True)])
            yield verdict('node_cpu_vs_plain', median(turn[0] / turn[1] for turn in turns))
        if 'masks_and_overlay' in wanted:
            everything = dataclasses.replace(_NULL, outputs='+overlay')
            ratios = [
                1.0 / (_cpu_ms(rig, ours, _NULL) / _cpu_ms(rig, ours, everything))
                for _ in range(3)
            ]
            yield verdict('masks_and_overlay', median(ratios))
        if 'growth_with_pixels' in wanted:
            cases = [dataclasses.replace(_NULL, size_wh=size_wh) for size_wh in SIZES_WH]
            turns = [[_cpu_ms(rig, ours, case) for case in cases] for _ in range(2)]
            costs_ms = [median(costs) for costs in zip(*turns, strict=True)]
            say(f'# CPU ms per frame at {SIZES_WH}: {_listed(costs_ms)}')
            pixels_of = [width * height for width, height in SIZES_WH]
            yield verdict('growth_with_pixels', growth_exponent(pixels_of, costs_ms))


def measure_classes(rig: Rig, wanted: frozenset[str]) -> Iterator[Verdict]:
    """What more classes cost."""
    # Of the other scene, fewer classes see fewer borders, which cost more than the classes.
    same_borders = dataclasses.replace(_NULL, null_scene='checkers')
    cases = [dataclasses.replace(same_borders, num_classes=num) for num in (2, 21, 150)]
    with ExitStack() as stack:
        local = [stack.enter_context(Local(rig, case)) for case in cases]
        nodes = [_start(stack, rig, OURS, case) for case in cases]
        for one, node, case in zip(local, nodes, cases, strict=True):
            check_parity(rig, one, [node], case)
        forward_ms = [
            run_loop(one.modes(case)[0], 1.0).cpu_ms_per_call
            for one, case in zip(local, cases, strict=True)
        ]
        turns = [
            [_cpu_ms(rig, node, case) for node, case in zip(nodes, cases, strict=True)]
            for _ in range(3)
        ]
    costs_ms = [median(costs) for costs in zip(*turns, strict=True)]
    say(
        f'# CPU ms per frame for 2, 21, 150 classes: {_listed(costs_ms)}; of which forward: '
        f'{_listed(forward_ms)}'
    )
    scores_ms = score_cost_ms(150 - 2, (INPUT_HW[0] // STRIDE, INPUT_HW[1] // STRIDE))
    added_ms = (costs_ms[2] - forward_ms[2]) - (costs_ms[0] - forward_ms[0])
    say(f'# softmax and argmax of the logits that came on top: {scores_ms:.2f} ms')
    yield verdict('growth_with_classes', added_ms / scores_ms)


def measure_default(rig: Rig, wanted: frozenset[str]) -> Iterator[Verdict]:
    """The default model over live topics against its bare forward loop."""
    num_cores = len(os.sched_getaffinity(0))
    # One core for camera and sink: torch's threads wait for each other, so that one of them
    # interrupted holds up all.
    case = Case(model=DEFAULT_MODEL, num_threads=max(1, num_cores - 1))
    with ExitStack() as stack:
        local = stack.enter_context(Local(rig, case))
        node = _start(stack, rig, OURS, case)
        check_parity(rig, local, [node], case)
        forward = local.modes(case)[0]
        bare = run_loop(forward, TURN_S)
        bare_hz = len(bare.wall_ms) / bare.seconds
        # First, while the node's percentiles are of these frames only.
        slow = rig.measure(node, case, [bare_hz / 2], 3 * TURN_S)
        added_ms = slow.stages_ms['latency_p50'] - slow.stages_ms['stage_infer_p50']
        forward_ms = Distribution.of(bare.wall_ms).p50
        yield verdict('added_latency_ms', added_ms, latency_limit_ms(forward_ms))
        if 'throughput_vs_bare' in wanted:
            ratios, live = [], LiveFigures()
            for _ in range(4):
                turn = run_loop(forward, TURN_S)
                seen = rig.measure(node, case, [FASTER * bare_hz], 2 * TURN_S)
                ratios.append(_throughput_ratio(seen, turn, num_cores))
                live.add(seen)
                bare.add(turn)
            say(
                f'# rate {live.rate_hz:.2f} Hz, without the camera '
                f'{live.rate_without_camera_hz(num_cores):.2f} Hz, bare '
                f'{len(bare.wall_ms) / bare.seconds:.2f} Hz; CPU ms per frame: node '
                f'{live.cpu_ms_per_frame:.1f}, bare {bare.cpu_ms_per_call:.1f}, camera '
                f'{live.cpu_s["camera"] * 1e3 / live.num_frames:.1f}, sink '
                f'{live.cpu_s["sink"] * 1e3 / live.num_frames:.1f}'
            )
            yield verdict('throughput_vs_bare', median(ratios))


def measure_cameras(rig: Rig, wanted: frozenset[str]) -> Iterator[Verdict]:
    """Several cameras on one model."""
    num_cores = len(os.sched_getaffinity(0))
    one = Case(model=DEFAULT_MODEL, size_wh=(640, 480), num_threads=num_cores)
    four = dataclasses.replace(one, num_cameras=4)
    weights = {'cam0': 1.0, 'cam1': 1.0, 'cam2': 2.0, 'cam3': 2.0}
    # Weights decide who waits; where a batch has room for all cameras, nobody does.
    weighted = {f'{camera}.weight': weight for camera, weight in weights.items()}
    with ExitStack() as stack:
        local = stack.enter_context(Local(rig, one))
        single = _start(stack, rig, OURS, one)
        several = _start(stack, rig, OURS, four)
        check_parity(rig, local, [single, several], one)
        bare = run_loop(local.modes(one)[0], TURN_S)
        bare_hz = len(bare.wall_ms) / bare.seconds
        if 'four_cameras_total' in wanted:
            ratios = [
                rig.measure(several, four, [FASTER * bare_hz / 4] * 4, 2 * TURN_S).rate_hz
                / rig.measure(single, one, [FASTER * bare_hz], 2 * TURN_S).rate_hz
                for _ in range(3)
            ]
            yield verdict('four_cameras_total', median(ratios))
        if 'slow_cameras_served' in wanted:
            rates_hz = dict(zip(weights, (100.0, 5.0, 5.0, 5.0), strict=True))
            seen = rig.measure(several, four, list(rates_hz.values()), 3 * TURN_S)
            due_hz = fair_rates_hz(rates_hz, dict.fromkeys(rates_hz, 1.0), seen.rate_hz)
            got_hz = {c: num / seen.seconds for c, num in seen.frames_by_camera.items()}
            say(f'# Hz got of {_listed(rates_hz.values())}: {_listed(got_hz.values())}')
            yield verdict(
                'slow_cameras_served',
                min(got_hz[camera] / due_hz[camera] for camera in list(rates_hz)[1:]),
            )
        if 'four_cameras_shares' in wanted:
            shared = _start(stack, rig, OURS, four, {'max_batch_size': 1, **weighted})
            # Faster than the model, so that everybody always waits; else nothing is to be shared.
            seen = rig.measure(shared, four, [CAMERA_RATE_HZ] * 4, 5 * TURN_S)
            say(f'# frames by camera: {seen.frames_by_camera}')
            yield verdict('four_cameras_shares', share_deviation(seen.frames_by_camera, weights))


def measure_memory(rig: Rig, wanted: frozenset[str]) -> Iterator[Verdict]:
    """Resident memory over many frames whose size keeps changing."""
    with ExitStack() as stack:
        node = _start(stack, rig, OURS)
        after = [
            rig.measure(
                node,
                _NULL,
                [MEMORY_RATE_HZ],
                MEMORY_TIMEOUT_S,
                sizes_wh=CHANGING_SIZES_WH,
                num_frames=num_frames,
            )
            for num_frames in MEMORY_FRAMES
        ]
    rss_mib = [figures.rss_bytes[-1] / 2**20 for figures in after]
    say(f'# RSS MiB after 1,000 and 10,000 frames: {_listed(rss_mib)}')
    yield verdict('memory_growth_mib', rss_mib[1] - rss_mib[0])


GROUPS: dict[str, Callable[[Rig, frozenset[str]], Iterator[Verdict]]] = {
    'null': measure_null,
    'classes': measure_classes,
    'default': measure_default,
    'cameras': measure_cameras,
    'memory': measure_memory,
}


def _start(
    stack: ExitStack,
    rig: Rig,
    kind: str,
    case: Case = _NULL,
    parameters: dict[str, object] | None = None,
) -> NodeUnderTest:
    node = rig.node(kind, case, parameters)
    stack.callback(node.child.stop)
    return node


def _cpu_ms(rig: Rig, node: NodeUnderTest, case: Case) -> float:
    return rig.measure(node, case, [NULL_RATE_HZ], TURN_S).cpu_ms_per_frame


def _itemise(local: Local, ours: LiveFigures, costs_ms: Sequence[float]) -> None:
    """Says what the null model's CPU time per frame is made of."""
    pixels = _NULL.size_wh[0] * _NULL.size_wh[1]
    copies_ms = copy_cost_ms((3 * pixels, pixels, pixels))
    forward_ms, segmenter_ms = (run_loop(step, 1.0).cpu_ms_per_call for step in local.modes(_NULL))
    threads = ours.thread_cpu_ms_per_frame.items()
    say(
        f'# CPU ms per frame: node {costs_ms[0]:.2f} ('
        + ', '.join(f'{kind} {value:.2f}' for kind, value in threads)
        + f'), of which Segmenter {segmenter_ms:.2f}, of which forward {forward_ms:.2f}; plain '
        f'node {costs_ms[1]:.2f}, with argmax on the grid {costs_ms[2]:.2f}; copying input and '
        f'outputs once {copies_ms:.2f}: the node costs {costs_ms[0] / copies_ms:.1f} copies'
    )


def _throughput_ratio(seen: LiveFigures, bare: LoopTimes, num_cores: int) -> float:
    return seen.rate_without_camera_hz(num_cores) * bare.seconds / len(bare.wall_ms)


def _listed(values: object) -> str:
    return ', '.join(f'{value:.2f}' for value in values)  # type: ignore[attr-defined]
