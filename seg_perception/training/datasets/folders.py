"""Layout ``folders``: images in one folder, index masks in another, paired by name.

Keys: ``images`` (default ``images``) and ``masks`` (default ``masks``), folders in which
``{split}`` becomes the split; ``image_suffix`` and ``mask_suffix``, what the stems end with
(``_mask`` pairs ``a.jpg`` with ``a_mask.png``); ``recursive``, to pair subfolder by subfolder;
``list``, a file with one stem per line; ``source_classes``, names by mask value, where they are
not the positions in ``classes``. Mask values 255 and 65535 are void unless ``void_ids`` says
otherwise.

Also holds what the other layouts with index masks are made of.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.imaging.picture_files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    decode_index_mask,
    read_bytes,
)
from seg_perception.structures import ClassTable
from seg_perception.training.datasets.config import DatasetConfig, read_names
from seg_perception.training.datasets.paired import Annotated, Entry, Source, file_bytes
from seg_perception.training.datasets.remapping import (
    IdTable,
    build_class_map,
    format_ids,
    our_classes,
)
from seg_perception.training.datasets.tables import Color


class IndexMasks:
    """Labels from masks whose values are class ids."""

    def __init__(self, table: IdTable, max_pixels: int) -> None:
        self._table = table
        self._max_pixels = max_pixels

    @property
    def classes(self) -> ClassTable:
        """What the labels mean."""
        return self._table.class_map.classes

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> Annotated:
        """The mask, mapped to our ids."""
        data = read_bytes(entry.annotation)
        mask = decode_index_mask(data, str(entry.annotation), max_pixels=self._max_pixels)
        return Annotated(*self._table.apply(mask))

    def image_bytes(self, entry: Entry) -> bytes:
        """The file of the photograph."""
        return file_bytes(entry)

    def remedy(self, unknown: Sequence[str]) -> str:
        """What values are expected."""
        return (
            f'expected {format_ids(self._table.known)}: correct the mask, name the id in '
            'source_classes or classes, or list it in void_ids'
        )


def index_masks(
    config: DatasetConfig,
    source_classes: Mapping[int, str],
    *,
    colors: Mapping[str, Color],
    void_ids: tuple[int, ...] = (),
    default_remap: Mapping[str, str] | None = None,
    default_names: Iterable[str] | None = None,
) -> IndexMasks:
    """The reader of a layout's masks.

    Args:
        config: what overrides the following.
        source_classes: the layout's names by mask value.
        colors: by name of class.
        void_ids: mask values that are ignored.
        default_remap: of classes that are not among ours.
        default_names: our classes where none are given; all of theirs if None.
    """
    theirs = config.source_classes or source_classes
    names = [theirs[i] for i in sorted(theirs)]
    classes = our_classes(config, default_names or names, colors)
    class_map = build_class_map(config, classes, source_names=names, default_remap=default_remap)
    if config.void_ids is None:
        # The convention for voids holds for values that are no class.
        voids = [value for value in void_ids if value not in theirs]
    else:
        voids = list(config.void_ids)
        theirs = {value: name for value, name in theirs.items() if value not in voids}
    return IndexMasks(IdTable(theirs, class_map, voids), config.max_pixels)


def open_folders(config: DatasetConfig) -> Source:
    """Pairs two folders; see the module."""
    if config.class_names is None and config.source_classes is None:
        raise ConfigurationError(
            'dataset.classes: the layout folders needs the names of the mask values, in their '
            'order: a list or a file with one per line'
        )
    theirs = config.source_classes or dict(enumerate(config.class_names or ()))
    masks = index_masks(config, theirs, colors={}, void_ids=(255, 65535))
    return pair_folders(
        config,
        masks,
        config.path('images', 'images'),
        config.path('masks', 'masks'),
        image_suffix=config.text('image_suffix'),
        mask_suffix=config.text('mask_suffix'),
        is_recursive=config.is_recursive,
    )


def pair_folders(
    config: DatasetConfig,
    masks: IndexMasks,
    images_dir: Path,
    masks_dir: Path,
    *,
    image_suffix: str = '',
    mask_suffix: str = '',
    is_recursive: bool = False,
) -> Source:
    """Images and masks whose names agree but for the suffixes."""
    images = files_by_stem(images_dir, IMAGE_SUFFIXES, image_suffix, is_recursive)
    masks_by_stem = files_by_stem(masks_dir, MASK_SUFFIXES, mask_suffix, is_recursive)
    if images_dir == masks_dir:
        if image_suffix == mask_suffix:
            raise ConfigurationError(
                f'dataset.masks: images and masks are both in {images_dir}: set mask_suffix or '
                'image_suffix to tell them apart'
            )
        mask_files = set(masks_by_stem.values())
        image_files = set(images.values())
        if mask_suffix.endswith(image_suffix):
            images = {k: v for k, v in images.items() if v not in mask_files}
        else:
            masks_by_stem = {k: v for k, v in masks_by_stem.items() if v not in image_files}
    stems = sorted({*images, *masks_by_stem})
    if 'list' in config.paths:
        stems = read_names(config.path('list', ''))
    return pair(stems, images, masks_by_stem, masks, images_dir, masks_dir)


def pair(
    stems: Iterable[str],
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    annotations: IndexMasks,
    images_dir: Path,
    masks_dir: Path,
) -> Source:
    """Entries for the stems that have both, and what lacks one; repeated stems count once."""
    stems = list(dict.fromkeys(stems))
    return Source(
        annotations,
        tuple(Entry(s, images[s], masks[s]) for s in stems if s in images and s in masks),
        where=f'{images_dir} and {masks_dir}',
        images_without_mask=tuple(images.get(s, images_dir / s) for s in stems if s not in masks),
        masks_without_image=tuple(masks[s] for s in stems if s in masks and s not in images),
    )


def files_by_stem(
    folder: Path, suffixes: frozenset[str], stem_suffix: str = '', is_recursive: bool = False
) -> dict[str, Path]:
    """The files of a folder by the part of their name that pairs them.

    Args:
        folder: where; hidden files are left out.
        suffixes: file types, in lower case.
        stem_suffix: only stems that end with it are taken, and it is cut off.
        is_recursive: search subfolders; the key is the path below ``folder``.

    Raises:
        ConfigurationError: there is no such folder.
        InputError: two files have the same stem.
    """
    if not folder.is_dir():
        raise ConfigurationError(f'expected a folder of images or masks, {folder} is none')
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        if not is_recursive:
            folders.clear()
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith('.') or path.suffix.lower() not in suffixes:
                continue
            if not path.stem.endswith(stem_suffix):
                continue
            stem = path.stem[: len(path.stem) - len(stem_suffix)]
            key = (path.parent / stem).relative_to(folder).as_posix()
            if key in found:
                raise InputError(f'{found[key]} and {path} have the same stem: remove one')
            found[key] = path
    return found
