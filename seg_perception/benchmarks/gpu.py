"""What the Segmenter costs beside the model on a GPU: bare forward loop, stream, latency, stages.

The bare loop runs the engine's forward on an input that lies on the device, calls back to back and
one wait at the end: nothing can be quicker. The stream takes images in host memory and gives
labels and confidence at the image's size in host memory. Both take turns within one run.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import DeviceError
from seg_perception.models import ModelCard, resolve
from seg_perception.models.card import WeightsSource
from seg_perception.models.nets import build
from seg_perception.pipeline import Segmenter
from seg_perception.sources.photographs import load_photograph
from seg_perception.structures import U8, Frame

RANDOM = 'random:'
"""Before a catalog name: its architecture with random weights, where the real ones are not at
hand; time does not depend on them."""

STAGES = ('preprocess', 'infer', 'postprocess', 'replay', 'download')
"""Of which a graph replays the first three in one."""

NUM_IMAGES = 8
"""Different images that take turns."""


@dataclass(frozen=True, slots=True)
class GpuCase:
    """What is measured.

    Attributes:
        model: catalog name, after `RANDOM` with random weights.
        engine: a name of ``backends.ENGINES``.
        precision: of the model.
        size_hw: of the images and of the network's input, where `is_native` is not set.
        batch: images at once.
        is_native: the network's input is what its card says.
    """

    model: str
    engine: str
    precision: str
    size_hw: tuple[int, int]
    batch: int
    is_native: bool = False


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """What a case gave.

    Attributes:
        case: what was measured.
        start_s: loading and warming up.
        forward_ms: one forward of the batch in the bare loop.
        bare_fps: images per second of the bare loop.
        stream_fps: images per second of ``Segmenter.stream``.
        latency_ms: median wall time of one ``Segmenter.segment`` call by itself.
        stages_ms: median time of its stages.
        host_cpu_ms: CPU time of the process per image of the stream.
    """

    case: GpuCase
    start_s: float
    forward_ms: float
    bare_fps: float
    stream_fps: float
    latency_ms: float
    stages_ms: dict[str, float]
    host_cpu_ms: float

    @property
    def ratio(self) -> float:
        """Throughput of the stream over that of the bare loop."""
        return self.stream_fps / self.bare_fps


def measure(case: GpuCase, *, seconds: float, rounds: int = 3) -> GpuFigures:
    """Measures one case, with a photograph resized to its size.

    Args:
        case: what.
        seconds: length of each turn.
        rounds: turns of the bare loop and of the stream; the medians count.

    Raises:
        DeviceError: there is no CUDA device.
        MissingExtraError: scikit-image, which has the photograph, is not installed.
    """
    if not torch.cuda.is_available():
        raise DeviceError('expected a CUDA device, torch sees none')
    with tempfile.TemporaryDirectory() as folder:
        card = _card(case.model, Path(folder))
        options: dict[str, Any] = {
            'device': 'cuda',
            'precision': case.precision,
            'engine': case.engine,
        }
        start_s = time.perf_counter()
        segmenter = Segmenter(
            card, input_size_hw=None if case.is_native else case.size_hw, **options
        )
        segmenter.warm_up(case.size_hw, case.batch)
        start_s = time.perf_counter() - start_s
        input_hw = segmenter.input_hw(case.size_hw)
        backend = load_backend(card, None, RunOptions(**options))
    backend.warm_up(input_hw, case.batch)
    batch = torch.rand(case.batch, 3, *input_hw, device='cuda').to(backend.dtype)
    if backend.channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    batches = list(_batches(load_photograph('astronaut'), case))
    bare, streamed, host_cpu = [], [], []
    for _ in range(rounds):
        bare.append(_bare_fps(lambda: backend.infer(batch), case.batch, seconds))
        cpu_s = time.process_time()
        fps, num_images = _stream_fps(segmenter, batches, seconds)
        streamed.append(fps)
        host_cpu.append((time.process_time() - cpu_s) * 1e3 / num_images)
    walls_ms, stages = [], []
    for turn in range(40):
        start = time.perf_counter()
        [result, *_] = segmenter.segment(batches[turn % len(batches)])
        walls_ms.append((time.perf_counter() - start) * 1e3)
        stages.append(result.timings_ms)
    segmenter.close()
    backend.close()
    bare_fps = float(np.median(bare))
    return GpuFigures(
        case,
        start_s,
        case.batch * 1e3 / bare_fps,
        bare_fps,
        float(np.median(streamed)),
        float(np.median(walls_ms)),
        {name: float(np.median([s[name] for s in stages])) for name in stages[0]},
        float(np.median(host_cpu)),
    )


def table_head() -> str:
    """The first lines of a Markdown table of figures; times in milliseconds."""
    columns = (
        'model', 'engine', 'precision', 'images', 'batch', 'forward', 'bare fps', 'stream fps',
        'ratio', 'latency', *STAGES, 'host CPU', 'start s',
    )  # fmt: skip
    return '| ' + ' | '.join(columns) + ' |\n' + '|---' * len(columns) + '|\n'


def table_row(figures: GpuFigures) -> str:
    """One line of the table."""
    case, times = figures.case, figures.stages_ms
    cells = [
        case.model,
        case.engine,
        case.precision,
        f'{case.size_hw[1]}x{case.size_hw[0]}' + (' (own input)' if case.is_native else ''),
        str(case.batch),
        f'{figures.forward_ms:.2f}',
        f'{figures.bare_fps:.0f}',
        f'{figures.stream_fps:.0f}',
        f'{figures.ratio:.2f}',
        f'{figures.latency_ms:.2f}',
        *(f'{times[name]:.2f}' if name in times else '–' for name in STAGES),
        f'{figures.host_cpu_ms:.2f}',
        f'{figures.start_s:.1f}',
    ]
    return '| ' + ' | '.join(cells) + ' |\n'


def _card(model: str, folder: Path) -> ModelCard:
    if not model.startswith(RANDOM):
        return resolve(model)
    card = resolve(model.removeprefix(RANDOM))
    assert card.architecture is not None
    torch.manual_seed(0)
    network = build(card.architecture, len(card.classes), **card.architecture_options)
    path = folder / 'random.safetensors'
    save_file(network.state_dict(), path)
    return dataclasses.replace(card, weights=WeightsSource(str(path)))


def _batches(image_rgb: U8, case: GpuCase) -> Iterator[list[Frame]]:
    import cv2

    height, width = case.size_hw
    resized = np.asarray(cv2.resize(image_rgb, (width, height)), np.uint8)
    for turn in range(NUM_IMAGES):
        yield [
            Frame.from_array(np.roll(resized, 40 * (turn + i), axis=1)) for i in range(case.batch)
        ]


def _bare_fps(forward: Callable[[], object], num_images: int, seconds: float) -> float:
    torch.cuda.synchronize()
    count, start_s = 0, time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - start_s < seconds:
            for _ in range(20):
                forward()
            torch.cuda.synchronize()
            count += 20
    return count * num_images / (time.perf_counter() - start_s)


def _stream_fps(
    segmenter: Segmenter, batches: Sequence[Sequence[Frame]], seconds: float
) -> tuple[float, int]:
    deadline_s = time.perf_counter() + seconds

    def endless() -> Iterator[Sequence[Frame]]:
        turn = 0
        while time.perf_counter() < deadline_s:
            yield batches[turn % len(batches)]
            turn += 1

    num_images, start_s = 0, time.perf_counter()
    for results in segmenter.stream(endless()):
        num_images += len(results)
    return num_images / (time.perf_counter() - start_s), num_images
