"""What a job did, for people and for programs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.batch.coco import DATASET, RESULTS
from seg_perception.batch.inputs import Problem, printable
from seg_perception.batch.outputs import CHOICES, COCO, OUTPUTS, SHEET
from seg_perception.batch.plan import SHEET_FILE, Task
from seg_perception.batch.records import Record
from seg_perception.structures import ClassTable

_NUM_CLASSES_SHOWN = 8
_LEAST_SHOWN = 0.001


@dataclass(frozen=True, slots=True)
class ClassShare:
    """How much of all pixels a class has; ``id`` is its value in label images."""

    id: int
    name: str
    num_pixels: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job did.

    Attributes:
        folder: of the results.
        model: its name.
        engine: what ran it.
        device: where.
        num_inputs: photographs, videos and streams that have results now.
        num_done_before: of those, how many had them before.
        num_pictures: that were segmented now, pictures of videos included.
        num_turned: photographs that EXIF data had turned upright.
        num_objects: in all pictures; None where the model does not tell objects apart.
        seconds: for what was done now, loading the model not included.
        classes: those that are there, the largest first; of the pictures done before too.
        outputs: files, or patterns of files, relative to the folder, with their meaning.
        problems: inputs without results.
        remarks: for people.
    """

    folder: Path
    model: str
    engine: str
    device: str
    num_inputs: int
    num_done_before: int
    num_pictures: int
    num_turned: int
    num_objects: int | None
    seconds: float
    classes: Sequence[ClassShare]
    outputs: Mapping[str, str]
    problems: Sequence[Problem]
    remarks: Sequence[str]

    @property
    def pictures_per_second(self) -> float:
        """The rate of what was done now."""
        return self.num_pictures / self.seconds if self.seconds > 0.0 else 0.0

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            'folder': printable(self.folder),
            'model': self.model,
            'engine': self.engine,
            'device': self.device,
            'num_inputs': self.num_inputs,
            'num_done_before': self.num_done_before,
            'num_failed': len(self.problems),
            'num_pictures_now': self.num_pictures,
            'num_turned_upright': self.num_turned,
            'num_objects': self.num_objects,
            'seconds': round(self.seconds, 3),
            'pictures_per_second': round(self.pictures_per_second, 3),
            'classes': [
                {
                    'id': c.id,
                    'name': c.name,
                    'num_pixels': c.num_pixels,
                    'fraction': round(c.fraction, 6),
                }
                for c in self.classes
            ],
            'outputs': {printable(name): text for name, text in self.outputs.items()},
            'failed': [
                {'input': printable(p.name), 'message': printable(p.message)}
                for p in self.problems
            ],
            'remarks': list(self.remarks),
        }

    def lines(self) -> list[str]:
        """For people."""
        done = 'nothing new'
        if self.num_pictures or self.problems:
            done = f'{_counted(self.num_pictures, "picture")} in {self.seconds:.1f} s'
        if self.num_pictures > 1:
            done += f' ({self.pictures_per_second:.1f} per second)'
        if self.num_done_before:
            done += f', {_counted(self.num_done_before, "input")} done before'
        if self.problems:
            done += f', {len(self.problems)} failed'
        lines = [f'{done}, with {self.model} ({self.engine}, {self.device})']
        shown = [c for c in self.classes if c.fraction >= _LEAST_SHOWN][:_NUM_CLASSES_SHOWN]
        if shown:
            shares = ', '.join(f'{c.name} {c.fraction:.1%}' for c in shown)
            rest = sum(c.fraction >= _LEAST_SHOWN for c in self.classes) - len(shown)
            lines.append(f'classes: {shares}{f", {rest} more" if rest else ""}')
        if self.num_objects is not None:
            lines.append(f'objects: {self.num_objects}')
        if self.num_inputs:
            lines.append(f'results: {printable(self.folder)}{os.sep}')
            width = max(map(len, map(printable, self.outputs)), default=0)
            lines += [f'  {printable(n):{width}}  {text}' for n, text in self.outputs.items()]
        return lines


def class_shares(classes: ClassTable, records: Sequence[Record]) -> list[ClassShare]:
    """The classes that are there, the largest first."""
    counts = np.zeros(len(classes) + 1, np.int64)
    for record in records:
        counts += record.num_pixels
    total = max(int(counts.sum()), 1)
    return [
        ClassShare(i, classes.names[i], int(counts[i]), int(counts[i]) / total)
        for i in np.argsort(-counts[:-1], kind='stable').tolist()
        if counts[i]
    ]


def output_lines(records: Sequence[tuple[Task, Record]], choices: Sequence[str]) -> dict[str, str]:
    """Files that were made, with their meaning; a pattern where they are many."""
    lines: dict[str, str] = {}
    for choice in (choice for choice in choices if choice in OUTPUTS):
        suffixes = {task.output(choice).removeprefix(task.key) for task, _ in records}
        for suffix in sorted(suffixes):
            paths = [t.output(choice) for t, _ in records if t.output(choice) == t.key + suffix]
            name = paths[0] if len(paths) == 1 else f'**/*{suffix}'
            is_folder = '.' not in suffix[1:]
            lines[name + '/' * is_folder] = CHOICES[choice]
    if COCO in choices:
        lines[DATASET] = 'a COCO dataset of all pictures'
        lines[RESULTS] = 'the same as results, with scores'
    if any(record.tiles for _, record in records) and SHEET in choices:
        lines[SHEET_FILE] = 'a picture of many'
    return lines


def _counted(num: int, what: str) -> str:
    return f'{num} {what}{"" if num == 1 else "s"}'
