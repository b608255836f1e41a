"""What is to be done with a recording, in slices that can be done anywhere and in any order.

The slices follow from the recording and the chosen part of it alone. How many processes or
machines do them changes nothing in the results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.backends import RunOptions
from seg_perception.backends.model_facts import library_versions
from seg_perception.batch.facts import weights_id
from seg_perception.batch.manifest import file_identity
from seg_perception.errors import ConfigurationError
from seg_perception.models import ModelCard, resolve
from seg_perception.pipeline import Segmenter
from seg_perception.recordings.cameras import CameraTopic
from seg_perception.recordings.outputs import DEFAULT_OUTPUTS, OutputOptions, output_topics
from seg_perception.recordings.survey import Survey
from seg_perception.structures import ClassTable

IMAGES_PER_SLICE = 64
"""Few, as what a killed process had of its slice is lost; many, as opening a file takes time."""

RESULTS_FOLDER, FILES_FOLDER = 'slices', 'recording'


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model and how it runs, everywhere alike.

    Attributes:
        model: what ``models.resolve`` takes.
        weights_path: a local copy of the weights.
        words: what to look for, for models that take words.
        confidence_threshold: pixels less sure than this are unlabelled.
        run_options: the rest.
    """

    model: str
    weights_path: str | None = None
    words: tuple[str, ...] = ()
    confidence_threshold: float = 0.0
    run_options: RunOptions = dataclasses.field(default_factory=lambda: RunOptions(num_threads=1))

    def load(self) -> Segmenter:
        """Loads it.

        Raises:
            SegPerceptionError: see `Segmenter`.
        """
        options = {f.name: getattr(self.run_options, f.name) for f in _fields(self.run_options)}
        return Segmenter(
            self.model,
            weights_path=self.weights_path,
            words=self.words,
            confidence_threshold=self.confidence_threshold,
            **options,
        )

    def card(self) -> ModelCard:
        """Its card.

        Raises:
            ModelError: there is no such model.
            ConfigurationError: it cannot do without somebody who points at things, or lacks
                words.
        """
        card = resolve(self.model)
        if card.output.kind == 'prompts':
            raise ConfigurationError(
                f'{card.name} segments what prompts point at, and a recording has nobody to '
                f'point: choose another model, see `seg-perception models`'
            )
        if self.words and card.output.kind != 'words':
            raise ConfigurationError(f'--words: {card.name} has classes of its own')
        if card.output.kind == 'words' and not self.words:
            raise ConfigurationError(f'{card.name} segments what words name: give some, --words')
        return card

    def classes(self) -> ClassTable:
        """What its labels mean."""
        return ClassTable(('background', *self.words)) if self.words else self.card().classes


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file.

    Attributes:
        number: of the slice, from 0.
        file: number of the file it is in.
        start_ns: time of recording of what counts.
        end_ns: of what does not count any more.
    """

    number: int
    file: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Job:
    """All that is to be done.

    Attributes:
        found: the recording.
        range_ns: the part of it that counts, by time of recording.
        cameras: what is segmented.
        model: by what.
        name: of the new recording.
        work_dir: where everything is until it is complete.
        storage: ``mcap`` or ``sqlite3``.
        is_compressed: whether chunks are compressed (MCAP only).
        has_originals: whether the messages of the recording are in the new one too.
        outputs: what to say about images.
        options: how to say it.
        every_ns: one image of each camera in this time; 0 for all.
        batch_size: images the model takes at once, which may change the last bit of its scores.
    """

    found: Survey
    range_ns: tuple[int, int]
    cameras: tuple[CameraTopic, ...]
    model: ModelChoice
    name: str
    work_dir: Path
    storage: str
    is_compressed: bool = True
    has_originals: bool = True
    outputs: tuple[str, ...] = DEFAULT_OUTPUTS
    options: OutputOptions = dataclasses.field(default_factory=OutputOptions)
    every_ns: int = 0
    batch_size: int = 1

    @property
    def metadata_version(self) -> int:
        """Of the same generation of ROS as the recording, as far as it can be written."""
        return 9 if self.found.recording.version >= 9 else 8

    def slices(self) -> list[Slice]:
        """The parts, by time; of every file there is at least one."""
        return [Slice(number, *part) for number, part in enumerate(_parts(self))]

    def results_path(self, number: int) -> Path:
        """Where the results of a slice are."""
        return self.work_dir / RESULTS_FOLDER / f'{number:06d}.mcap'

    def file_path(self, file: int) -> Path:
        """Where a file of the new recording is until all are there."""
        suffix = {'mcap': 'mcap', 'sqlite3': 'db3'}[self.storage]
        return self.work_dir / FILES_FOLDER / f'{self.name}_{file}.{suffix}'

    def num_images(self) -> int:
        """About how many images are in the chosen part, all cameras together."""
        return round(sum(share for _, _, share in _shares(self)))

    def facts(self) -> dict[str, Any]:
        """All that the results follow from, in plain values; where and how fast does not count."""
        card = self.model.card()
        options = self.model.run_options
        recording = self.found.recording
        return {
            'recording': [
                [file.path.name, *file_identity(file.path).values()] for file in recording.files
            ],
            'part': list(self.range_ns),
            'every': self.every_ns,
            'topics': [[c.topic, c.namespace] for c in self.cameras],
            'model': card.name,
            'model card': _fingerprint(card),
            'weights': weights_id(card, Path(path) if (path := self.model.weights_path) else None),
            'words': list(self.model.words),
            'confidence threshold': self.model.confidence_threshold,
            'device': options.device.partition(':')[0],
            'precision': options.precision,
            'engine': options.engine,
            'threads': options.num_threads,
            'batch size': self.batch_size,
            'outputs': sorted(self.outputs),
            'output options': [str(v) for v in dataclasses.astuple(self.options)],
            'storage': self.storage,
            'compressed': self.is_compressed,
            'originals': self.has_originals,
            'version': package_version(),
        }

    def check(self) -> None:
        """Finds what cannot be before any work is done.

        Raises:
            ModelError: there is no such model.
            ConfigurationError: options that cannot be, or a topic of ours that is recorded.
        """
        card = self.model.card()
        classes = self.model.classes()
        topics = output_topics(self.outputs, classes, has_confidence=card.output.has_scores)
        recorded = {topic.name for topic in self.found.topics} if self.has_originals else set()
        names = [output.name for output in topics] + ['label_info']
        ours = [f'{c.namespace}/{name}' for c in self.cameras for name in names]
        if taken := sorted(recorded.intersection(ours)):
            raise ConfigurationError(
                f'the recording has {", ".join(taken)} already: give ours another name, '
                f'--namespace NAME, or process the recording that this one was made from'
            )


def _parts(job: Job) -> Iterator[tuple[int, int, int]]:
    """Number of the file, start and end of each part, with borders between two ``every_ns``."""
    start_ns = job.range_ns[0]
    for file, (low_ns, high_ns), num_images in _shares(job):
        num_parts = max(1, math.ceil(num_images / IMAGES_PER_SLICE))
        if not job.found.files[file].can_seek:
            num_parts = 1
        width_ns = max(1, math.ceil((high_ns - low_ns) / num_parts))
        step_ns = max(1, job.every_ns)
        borders = [low_ns]
        for i in range(1, num_parts):
            border = start_ns + math.ceil((low_ns + i * width_ns - start_ns) / step_ns) * step_ns
            if borders[-1] < border < high_ns:
                borders.append(border)
        borders.append(high_ns)
        yield from ((file, *pair) for pair in itertools.pairwise(borders))


def _shares(job: Job) -> Iterator[tuple[int, tuple[int, int], float]]:
    """Number, chosen range and about the number of images of each file that has some of it."""
    for number, file in job.found.whole_files:
        low_ns, high_ns = max(file.start_ns, job.range_ns[0]), min(file.end_ns, job.range_ns[1])
        if low_ns < high_ns:
            num_images = sum(file.num_by_topic.get(c.topic, 0) for c in job.cameras)
            share = (high_ns - low_ns) / max(1, file.end_ns - file.start_ns)
            yield number, (low_ns, high_ns), num_images * share


def _fingerprint(card: ModelCard) -> str:
    text = repr([getattr(card, field.name) for field in _fields(card) if field.name != 'path'])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(value)


def package_version() -> str:
    """Of this package; ``unknown`` where it is not installed."""
    return library_versions('seg_perception').get('seg_perception', 'unknown')
