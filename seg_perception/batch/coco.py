"""All pictures of a job as COCO's JSON: a dataset that loads, and results to be judged.

Models that tell objects apart give one annotation for each. Of others every class in a picture is
one annotation, all its regions together, as COCO-stuff has it: that loses nothing, where cutting
it into regions would make up objects. Ids of categories are class ids; background has none.

The files are written from one record after the other: a job of any size fits into memory.

Source: cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np

from seg_perception.errors import MissingExtraError
from seg_perception.postprocess import (
    objects_of_owners,
    to_coco_annotations,
    to_coco_categories,
)
from seg_perception.structures import BACKGROUND_NAMES, ClassTable, Objects, Segmentation
from seg_perception.whole_file import replaced_whole

DATASET, RESULTS = 'coco.json', 'coco_results.json'


@dataclass(frozen=True, slots=True)
class CocoPicture:
    """One picture of the job.

    Attributes:
        file_name: of the photograph or video, relative to the folder of all images.
        frame_index: which picture of a video; None of photographs.
        size_wh: in pixels.
        annotations: from `picture_annotations`.
    """

    file_name: str
    frame_index: int | None
    size_wh: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]


def require_codec() -> None:
    """Makes sure that annotations can be made, before hours go by.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('pycocotools', 'coco', 'write COCO run lengths') from error


def picture_annotations(segmentation: Segmentation) -> list[dict[str, Any]]:
    """The annotations of a picture, without ids; of image 0.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    objects = segmentation.objects
    if objects is None:
        objects = _class_regions(segmentation)
    return to_coco_annotations(objects, 0, segmentation.classes)


def write_coco(
    folder: Path,
    pictures: Callable[[], Iterable[CocoPicture]],
    classes: ClassTable,
    info: Mapping[str, Any],
    class_ids: Collection[int] = (),
) -> None:
    """Writes `DATASET` and `RESULTS`.

    Args:
        folder: where to.
        pictures: gives all of them, the same each time.
        classes: what ids mean.
        info: of the dataset.
        class_ids: classes that there may be; all where empty.

    Raises:
        OutputError: a file cannot be written.
    """
    categories = [
        category
        for category in to_coco_categories(classes)
        if category['name'] not in BACKGROUND_NAMES
        and (not class_ids or category['id'] in class_ids)
    ]
    with replaced_whole(folder / DATASET) as partial, partial.open('w') as file:
        file.write(f'{{"info": {json.dumps(dict(info))},\n"licenses": [],\n"images": ')
        _write_array(file, map(_image, count(1), pictures()))
        file.write(',\n"annotations": ')
        _write_array(file, _dataset_annotations(pictures()))
        file.write(f',\n"categories": {json.dumps(categories)}}}\n')
    with replaced_whole(folder / RESULTS) as partial, partial.open('w') as file:
        _write_array(file, (_result(a) for a in _with_image_ids(pictures())))
        file.write('\n')


def _class_regions(segmentation: Segmentation) -> Objects:
    """Every class that is there as one object, background left out."""
    labels_YX, names = segmentation.labels_YX, segmentation.classes.names
    counts = np.bincount(labels_YX.reshape(-1), minlength=len(names))
    ids = [i for i, name in enumerate(names) if counts[i] and name not in BACKGROUND_NAMES]
    owners = np.zeros(max(len(counts), labels_YX.max() + 1), np.uint16)
    owners[ids] = np.arange(1, len(ids) + 1)
    scores = np.ones(len(ids))
    if segmentation.confidence_YX is not None and ids:
        levels = segmentation.confidence_YX.reshape(-1)
        sums = np.bincount(labels_YX.reshape(-1), levels, len(counts))
        scores = sums[ids] / counts[ids] / 255.0
    return objects_of_owners(owners[labels_YX], ids, scores)


def _image(image_id: int, picture: CocoPicture) -> dict[str, Any]:
    width, height = picture.size_wh
    image = {'id': image_id, 'file_name': picture.file_name, 'width': width, 'height': height}
    if picture.frame_index is not None:
        image['frame_index'] = picture.frame_index
    return image


def _with_image_ids(pictures: Iterable[CocoPicture]) -> Iterator[dict[str, Any]]:
    for image_id, picture in enumerate(pictures, start=1):
        for annotation in picture.annotations:
            yield {**annotation, 'image_id': image_id}


def _dataset_annotations(pictures: Iterable[CocoPicture]) -> Iterator[dict[str, Any]]:
    for number, annotation in enumerate(_with_image_ids(pictures), start=1):
        yield {'id': number, **annotation}


def _result(annotation: Mapping[str, Any]) -> dict[str, Any]:
    # With a box, pycocotools would take its area for the object's.
    names = ('image_id', 'category_id', 'segmentation', 'score')
    return {name: annotation[name] for name in names}


def _write_array(file: IO[str], values: Iterable[Mapping[str, Any]]) -> None:
    """A JSON array with a value a line."""
    separator = '[\n'
    for value in values:
        file.write(separator + json.dumps(value))
        separator = ',\n'
    file.write('[]' if separator == '[\n' else '\n]')
