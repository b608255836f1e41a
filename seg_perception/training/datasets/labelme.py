"""Layout ``labelme``: one JSON file per image, as the annotation tool LabelMe writes it.

Keys: ``annotations``, the folder of the JSON files (default: the root itself); ``images``, the
folder of the photographs where they do not lie beside them; ``recursive``; ``list``, a file with
one stem per line; ``classes`` (required), with the class of pixels that nobody annotated,
``background`` unless ``unannotated`` names another. Images without JSON are left out.

Shapes are drawn in the order of the file, later ones on top, as LabelMe exports them; all shapes
of a label are one class, whatever their group. Polygons, rectangles, circles and masks have an
area; points and lines have none and are errors unless remap drops their label. LabelMe's
``__ignore__`` is ignored and its ``_background_`` is the class of pixels nobody annotated.

LabelMe turns photographs upright before one draws on them, so ``exif_orientation`` is ``apply``
here unless the configuration says ``ignore``.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.imaging.picture_files import (
    IMAGE_SUFFIXES,
    decode_index_mask,
    read_bytes,
)
from seg_perception.structures import ClassTable, Labels
from seg_perception.training.datasets.config import DatasetConfig, read_names
from seg_perception.training.datasets.folders import files_by_stem
from seg_perception.training.datasets.paired import Annotated, Entry, Source
from seg_perception.training.datasets.remapping import (
    IGNORE,
    ClassMap,
    build_class_map,
    our_classes,
)

_BACKGROUND = 'background'
_MIN_POINTS = {'polygon': 3, 'rectangle': 2, 'circle': 2, 'mask': 2}
_SUB_PIXEL_BITS = 8
_MAX_SIDES = 50_000
"""Of a circle; each is an eighth of a pixel long up to a radius of 6250 px."""


class LabelMeShapes:
    """Labels from the shapes of LabelMe's JSON."""

    def __init__(self, class_map: ClassMap, max_pixels: int) -> None:
        self._class_map = class_map
        self._max_pixels = max_pixels

    @property
    def classes(self) -> ClassTable:
        """What the labels mean."""
        return self._class_map.classes

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> Annotated:
        """The shapes, drawn in their order; the size is the JSON's where it states one."""
        path = entry.annotation
        document = load_json(path)
        height, width = document.get('imageHeight'), document.get('imageWidth')
        if type(height) is int and type(width) is int and 0 < height * width <= self._max_pixels:
            size_hw = (height, width)
        labels: Labels = np.full(size_hw, self._class_map.unannotated_id, self.classes.label_dtype)
        unknown: dict[str, int] = {}
        for i, shape in enumerate(document['shapes']):
            where = f'{path}: shape {i}'
            if not isinstance(shape, dict) or not isinstance(shape.get('label'), str):
                raise InputError(f'{where}: expected an object with a label, got {shape!r:.80}')
            label = shape['label']
            if not self._class_map.is_known(label):
                unknown[label] = unknown.get(label, 0) + 1
                continue
            target = self._class_map.target(label)
            if target is not None:
                draw_shape(labels, shape, target, f"{where} ('{label}')", self._max_pixels)
        return Annotated(labels, unknown)

    def image_bytes(self, entry: Entry) -> bytes:
        """The file of the photograph, or the copy of it in the JSON."""
        if entry.image != entry.annotation:
            return read_bytes(entry.image)
        try:
            return base64.b64decode(load_json(entry.annotation)['imageData'], validate=True)
        except (binascii.Error, KeyError, TypeError, ValueError) as error:
            raise InputError(f'{entry.annotation}: imageData is damaged: {error}') from None

    def remedy(self, unknown: Sequence[str]) -> str:
        """What labels are expected."""
        return (
            f'expected one of {", ".join(self._class_map.targets)}: '
            f'{self._class_map.remedy(unknown[0])}'
        )


def open_labelme(config: DatasetConfig) -> Source:
    """Lists LabelMe's JSON files; see the module."""
    folder = config.path('annotations', '.')
    files = files_by_stem(folder, frozenset({'.json'}), is_recursive=config.is_recursive)
    if 'list' in config.paths:
        names = read_names(config.path('list', ''))
        files = {n: files.get(n, folder / f'{n}.json') for n in names}
    if config.class_names is None:
        raise ConfigurationError(
            'dataset.classes: LabelMe has no list of classes, so the order of their ids must be '
            f'given: a list or a file with one per line; found: {_found_labels(files.values())}'
        )
    class_map = build_class_map(
        config,
        our_classes(config, (), {}),
        source_names=None,
        default_remap={'__ignore__': IGNORE},
        background=_BACKGROUND,
    )
    class_map = dataclasses.replace(
        class_map, targets={'_background_': class_map.unannotated_id, **class_map.targets}
    )
    images_dir = config.path('images', config.text('annotations', '.'))
    by_stem = _images_by_stem(images_dir, config.is_recursive)
    entries, no_image, used = [], [], set()
    for stem, path in files.items():
        candidates = by_stem.get(stem, [])
        image = candidates[0] if len(candidates) == 1 else _image_named_in(path)
        if image is None:
            no_image.append(path)
            continue
        used.add(image)
        entries.append(Entry(stem, image, path))
    others = sorted({p for paths in by_stem.values() for p in paths} - used)
    return Source(
        LabelMeShapes(class_map, config.max_pixels),
        tuple(entries),
        where=f'{folder}/*.json',
        is_upright=True,
        masks_without_image=tuple(no_image),
        unannotated_images=tuple(others),
    )


