"""``seg-perception bench --parity``: labels and speed of each engine and precision of a model.

Every engine labels the same photographs as the native engine does in fp32, by turns, through the
pipeline that the node runs.

Legend: Y/X image pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_perception.backends import ENGINES, native_engine
from seg_perception.backends.networks import NETWORKS
from seg_perception.benchmarks.machine import hardware, versions
from seg_perception.errors import InputError, SegPerceptionError
from seg_perception.models import resolve
from seg_perception.pipeline import Segmenter
from seg_perception.sources.photographs import load_photograph
from seg_perception.structures import U8, Labels

PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee')
"""Of scikit-image: a person, a cat, a table."""
SLOW_ENGINES = ('compile', 'aot', 'tensorrt')
"""Compile for up to minutes: only where they are named."""

_ROUNDS = 5
_SUFFIXES = ('.jpg', '.jpeg', '.png')


@dataclass(frozen=True, slots=True)
class Row:
    """How a model did on an engine.

    Attributes:
        engine: its name.
        precision: as asked for.
        runs_in: the precision it says it runs in.
        agreement: share of the images' pixels with the label that the reference gives.
        least_agreement: the same of the worst image.
        infer_ms: the model's own time: mean over the images of the quickest of several runs,
            which is what a machine busy with other work still shows.
        total_ms: the same of the whole pipeline, image to labels.
        speed: how many times as quick as the reference, model's own time.
        problem: why it did not run, '' where it did.
    """

    engine: str
    precision: str
    runs_in: str = ''
    agreement: float = float('nan')
    least_agreement: float = float('nan')
    infer_ms: float = float('nan')
    total_ms: float = float('nan')
    speed: float = float('nan')
    problem: str = ''


def measure_parity(
    model: str,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    images: Path | None = None,
    weights: Path | None = None,
    device: str = 'auto',
    num_threads: int = 0,
) -> dict[str, Any]:
    """Measures all engines and precisions against the native engine in fp32.

    Args:
        model: catalog name, card or file.
        engines: their names; all that are quick to start and run the format where empty.
        precisions: theirs; fp32 and bf16, on a GPU fp16 too, where empty. Files that carry their
            own run in that alone.
        images: folder of photographs; scikit-image's where None.
        weights: a local copy of the model's weights.
        device: see ``backends.RunOptions``.
        num_threads: CPU threads of the model.

    Returns:
        The document that `to_table` prints; JSON values only.

    Raises:
        InputError: there are no images.
        SegPerceptionError: the reference cannot be loaded.
    """
    card = resolve(model)
    pictures = _pictures(images)
    weights_format = card.weights.format
    is_network = weights_format in NETWORKS
    native = native_engine(weights_format).name
    common: dict[str, Any] = {
        'device': device,
        'num_threads': num_threads,
        'weights_path': weights,
    }
    reference_key: tuple[str, str] = (native, 'fp32' if is_network else 'auto')
    reference = Segmenter(card, engine=native, precision=reference_key[1], **common)
    is_cuda = reference.device.type == 'cuda'
    if not precisions:
        on_gpu = ('fp16',) if is_cuda else ()
        precisions = ('fp32', 'bf16', *on_gpu) if is_network else ('auto',)
    engines = engines or _quick_to_start(weights_format, is_cuda)
    wanted = [(engine, precision) for engine in engines for precision in precisions]
    runs = {reference_key: _Run(reference)}
    rows: dict[tuple[str, str], Row] = {}
    for key in wanted:
        try:
            if key not in runs:
                runs[key] = _Run(Segmenter(card, engine=key[0], precision=key[1], **common))
        except SegPerceptionError as error:
            rows[key] = Row(*key, problem=_short(error))
    for turn in range(_ROUNDS):
        for index, picture in enumerate(pictures):
            for key, run in list(runs.items()):
                try:
                    run.label(index, picture, is_first=turn == 0)
                except SegPerceptionError as error:
                    if key == reference_key:
                        raise
                    rows[key] = Row(*key, problem=_short(error))
                    runs.pop(key).segmenter.close()
    base = runs[reference_key]
    document = {
        'model': card.name,
        'reference': {
            'engine': native,
            'precision': reference.description()['precision'],
            'infer_ms': base.infer_ms,
            'total_ms': base.total_ms,
        },
        'num_images': len(pictures),
        'num_rounds': _ROUNDS,
        'num_threads': num_threads,
        'device': str(reference.device),
        'hardware': hardware(),
        'versions': versions(),
        'load_average': os.getloadavg()[0],
        'rows': [asdict(rows.get(key) or runs[key].row(*key, base)) for key in wanted],
    }
    for run in runs.values():
        run.segmenter.close()
    return document


def _quick_to_start(weights_format: str, is_cuda: bool) -> list[str]:
    """The engines that run a format on a device and compile nothing for minutes."""
    unfit = {*SLOW_ENGINES, *(['openvino', 'litert'] if is_cuda else ['cuda_graph'])}
    return [name for name, e in ENGINES.items() if name not in unfit and e.runs(weights_format)]


def to_table(document: dict[str, Any]) -> str:
    """The document as a Markdown table with what it was measured on."""
    hardware_, reference = document['hardware'], document['reference']
    where = hardware_['gpu'] if document['device'] != 'cpu' else hardware_['cpu']
    head = (
        f'{document["model"]}, {document["num_images"]} images, {document["device"]} ({where}), '
        f'threads {document["num_threads"] or "default"}, load {document["load_average"]:.1f}; '
        f'reference: {reference["engine"]} {reference["precision"]}, '
        f'{reference["infer_ms"]:.1f} ms (labels: {reference["total_ms"]:.1f} ms)'
    )
    lines = [
        head,
        '',
        '| engine | precision | labels agree | worst image | model ms | labels ms | speed |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in document['rows']:
        if row['problem']:
            lines.append(f'| {row["engine"]} | {row["precision"]} | {row["problem"]} | | | | |')
            continue
        lines.append(
            f'| {row["engine"]} | {row["precision"]} | {row["agreement"]:.2%} | '
            f'{row["least_agreement"]:.2%} | {row["infer_ms"]:.1f} | {row["total_ms"]:.1f} | '
            f'{row["speed"]:.2f}x |'
        )
    return '\n'.join(lines) + '\n'


class _Run:
    """A segmenter, what it made of each picture, and the least time that it took."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.labels_YX: dict[int, Labels] = {}
        self._infer_ms: dict[int, float] = {}
        self._total_ms: dict[int, float] = {}

    def label(self, index: int, picture: U8, *, is_first: bool) -> None:
        """Labels a picture and takes the time, the first time after a run that does not count."""
        if is_first:
            self.segmenter.segment([picture], confidence=False)
        [result] = self.segmenter.segment([picture], confidence=False)
        self.labels_YX[index] = result.labels_YX
        infer_ms, total_ms = result.timings_ms['infer'], sum(result.timings_ms.values())
        self._infer_ms[index] = min(infer_ms, self._infer_ms.get(index, infer_ms))
        self._total_ms[index] = min(total_ms, self._total_ms.get(index, total_ms))

    @property
    def infer_ms(self) -> float:
        """Mean over the pictures of the quickest run of each."""
        return float(np.mean(list(self._infer_ms.values())))

    @property
    def total_ms(self) -> float:
        """The same of the whole pipeline."""
        return float(np.mean(list(self._total_ms.values())))

    def row(self, engine: str, precision: str, base: _Run) -> Row:
        """The figures, against those of the reference."""
        shares = [float((self.labels_YX[i] == base.labels_YX[i]).mean()) for i in self.labels_YX]
        return Row(
            engine,
            precision,
            runs_in=self.segmenter.description()['precision'],
            agreement=float(np.mean(shares)),
            least_agreement=min(shares),
            infer_ms=self.infer_ms,
            total_ms=self.total_ms,
            speed=base.infer_ms / self.infer_ms,
        )


def _pictures(folder: Path | None) -> list[U8]:
    if folder is None:
        return [load_photograph(name) for name in PHOTOGRAPHS]
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in _SUFFIXES)
    pictures = [cv2.imread(str(path)) for path in paths]
    usable = [np.ascontiguousarray(p[..., ::-1]) for p in pictures if p is not None]
    if not usable:
        raise InputError(f'{folder}: expected images ({", ".join(_SUFFIXES)}), found none')
    return [np.asarray(picture, np.uint8) for picture in usable]


def _short(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return text if len(text) <= 100 else f'{text[:99]}…'
