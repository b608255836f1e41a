"""Layout ``coco``: panoptic masks or object instances, as COCO's JSON describes them.

Keys: ``annotations`` (required), the JSON file; ``images``, its photographs (default
``{split}``, or ``images`` without split); ``masks``, the PNGs of a panoptic file (default: the
folder named like the JSON). Which of the two it is shows in the file. Classes are the file's
categories in the order of their ids; object instances put ``background`` before them for pixels
of no object.

Where objects overlap, smaller ones lie on top, as a cup lies on a table that was outlined whole.
Crowds count as their class. The JSON is read once, at opening, and kept in memory.

Source: cocodataset.org/#format-data; panopticapi (id = R + 256 G + 256² B, 0 is void).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.imaging.picture_files import decode_color_png, read_bytes
from seg_perception.structures import ClassTable, Labels
from seg_perception.training.datasets.config import DatasetConfig
from seg_perception.training.datasets.paired import Annotated, Entry, Source, file_bytes
from seg_perception.training.datasets.remapping import ClassMap, build_class_map, our_classes
from seg_perception.training.datasets.run_lengths import mask_codec, to_run_lengths

_BACKGROUND = 'background'


class _CategoryLabels:
    """What both kinds share: categories by id, and photographs that are files of their own."""

    def __init__(self, categories: Mapping[int, str], class_map: ClassMap) -> None:
        self._class_map = class_map
        self._targets = {i: class_map.target(name) for i, name in categories.items()}

    @property
    def classes(self) -> ClassTable:
        """What the labels mean."""
        return self._class_map.classes

    def image_bytes(self, entry: Entry) -> bytes:
        """The file of the photograph."""
        return file_bytes(entry)

    def remedy(self, unknown: Sequence[str]) -> str:
        """What ids are expected."""
        return (
            'expected a segment of segments_info whose category_id is in the categories of the '
            f'JSON ({len(self._targets)} are): correct the file'
        )

    def _blank(self, size_hw: tuple[int, int]) -> Labels:
        return np.full(size_hw, self._class_map.unannotated_id, self.classes.label_dtype)


class PanopticMasks(_CategoryLabels):
    """Labels from PNGs whose colours are segment ids. ``Entry.key`` is (segment, category)s."""

    def __init__(
        self, categories: Mapping[int, str], class_map: ClassMap, max_pixels: int
    ) -> None:
        super().__init__(categories, class_map)
        self._max_pixels = max_pixels

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> Annotated:
        """The class of each pixel's segment."""
        data = read_bytes(entry.annotation)
        rgb = decode_color_png(data, str(entry.annotation), max_pixels=self._max_pixels)
        segments_YX = rgb.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
        # Void, too, is a segment: nobody vouches for its pixels.
        segments = sorted({0: None, **dict(entry.key)}.items())
        ids = np.array([segment for segment, _ in segments], np.uint32)
        ours = np.full(len(ids), self._class_map.ignore_id, self.classes.label_dtype)
        unknown_segments = []
        for i, (_, category) in enumerate(segments):
            if category is None:
                ours[i] = self._class_map.unannotated_id
            elif category not in self._targets:
                unknown_segments.append((i, f'category {category}'))
            else:
                target = self._targets[category]
                ours[i] = self._class_map.unannotated_id if target is None else target
        found = np.searchsorted(ids, segments_YX).clip(max=len(ids) - 1)
        labels = ours[found]
        unknown: dict[str, int] = {}
        for i, text in unknown_segments:
            unknown[text] = unknown.get(text, 0) + int((found == i).sum())
        is_stray = ids[found] != segments_YX
        if is_stray.any():
            labels[is_stray] = self._class_map.ignore_id
            strays, counts = np.unique(segments_YX[is_stray], return_counts=True)
            unknown |= {f'segment {s}': int(n) for s, n in zip(strays, counts, strict=True)}
        return Annotated(labels, {text: count for text, count in unknown.items() if count})


