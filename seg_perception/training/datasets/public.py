"""Layouts of public datasets with index masks: CamVid, PASCAL VOC, Cityscapes, ADE20K.

- ``camvid``: the SegNet tutorial's. ``{split}.txt`` with ``{split}`` and ``{split}annot`` beside
  it (paths in the list are of its author's machine; their last two parts count), or
  ``{split}/images`` and ``{split}/labels``. 11 classes, 11 is void.
- ``voc``: ``ImageSets/Segmentation/{split}.txt``, ``JPEGImages``, ``SegmentationClass`` (another
  folder with ``masks``, e.g. ``SegmentationClassAug``), at the root or in ``VOC2012`` or
  ``VOCdevkit/VOC2012`` below it. 21 classes, 255 is void.
- ``cityscapes``: ``leftImg8bit/{split}/*/*_leftImg8bit.png`` with
  ``gtFine/{split}/*/*_gtFine_labelIds.png`` (``masks: gtCoarse`` for those). 19 classes; the
  other ids are ignored unless remap says otherwise.
- ``ade20k``: ``images/{split}`` and ``annotations/{split}`` of the SceneParsing benchmark, split
  ``training`` or ``validation``. 150 classes; 0 (other) is ignored unless ``other`` is among
  ``classes`` or remapped.
"""

from __future__ import annotations

from pathlib import Path

from seg_perception.errors import ConfigurationError
from seg_perception.imaging.picture_files import IMAGE_SUFFIXES, MASK_SUFFIXES
from seg_perception.training.datasets.config import DatasetConfig, read_names
from seg_perception.training.datasets.folders import (
    files_by_stem,
    index_masks,
    pair,
    pair_folders,
)
from seg_perception.training.datasets.paired import Source
from seg_perception.training.datasets.tables import (
    ADE20K,
    ADE20K_OTHER,
    CAMVID,
    CAMVID_VOID_ID,
    CITYSCAPES,
    CITYSCAPES_IDS,
    VOC,
    VOC_VOID_ID,
)


def open_camvid(config: DatasetConfig) -> Source:
    """CamVid as the SegNet tutorial has it; see the module."""
    masks = index_masks(config, dict(enumerate(CAMVID)), colors=CAMVID, void_ids=(CAMVID_VOID_ID,))
    split = _split(config, 'train, val or test')
    list_file = config.path('list', '{split}.txt')
    if not list_file.is_file():
        return pair_folders(
            config,
            masks,
            config.path('images', '{split}/images'),
            config.path('masks', '{split}/labels'),
        )
    images, labels = config.root / split, config.root / f'{split}annot'
    stems = []
    for line in read_names(list_file):
        image, _, mask = line.replace('\\', '/').partition(' ')
        if mask and Path(mask.strip()).stem != Path(image).stem:
            raise ConfigurationError(
                f'{list_file}: expected an image and its mask of the same name, got {line!r}'
            )
        stems.append(Path(image).stem)
    return pair(
        stems,
        files_by_stem(images, IMAGE_SUFFIXES),
        files_by_stem(labels, MASK_SUFFIXES),
        masks,
        images,
        labels,
    )


def open_voc(config: DatasetConfig) -> Source:
    """PASCAL VOC's development kit; see the module."""
    masks = index_masks(config, dict(enumerate(VOC)), colors=VOC, void_ids=(VOC_VOID_ID,))
    root = next(
        (
            r
            for r in (config.root, config.root / 'VOC2012', config.root / 'VOCdevkit/VOC2012')
            if (r / 'JPEGImages').is_dir()
        ),
        config.root,
    )
    split = _split(config, 'train, val or trainval')
    images_dir = root / config.text('images', 'JPEGImages')
    masks_dir = root / config.text('masks', 'SegmentationClass')
    return pair(
        read_names(root / config.text('list', f'ImageSets/Segmentation/{split}.txt')),
        files_by_stem(images_dir, IMAGE_SUFFIXES),
        files_by_stem(masks_dir, MASK_SUFFIXES),
        masks,
        images_dir,
        masks_dir,
    )


def open_cityscapes(config: DatasetConfig) -> Source:
    """Cityscapes' labelIds; see the module."""
    masks = index_masks(
        config,
        dict(enumerate(CITYSCAPES_IDS)),
        colors=CITYSCAPES,
        void_ids=(255,),
        default_remap={name: 'ignore' for name in CITYSCAPES_IDS if name not in CITYSCAPES},
        default_names=CITYSCAPES,
    )
    split = _split(config, 'train or val')
    kind = config.text('masks', 'gtFine')
    return pair_folders(
        config,
        masks,
        config.root / config.text('images', 'leftImg8bit') / split,
        config.root / kind / split,
        image_suffix='_leftImg8bit',
        mask_suffix=f'_{Path(kind).name}_labelIds',
        is_recursive=True,
    )


def open_ade20k(config: DatasetConfig) -> Source:
    """ADE20K of the SceneParsing benchmark; see the module."""
    masks = index_masks(
        config,
        dict(enumerate((ADE20K_OTHER, *ADE20K))),
        colors={},
        default_remap={ADE20K_OTHER: 'ignore'},
        default_names=ADE20K,
    )
    split = _split(config, 'training or validation')
    return pair_folders(
        config,
        masks,
        config.root / config.text('images', 'images') / split,
        config.root / config.text('masks', 'annotations') / split,
    )


def _split(config: DatasetConfig, choices: str) -> str:
    if not config.split:
        raise ConfigurationError(f'dataset.split: the layout {config.layout} needs one: {choices}')
    return config.split
