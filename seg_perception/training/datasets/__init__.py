"""Annotated images in the layouts people have them in, as one kind of dataset.

``LAYOUTS`` is the table; ``config`` describes the configuration, each layout's module its own
keys. ``check`` finds what is wrong with a dataset before a training does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.errors import ConfigurationError
from seg_perception.training.datasets.coco import open_coco
from seg_perception.training.datasets.config import DatasetConfig, dataset_configs, parse_config
from seg_perception.training.datasets.folders import open_folders
from seg_perception.training.datasets.labelme import open_labelme
from seg_perception.training.datasets.paired import PairedDataset, Source
from seg_perception.training.datasets.public import (
    open_ade20k,
    open_camvid,
    open_cityscapes,
    open_voc,
)
from seg_perception.training.datasets.sample import Sample, SegmentationDataset

__all__ = [
    'LAYOUTS',
    'Sample',
    'SegmentationDataset',
    'dataset_configs',
    'find_source',
    'open_dataset',
]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a kind of dataset is opened.

    Attributes:
        find: lists what is there; nothing but listings and JSON indices is read.
        keys: of the configuration, that it reads beside those of all layouts.
        summary: one line for people.
    """

    find: Callable[[DatasetConfig], Source]
    keys: frozenset[str]
    summary: str


LAYOUTS: Mapping[str, Layout] = {
    'folders': Layout(
        open_folders,
        frozenset(
            {'images', 'masks', 'image_suffix', 'mask_suffix', 'recursive', 'list'}
            | {'source_classes'}
        ),
        'a folder of images and one of index masks',
    ),
    'camvid': Layout(
        open_camvid,
        frozenset({'images', 'masks', 'list', 'source_classes'}),
        "CamVid as in SegNet's tutorial",
    ),
    'voc': Layout(
        open_voc,
        frozenset({'images', 'masks', 'list', 'source_classes'}),
        'PASCAL VOC development kit',
    ),
    'cityscapes': Layout(
        open_cityscapes, frozenset({'images', 'masks'}), 'Cityscapes, labelIds, 19 classes'
    ),
    'ade20k': Layout(
        open_ade20k, frozenset({'images', 'masks'}), 'ADE20K SceneParsing, 150 classes'
    ),
    'coco': Layout(
        open_coco,
        frozenset({'images', 'masks', 'annotations'}),
        'COCO panoptic or instance JSON',
    ),
    'labelme': Layout(
        open_labelme,
        frozenset({'images', 'annotations', 'recursive', 'list'}),
        "LabelMe's JSON files",
    ),
}
"""The layouts by name."""

_OWN_KEYS = frozenset().union(*(layout.keys for layout in LAYOUTS.values()))


def open_dataset(config: Mapping[str, Any], *, base_dir: Path | str = '.') -> SegmentationDataset:
    """Opens a dataset. Only folders, lists and JSON indices are read.

    Args:
        config: its description, see ``config``.
        base_dir: folder that a relative ``root`` starts from.

    Raises:
        ConfigurationError: the description has an unknown, missing or impossible value.
        InputError: there are no annotated images, or some have no counterpart.
        MissingExtraError: COCO instances without pycocotools.
    """
    parsed, source = find_source(config, base_dir=base_dir)
    return PairedDataset(parsed, source)


def find_source(
    config: Mapping[str, Any], *, base_dir: Path | str = '.'
) -> tuple[DatasetConfig, Source]:
    """What a dataset's folders hold, whether or not it can be used; for checking.

    Raises:
        ConfigurationError: the description has an unknown, missing or impossible value.
        InputError: an index cannot be read.
    """
    parsed = parse_config(config, base_dir=Path(base_dir), layouts=tuple(LAYOUTS))
    layout = LAYOUTS[parsed.layout]
    unused = sorted((_OWN_KEYS - layout.keys) & {k for k, v in config.items() if v is not None})
    if unused:
        raise ConfigurationError(
            f'dataset.{unused[0]}: the layout {parsed.layout} does not read it; it reads '
            f'{", ".join(sorted(layout.keys))}: remove it'
        )
    return parsed, layout.find(parsed)