class InstanceMasks(_CategoryLabels):
    """Labels from polygons and run lengths. ``Entry.key`` is the image's annotations."""

    def __init__(
        self, categories: Mapping[int, str], class_map: ClassMap, max_pixels: int
    ) -> None:
        super().__init__(categories, class_map)
        self._max_pixels = max_pixels

    def _size(self, entry: Entry, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size that the JSON states, else the photograph's."""
        height = size_hw[0] if entry.key['height'] is None else entry.key['height']
        width = size_hw[1] if entry.key['width'] is None else entry.key['width']
        is_size = all(type(side) is int and side > 0 for side in (height, width))
        if not is_size or height * width > self._max_pixels:
            raise InputError(
                f'{entry.annotation}: expected height and width of {entry.image.name} as whole '
                f'numbers of at most {self._max_pixels} px in all, got {height!r:.40} and '
                f'{width!r:.40}: correct the file, or raise max_pixels if it is real'
            )
        return height, width

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> Annotated:
        """The class of the smallest object at each pixel."""
        codec = mask_codec()
        key = entry.key
        size_hw = self._size(entry, size_hw)
        labels = self._blank(size_hw)
        unknown: dict[str, int] = {}
        drawn = []
        for annotation in key['annotations']:
            category = annotation['category_id']
            where = f'{entry.annotation}: annotation {annotation["id"]} of {entry.image.name}'
            rle = to_run_lengths(codec, annotation['segmentation'], size_hw, where)
            area = int(codec.area(rle))
            if category not in self._targets:
                name = f'category {category}'
                unknown[name] = unknown.get(name, 0) + area
                drawn.append((area, self._class_map.ignore_id, rle))
            elif (target := self._targets[category]) is not None:
                drawn.append((area, target, rle))
        for _, target, rle in sorted(drawn, key=lambda item: -item[0]):
            labels[codec.decode(rle).astype(bool)] = target
        return Annotated(labels, unknown)


def open_coco(config: DatasetConfig) -> Source:
    """Reads COCO's JSON; see the module."""
    if 'annotations' not in config.paths:
        raise ConfigurationError(
            'dataset.annotations: the layout coco needs its JSON file, e.g. '
            'annotations/panoptic_val2017.json'
        )
    path = config.path('annotations', '')
    images_dir = config.path('images', '{split}' if config.split else 'images')
    document = _load(path)
    try:
        categories = {int(c['id']): str(c['name']) for c in document['categories']}
        is_panoptic = any('segments_info' in a for a in document['annotations'][:1])
        if is_panoptic:
            return _open_panoptic(config, path, images_dir, document, categories)
        return _open_instances(config, path, images_dir, document, categories)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f'{path}: expected COCO JSON with images, annotations and categories, got '
            f'{type(error).__name__}: {error}'
        ) from error


def _open_panoptic(
    config: DatasetConfig,
    path: Path,
    images_dir: Path,
    document: dict[str, Any],
    categories: dict[int, str],
) -> Source:
    masks_dir = config.path('masks', config.text('annotations').removesuffix('.json'))
    names = [categories[i] for i in sorted(categories)]
    class_map = build_class_map(config, our_classes(config, names, {}), source_names=names)
    file_names = {image['id']: image['file_name'] for image in document['images']}
    images, masks = _files(images_dir), _files(masks_dir)
    entries, no_mask, no_image = [], [], []
    for annotation in document['annotations']:
        image = images_dir / file_names[annotation['image_id']]
        mask = masks_dir / annotation['file_name']
        segments = tuple(
            (int(s['id']), int(s['category_id'])) for s in annotation['segments_info']
        )
        if any(not 0 <= segment < 2**24 for segment, _ in segments):
            raise ValueError(f'segments of {annotation["file_name"]} are not of 0 to 2**24 - 1')
        if image not in images:
            no_image.append(image)
        elif mask not in masks:
            no_mask.append(image)
        else:
            entries.append(Entry(Path(annotation['file_name']).stem, image, mask, segments))
    annotated = {annotation['image_id'] for annotation in document['annotations']}
    no_mask += [images_dir / name for i, name in file_names.items() if i not in annotated]
    return Source(
        PanopticMasks(categories, class_map, config.max_pixels),
        tuple(sorted(entries, key=lambda entry: entry.name)),
        where=f'{path} and {images_dir}',
        images_without_mask=tuple(no_mask),
        masks_without_image=tuple(no_image),
    )


def _open_instances(
    config: DatasetConfig,
    path: Path,
    images_dir: Path,
    document: dict[str, Any],
    categories: dict[int, str],
) -> Source:
    mask_codec()  # at once, not in a worker after an hour
    theirs = [categories[i] for i in sorted(categories)]
    names = [_BACKGROUND, *(name for name in theirs if name != _BACKGROUND)]
    class_map = build_class_map(
        config, our_classes(config, names, {}), source_names=theirs, background=_BACKGROUND
    )
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in document['annotations']:
        kept = {key: annotation[key] for key in ('id', 'segmentation')}
        kept['category_id'] = int(annotation['category_id'])
        by_image.setdefault(annotation['image_id'], []).append(kept)
    images = _files(images_dir)
    entries, no_image = [], []
    for image in document['images']:
        file = images_dir / image['file_name']
        if file not in images:
            no_image.append(file)
            continue
        key = {
            'height': image.get('height'),
            'width': image.get('width'),
            'annotations': by_image.get(image['id'], []),
        }
        name = Path(image['file_name']).with_suffix('').as_posix()
        entries.append(Entry(name, file, path, key))
    return Source(
        InstanceMasks(categories, class_map, config.max_pixels),
        tuple(sorted(entries, key=lambda entry: entry.name)),
        where=f'{path} and {images_dir}',
        masks_without_image=tuple(no_image),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path}: is not valid JSON: {error}') from None
    if not isinstance(document, dict):
        raise InputError(f'{path}: expected COCO JSON, an object, got {type(document).__name__}')
    return document


def _files(folder: Path) -> set[Path]:
    if not folder.is_dir():
        raise ConfigurationError(f'expected a folder of images or masks, {folder} is none')
    return {path for path in folder.rglob('*') if path.is_file()}
