"""What a job has to do: which inputs are done already, and whether anything stands in the way."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from seg_perception.batch.coco import DATASET, RESULTS
from seg_perception.batch.inputs import Input, Problem, images_root
from seg_perception.batch.manifest import STATE_FOLDER, DoneList, file_identity
from seg_perception.batch.outputs import COCO, OUTPUTS, SHEET
from seg_perception.errors import ConfigurationError

NUM_TILES = 24
"""At most so many pictures are on a contact sheet."""
CLASSES_FILE, SHEET_FILE = 'classes.csv', 'contact_sheet.jpg'
_MAX_TILES_OF_VIDEO = 12
_NUM_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """An input and what is to be made of it.

    Attributes:
        input: see `Input`.
        source: tells the input from another of that name.
        choices: of ``outputs.OUTPUTS``.
        has_annotations: whether annotations are kept with its record.
        num_tiles: how many pictures of it go onto the contact sheet.
        is_done: whether nothing is to be made.
    """

    input: Input
    source: dict[str, Any]
    choices: tuple[str, ...]
    has_annotations: bool
    num_tiles: int
    is_done: bool

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return self.input.result_name

    def output(self, choice: str) -> str:
        """Path of a file of a photograph, or of a video's overlay, relative to the folder.

        Of a video's other outputs it is the folder of its frames.
        """
        suffix = OUTPUTS[choice].suffix
        if self.input.kind != 'photograph':
            suffix = '.overlay.mp4' if choice == 'overlay' else suffix.rpartition('.')[0]
        return self.key + suffix

    def tile(self, number: int = 0) -> str:
        """Path of one of its pictures on the contact sheet, relative to the folder."""
        return f'{STATE_FOLDER}/tiles/{self.key}/{number:02d}.png'

    @property
    def outputs(self) -> list[str]:
        """Of all its choices."""
        return [self.output(choice) for choice in self.choices]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job has to do.

    Attributes:
        tasks: of all inputs that are there, in order.
        remarks: for people: what is done anew, and why.
        problems: inputs that are not there.
        job_files: of the job as a whole, relative to the folder of the results.
        root: the folder that has all inputs.
    """

    tasks: tuple[Task, ...]
    remarks: tuple[str, ...]
    problems: tuple[Problem, ...]
    job_files: tuple[str, ...]
    root: Path


def make_plan(
    inputs: Sequence[Input],
    done: DoneList,
    choices: Sequence[str],
    *,
    codec: str = '',
    redo: bool = False,
) -> Plan:
    """Looks at what is there.

    Args:
        inputs: of the job.
        done: what is done.
        choices: what is to be made, of ``outputs.CHOICES``.
        codec: of overlay videos.
        redo: whether to replace results that were made otherwise, and make all anew.

    Raises:
        ConfigurationError: results of something else would be replaced, or a file that no job
            wrote.
    """
    tasks: list[Task] = []
    problems: list[Problem] = []
    reasons: Counter[str] = Counter()
    otherwise: list[Task] = []
    of_another: list[Task] = []
    kinds = tuple(choice for choice in choices if choice in OUTPUTS)
    tiles = _num_tiles(inputs) if SHEET in choices else [0] * len(inputs)
    for item, num_tiles in zip(inputs, tiles, strict=True):
        try:
            source = _identity(item)
        except OSError as error:
            problems.append(Problem(item.name, error.strerror or str(error)))
            continue
        state = 'new' if item.kind == 'stream' else done.state(item.result_name, source)
        task = Task(item, source, kinds, COCO in choices, num_tiles, False)
        if state == 'input changed' and _is_moved(done.source(task.key), source):
            state = 'done'
        elif state == 'input changed' and done.source(task.key)['path'] != source['path']:
            of_another.append(task)
        if state == 'made otherwise':
            otherwise.append(task)
        if state == 'done' and not _has_all(done, task, codec):
            state = 'outputs missing'
        is_done = state == 'done' and not redo
        reasons[state] += not is_done and state != 'new'
        tasks.append(replace(task, is_done=is_done))
    if otherwise and not redo:
        raise ConfigurationError(
            f'{done.folder} has results of {_some(t.input.name for t in otherwise)} that were '
            f'made otherwise ({"; ".join(done.differences(otherwise[0].key))}): choose another '
            'folder (--out), or replace them (--redo)'
        )
    if of_another and not redo:
        one = of_another[0]
        raise ConfigurationError(
            f'{done.folder} has results of other files of the same name: {one.key} is of '
            f'{done.source(one.key)["path"]}, now {one.source["path"]} '
            f'({len(of_another)} such): choose another folder (--out), or replace them (--redo)'
        )
    todo = [task for task in tasks if not task.is_done]
    job_files = _job_files(choices, num_tiles=sum(tiles))
    _check_room(todo, [item.path for item in inputs], done, job_files)
    remarks = [f'{num} made anew: {reason}' for reason, num in reasons.items() if num]
    root = images_root(inputs)
    return Plan(tuple(tasks), tuple(remarks), tuple(problems), job_files, root)