def load_json(path: Path) -> dict[str, Any]:
    """LabelMe's JSON.

    Raises:
        InputError: it cannot be read or is not LabelMe's.
    """
    try:
        document = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path}: is not valid JSON: {error}') from None
    if not isinstance(document, dict) or not isinstance(document.get('shapes'), list):
        raise InputError(
            f"{path}: expected LabelMe's JSON, an object with a list of shapes: remove the file, "
            'or point annotations to another folder'
        )
    return document


def draw_shape(
    labels_YX: Labels, shape: dict[str, Any], target: int, where: str, max_pixels: int
) -> None:
    """Draws one shape into the labels; what lies outside of them is cut off.

    Raises:
        InputError: the shape has no area or its points are damaged.
    """
    kind = shape.get('shape_type') or 'polygon'  # LabelMe 3 knew nothing else
    if kind not in _MIN_POINTS:
        raise InputError(
            f'{where}: expected a shape with an area ({", ".join(_MIN_POINTS)}), got a {kind}: '
            "draw a polygon, or remap the label to 'drop'"
        )
    try:
        points = np.asarray(shape['points'], np.float64)
    except (KeyError, OverflowError, TypeError, ValueError):
        points = np.empty(0)
    num = _MIN_POINTS[kind]
    is_exact = kind == 'polygon' or len(points) == num
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < num or not is_exact:
        raise InputError(f'{where}: expected {num} points (x, y), got {shape.get("points")!r:.80}')
    if not np.isfinite(points).all() or np.abs(points).max() > 2**20:
        raise InputError(f'{where}: expected points near the image, got {points.tolist()!r:.80}')
    if kind == 'mask':
        _draw_mask(labels_YX, shape, points, target, where, max_pixels)
    elif kind == 'rectangle':
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        _fill(labels_YX, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), target)
    elif kind == 'circle':
        radius = float(np.hypot(*(points[1] - points[0])))
        num_sides = min(max(16, int(radius * 8)), _MAX_SIDES)
        angles = np.linspace(0, 2 * np.pi, num_sides, endpoint=False)
        circle = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        _fill(labels_YX, circle, target)
    else:
        _fill(labels_YX, points, target)


def _fill(labels_YX: Labels, points_xy: Any, target: int) -> None:
    # LabelMe counts from the corner of the first pixel, OpenCV from its centre.
    fixed = np.rint((points_xy - 0.5) * 2**_SUB_PIXEL_BITS).astype(np.int32)
    cv2.fillPoly(labels_YX, [fixed], (target,), shift=_SUB_PIXEL_BITS)


def _draw_mask(
    labels_YX: Labels, shape: dict[str, Any], points: Any, target: int, where: str, max_pixels: int
) -> None:
    """A brush stroke: a PNG of its box, whose corners (both inside) are the points."""
    try:
        data = base64.b64decode(shape['mask'], validate=True)
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(f'{where}: its mask is damaged: {error}') from None
    is_set = decode_index_mask(data, where, max_pixels=max_pixels) != 0
    x0, y0 = (int(v) for v in points.min(axis=0))
    height, width = is_set.shape
    x1, y1 = (int(v) + 1 for v in points.max(axis=0))
    if (y1 - y0, x1 - x0) != (height, width):
        raise InputError(
            f'{where}: expected a mask of {x1 - x0}x{y1 - y0} px between its points, got '
            f'{width}x{height} px'
        )
    top, left = max(y0, 0), max(x0, 0)
    part = labels_YX[top : max(y1, 0), left : max(x1, 0)]
    part[is_set[top - y0 :, left - x0 :][: part.shape[0], : part.shape[1]]] = target


def _images_by_stem(folder: Path, is_recursive: bool) -> dict[str, list[Path]]:
    """Unlike masks, photographs may share a stem: then the JSON says which is meant."""
    found = defaultdict(list)
    for path in sorted(folder.rglob('*') if is_recursive else folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.'):
            found[path.relative_to(folder).with_suffix('').as_posix()].append(path)
    return found


def _image_named_in(path: Path) -> Path | None:
    """The photograph that a JSON names; the JSON itself where it only has a copy of it."""
    document = load_json(path)
    name = document.get('imagePath')
    if isinstance(name, str) and name:
        image = path.parent / name.replace('\\', '/')  # written on Windows, read on Linux
        if image.is_file():
            return image
    return path if document.get('imageData') else None


def _found_labels(paths: Any) -> str:
    labels = {
        str(shape.get('label'))
        for path in list(paths)[:100]
        for shape in load_json(path)['shapes']
        if isinstance(shape, dict)
    }
    return ', '.join(sorted(labels)) or 'none'
