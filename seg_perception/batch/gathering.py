"""Files that are made of all pictures of a job together."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath

import cv2
import numpy as np

from seg_perception.batch.coco import CocoPicture, write_coco
from seg_perception.batch.contact_sheet import Tile, draw_contact_sheet
from seg_perception.batch.manifest import DoneList
from seg_perception.batch.outputs import COCO, SHEET, encode_jpeg
from seg_perception.batch.plan import CLASSES_FILE, SHEET_FILE, Task
from seg_perception.batch.records import Record
from seg_perception.batch.summary import class_shares
from seg_perception.pipeline import Segmenter
from seg_perception.structures import BACKGROUND_NAMES, U8, ClassTable
from seg_perception.whole_file import write_whole

_LEAST_IN_LEGEND = 0.002
_MAX_IN_LEGEND = 16


def write_gathered(
    done: DoneList,
    records: Sequence[tuple[Task, Record]],
    segmenter: Segmenter,
    class_ids: Collection[int],
    choices: Sequence[str],
    root: Path,
) -> None:
    """Writes what was asked for of all pictures.

    Args:
        done: the folder and what is kept.
        records: of all inputs that have results.
        segmenter: the model.
        class_ids: classes that are kept; all where empty.
        choices: of ``outputs.CHOICES``.
        root: the folder that has all inputs.

    Raises:
        OutputError: a file cannot be written.
    """
    if not records:
        return
    classes = segmenter.classes
    if 'labels' in choices:
        write_whole(done.folder / CLASSES_FILE, _class_lines(classes).encode())
    if COCO in choices:
        info = {
            'description': f'segmented with {segmenter.card.name}',
            'annotations': 'one for each object'
            if segmenter.card.output.gives_objects
            else 'one for each class in a picture, all its regions together',
            'images_root': os.fsencode(str(root)).decode(errors='replace'),
        }
        write_coco(
            done.folder,
            lambda: _coco_pictures(done, [task for task, _ in records], root),
            classes,
            info,
            class_ids,
        )
    tiles = list(_tiles(done.folder, records)) if SHEET in choices else []
    if tiles:
        write_whole(done.folder / SHEET_FILE, _sheet(tiles, records, segmenter))


def _sheet(
    tiles: Sequence[Tile], records: Sequence[tuple[Task, Record]], segmenter: Segmenter
) -> bytes:
    shares = class_shares(segmenter.classes, [record for _, record in records])
    fractions = {
        share.name: share.fraction
        for share in shares
        if share.name not in BACKGROUND_NAMES and share.fraction >= _LEAST_IN_LEGEND
    }
    num = sum(record.num_pictures for _, record in records)
    shown = f'{num} picture{"s" * (num != 1)}'
    sheet = draw_contact_sheet(
        tiles,
        segmenter.classes,
        dict(list(fractions.items())[:_MAX_IN_LEGEND]),
        title=segmenter.card.name,
        subtitle=shown if num == len(tiles) else f'{len(tiles)} of {shown}',
    )
    return encode_jpeg(sheet)


def _tiles(folder: Path, records: Sequence[tuple[Task, Record]]) -> Iterator[Tile]:
    for task, record in records:
        name = PurePath(task.input.name).name
        for file, frame in record.tiles[: task.num_tiles]:
            image: U8 = np.asarray(cv2.imread(str(folder / file)), np.uint8)
            yield Tile(image[..., ::-1], name if frame is None else f'{name} #{frame}')


def _coco_pictures(done: DoneList, tasks: Sequence[Task], root: Path) -> Iterator[CocoPicture]:
    for task in tasks:
        record = Record.of_json(done.result(task.key))
        width, height = record.size_wh
        path = task.input.path
        name = task.input.name if path is None else Path(os.path.relpath(path, root)).as_posix()
        for index, annotated in enumerate(record.annotations or ()):
            frame_index = None if task.input.kind == 'photograph' else index
            yield CocoPicture(name, frame_index, (width, height), annotated)


def _class_lines(classes: ClassTable) -> str:
    """A table of the ids in label images."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(['id', 'name', 'red', 'green', 'blue'])
    for i, name in enumerate(classes.names):
        writer.writerow([i, name, *classes.colors_rgb[i]])
    writer.writerow([classes.unlabeled_id, 'unlabeled', 0, 0, 0])
    return stream.getvalue()
