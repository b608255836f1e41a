"""Photographs: read ahead, segmented in batches, written behind.

Which photographs share a batch depends on their places in the job alone, not on which of them are
done already: a network's sums may differ in their last bits with the batch, and a job that was
killed must end with the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seg_perception.batch.contact_sheet import small_overlay
from seg_perception.batch.inputs import Problem
from seg_perception.batch.outputs import OUTPUTS, Picture, encode_png
from seg_perception.batch.overlap import WriteBehind, read_ahead
from seg_perception.batch.plan import Task
from seg_perception.batch.records import Counter, Record
from seg_perception.batch.running import BatchRunner
from seg_perception.errors import InputError
from seg_perception.imaging.picture_files import decode_image, exif_orientation, read_bytes
from seg_perception.structures import U8, Segmentation
from seg_perception.whole_file import write_whole


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A photograph as it was read: its pixels, or why there are none."""

    task: Task
    image_rgb: U8 | None
    is_turned: bool = False
    error: str = ''


def segment_photographs(
    tasks: Sequence[Task],
    runner: BatchRunner[Any],
    folder: Path,
    begin: Callable[[str, Iterable[str]], None],
    *,
    batch_size: int,
    num_workers: int,
    max_pixels: int,
) -> Iterator[tuple[Task, list[str], Record] | Problem]:
    """Segments the photographs that are not done.

    Args:
        tasks: all photographs of the job, also those that are done.
        runner: has the model.
        folder: of the results.
        begin: told an input and its files before they are written.
        batch_size: photographs that go through the model together.
        num_workers: threads that read, and as many that write; 0 for one thing after the other.
        max_pixels: larger photographs are problems.

    Yields:
        Of each photograph its files (relative to the folder) and what to keep of it; or what was
        wrong with it.

    Raises:
        OutputError: a file cannot be written.
    """
    problems: list[Problem] = []
    written: list[tuple[Task, list[str], Record]] = []
    chunks = [tasks[i : i + batch_size] for i in range(0, len(tasks), batch_size)]
    needed = [chunk for chunk in chunks if not all(task.is_done for task in chunk)]
    reads = read_ahead(
        partial(_read, max_pixels=max_pixels),
        (task for chunk in needed for task in chunk),
        num_workers=num_workers,
        depth=2 * max(batch_size, num_workers),
    )

    def batches() -> Iterator[list[tuple[_Read, U8]]]:
        for chunk in needed:
            batch = []
            for read in (next(reads) for _ in chunk):
                if read.image_rgb is not None:
                    batch.append((read, read.image_rgb))
                elif not read.task.is_done:
                    problems.append(Problem(read.task.input.name, read.error))
            yield batch

    with WriteBehind[tuple[Task, list[str], Record]](num_workers, 2 * num_workers) as writer:
        for read, image_rgb, outcome in runner.run(batches()):
            if not isinstance(outcome, Segmentation):
                problems.append(Problem(read.task.input.name, str(outcome)))
            elif not read.task.is_done:
                begin(read.task.key, _files_of(read.task))
                picture = Picture(image_rgb, outcome)
                written += writer.put(partial(_write, folder, read, picture))
            yield from problems
            problems.clear()
            yield from written
            written.clear()
        yield from problems
        yield from writer.rest()


def _read(task: Task, max_pixels: int) -> _Read:
    name = task.input.name
    try:
        data = task.input.data
        if data is None:
            assert task.input.path is not None
            data = read_bytes(task.input.path)
        image_rgb = decode_image(data, name, is_upright=True, max_pixels=max_pixels)
    except InputError as error:
        return _Read(task, None, error=str(error).removeprefix(f'{name}: '))
    return _Read(task, image_rgb, exif_orientation(data) != 1)


def _write(folder: Path, read: _Read, picture: Picture) -> tuple[Task, list[str], Record]:
    task = read.task
    files = _files_of(task)
    for name, encode in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, encode(picture))
    counter = Counter(has_annotations=task.has_annotations)
    counter.add(picture)
    tiles = [(task.tile(), None)] if task.num_tiles else []
    record = counter.record(task.choices, task.num_tiles, tiles, is_turned=read.is_turned)
    return task, list(files), record


def _files_of(task: Task) -> dict[str, Callable[[Picture], bytes]]:
    """Files of a photograph, and what makes their content."""
    files = {task.output(choice): OUTPUTS[choice].encode for choice in task.choices}
    if task.num_tiles:
        files[task.tile()] = lambda picture: encode_png(small_overlay(picture))
    return files
