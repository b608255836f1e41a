"""``seg-perception bench --parity``: labels and speed of each engine and precision of a model.

Every engine labels the same photographs as the native engine does in fp32, by turns, through the
pipeline that the node runs.

Legend: Y/X image pixels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from seg_perception.backends import ENGINES, native_engine
from seg_perception.backends.networks import NETWORKS
from seg_perception.benchmarks.machine import hardware, versions
from seg_perception.errors import ConfigurationError, InputError, SegPerceptionError
from seg_perception.models import ModelCard, resolve
from seg_perception.pipeline import Segmenter
from seg_perception.sources.photographs import load_photograph
from seg_perception.structures import U8, Labels

PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee')
"""Of scikit-image: a person, a cat, a table."""
SLOW_ENGINES = ('compile', 'aot', 'tensorrt')
"""Compile for up to minutes: only where they are named."""

Key = tuple[int, str, str]
"""Which model, on which engine, in which precision."""

_ROUNDS = 5
_SUFFIXES = ('.jpg', '.jpeg', '.png')


@dataclass(frozen=True, slots=True)
class Row:
    """How a model did on an engine.

    Attributes:
        model: its name.
        engine: the engine's.
        precision: as asked for.
        runs_in: the precision it says it runs in.
        agreement: share of the images' pixels with the label that the reference gives.
        least_agreement: the same of the worst image.
        infer_ms: the model's own time: mean over the images of the quickest of several runs,
            which is what a machine busy with other work still shows.
        total_ms: the same of the whole pipeline, image to labels.
        cpu_ms: the same in CPU time of all threads.
        speed: how many times as quick as the reference, model's own time.
        problem: why it did not run, '' where it did.
    """

    model: str
    engine: str
    precision: str
    runs_in: str = ''
    agreement: float = float('nan')
    least_agreement: float = float('nan')
    infer_ms: float = float('nan')
    total_ms: float = float('nan')
    cpu_ms: float = float('nan')
    speed: float = float('nan')
    problem: str = ''


def measure_parity(
    models: Sequence[str],
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    images: Path | None = None,
    weights: Path | None = None,
    device: str = 'auto',
    num_threads: int = 0,
) -> dict[str, Any]:
    """Measures all engines and precisions against the first model's native engine in fp32.

    Args:
        models: catalog names, cards or files; further ones are the first in other files, int8
            exports of it for example.
        engines: their names; all that are quick to start and run the format where empty.
        precisions: theirs; fp32 and bf16, on a GPU fp16 too, where empty. Files that carry their
            own run in that alone.
        images: folder of photographs; scikit-image's where None.
        weights: a local copy of the first model's weights.
        device: see ``backends.RunOptions``.
        num_threads: CPU threads of the model.

    Returns:
        The document that `to_table` prints; JSON values only.

    Raises:
        InputError: there are no images.
        ConfigurationError: no model, or models of different classes.
        SegPerceptionError: the reference cannot be loaded.
    """
    if not models:
        raise ConfigurationError('expected at least one model to compare')
    cards = [resolve(model) for model in models]
    for card in cards[1:]:
        if card.classes.names != cards[0].classes.names:
            raise ConfigurationError(
                f'expected models of the same classes, {card.name} has others than {cards[0].name}'
            )
    pictures = _pictures(images)
    first = cards[0]
    native = native_engine(first.weights.format).name
    common: dict[str, Any] = {'device': device, 'num_threads': num_threads}
    reference_key: Key = (0, native, 'fp32' if first.weights.format in NETWORKS else 'auto')
    reference = Segmenter(
        first, engine=native, precision=reference_key[2], weights_path=weights, **common
    )
    wanted = [
        (index, engine, precision)
        for index, card in enumerate(cards)
        for engine, precision in _combinations(card, reference.device, engines, precisions)
    ]
    runs = {reference_key: _Run(reference)}
    rows: dict[Key, Row] = {}

    def give_up(key: Key, error: Exception) -> None:
        rows[key] = Row(cards[key[0]].name, *key[1:], problem=_short(error))

    for key in wanted:
        index, engine, precision = key
        options = {**common, 'engine': engine, 'precision': precision}
        try:
            if key not in runs:
                path = None if index else weights
                runs[key] = _Run(Segmenter(cards[index], weights_path=path, **options))
        except SegPerceptionError as error:
            give_up(key, error)
    for turn in range(_ROUNDS):
        for number, picture in enumerate(pictures):
            for key, run in list(runs.items()):
                try:
                    run.label(number, picture, is_first=turn == 0)
                except SegPerceptionError as error:
                    if key == reference_key:
                        raise
                    give_up(key, error)
                    runs.pop(key).segmenter.close()
    base = runs[reference_key]
    for key in wanted:
        if key not in rows:
            rows[key] = runs[key].row(cards[key[0]].name, *key[1:], base=base)
    document = {
        'model': first.name,
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
        'rows': [asdict(rows[key]) for key in wanted],
    }
    for run in runs.values():
        run.segmenter.close()
    return document


def _combinations(
    card: ModelCard, device: torch.device, engines: Sequence[str], precisions: Sequence[str]
) -> list[tuple[str, str]]:
    """Engines and precisions to measure of a model: those given, else all that make sense."""
    is_cuda, weights_format = device.type == 'cuda', card.weights.format
    # slow to start, or not for this device
    unfit = {*SLOW_ENGINES, *(['openvino', 'litert'] if is_cuda else ['cuda_graph'])}
    engines = engines or [
        name for name, e in ENGINES.items() if name not in unfit and e.runs(weights_format)
    ]
    on_gpu = ('fp16',) if is_cuda else ()
    own = ('fp32', 'bf16', *on_gpu) if weights_format in NETWORKS else ('auto',)
    return [(engine, precision) for engine in engines for precision in precisions or own]


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
        '| model | engine | precision | agreement | worst | model ms | all ms | CPU ms | speed |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in document['rows']:
        precision = row['runs_in'] or row['precision']
        cells = [row['model'], row['engine'], precision]
        if row['problem']:
            cells += [row['problem'], '', '', '', '', '']
        else:
            cells += [f'{row["agreement"]:.2%}', f'{row["least_agreement"]:.2%}']
            cells += [f'{row[name]:.1f}' for name in ('infer_ms', 'total_ms', 'cpu_ms')]
            cells.append(f'{row["speed"]:.2f}x')
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


class _Run:
    """A segmenter, what it made of each picture, and the least time that it took."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.labels_YX: dict[int, Labels] = {}
        self._infer_ms: dict[int, float] = {}
        self._total_ms: dict[int, float] = {}
        self._cpu_ms: dict[int, float] = {}

    def label(self, index: int, picture: U8, *, is_first: bool) -> None:
        """Labels a picture and takes the time, the first time after a run that does not count."""
        if is_first:
            self.segmenter.segment([picture], confidence=False)
        start_s = time.process_time()
        [result] = self.segmenter.segment([picture], confidence=False)
        cpu_ms = (time.process_time() - start_s) * 1e3
        self.labels_YX[index] = result.labels_YX
        self._cpu_ms[index] = min(cpu_ms, self._cpu_ms.get(index, cpu_ms))
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

    @property
    def cpu_ms(self) -> float:
        """CPU time of the whole pipeline, all threads."""
        return float(np.mean(list(self._cpu_ms.values())))

    def row(self, model: str, engine: str, precision: str, *, base: _Run) -> Row:
        """The figures, against those of the reference."""
        shares = [float((self.labels_YX[i] == base.labels_YX[i]).mean()) for i in self.labels_YX]
        return Row(
            model,
            engine,
            precision,
            runs_in=self.segmenter.description()['precision'],
            agreement=float(np.mean(shares)),
            least_agreement=min(shares),
            infer_ms=self.infer_ms,
            total_ms=self.total_ms,
            cpu_ms=self.cpu_ms,
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