def _job_files(choices: Sequence[str], num_tiles: int) -> tuple[str, ...]:
    table = {
        CLASSES_FILE: 'labels' in choices,
        DATASET: COCO in choices,
        RESULTS: COCO in choices,
        SHEET_FILE: num_tiles > 0,
    }
    return tuple(name for name, is_made in table.items() if is_made)


def _identity(item: Input) -> dict[str, Any]:
    if item.path is not None:
        return {'path': os.path.abspath(item.path), **file_identity(item.path)}
    if item.data is not None:
        return {'path': item.name, 'sha256': hashlib.sha256(item.data).hexdigest()}
    return {'path': item.name}


def _is_moved(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the same file lay elsewhere."""
    return {**before, 'path': ''} == {**now, 'path': ''}


def _has_all(done: DoneList, task: Task, codec: str) -> bool:
    """Whether all that is asked for now was made then."""
    result = done.result(task.key)
    return (
        (result['annotations'] is not None or not task.has_annotations)
        and task.num_tiles in (0, result['num_tiles'])
        and set(task.choices) <= set(result['choices'])
        and ('overlay' not in task.choices or result['codec'] in ('', codec))
    )


def _num_tiles(inputs: Sequence[Input]) -> list[int]:
    """How many pictures of each input go onto the sheet: spread evenly where there are many."""
    num = len(inputs)
    if num == 1 and inputs[0].kind == 'photograph':
        return [0]  # its overlay says it all
    if num > NUM_TILES:
        shown = {i * num // NUM_TILES for i in range(NUM_TILES)}
        return [int(i in shown) for i in range(num)]
    of_video = max(1, min(_MAX_TILES_OF_VIDEO, (NUM_TILES - num) // max(1, num) + 1))
    return [1 if item.kind == 'photograph' else of_video for item in inputs]


def _check_room(
    todo: Iterable[Task],
    inputs: Iterable[Path | None],
    done: DoneList,
    job_files: Sequence[str],
) -> None:
    """Makes sure that no file is written over that is not ours to write over."""
    sources = {path.resolve() for path in inputs if path is not None}
    names = [name for task in todo for name in task.outputs] + list(job_files)
    for name in names:
        path = done.folder / name
        if path.resolve() in sources:
            raise ConfigurationError(f'{path} is an input: choose another folder (--out)')
        if path.exists() and not done.owns(name):
            raise ConfigurationError(
                f'{path} was not written by seg-perception segment: move it away, or choose '
                'another folder (--out)'
            )
        for parent in PurePosixPath(name).parents:
            if (done.folder / parent).is_file():
                raise ConfigurationError(
                    f'{done.folder / parent}: expected a folder for {PurePosixPath(name).name}, '
                    'there is a file: choose another folder (--out)'
                )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f' and {len(listed) - _NUM_NAMED} more' if len(listed) > _NUM_NAMED else ''
    return ', '.join(listed[:_NUM_NAMED]) + more
