"""The one implementation of ``SegmentationDataset``: listed images and what reads their labels.

Shape suffixes: Y/X image pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seg_perception.errors import InputError
from seg_perception.imaging.picture_files import decode_image, exif_orientation, read_bytes
from seg_perception.structures import U8, ClassTable, Labels
from seg_perception.training.datasets.config import DatasetConfig
from seg_perception.training.datasets.sample import Sample


@dataclass(frozen=True, slots=True)
class Entry:
    """One image and its annotation, as listed; neither has been opened.

    Attributes:
        name: unique in the dataset.
        image: the photograph, or the annotation file where that carries the photograph.
        annotation: the file with the labels.
        key: what finds the labels in a file that holds those of many images.
    """

    name: str
    image: Path
    annotation: Path
    key: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """The labels of one image.

    Attributes:
        labels_YX: our ids or the ignore id.
        unknown: ids or names that are not in the table, with their number of pixels (shapes,
            where they could not be drawn); their pixels are ignored.
    """

    labels_YX: Labels
    unknown: Mapping[str, int]


class Annotations(Protocol):
    """Reads the labels of one layout; picklable."""

    @property
    def classes(self) -> ClassTable:
        """What the labels mean."""

    def read(self, entry: Entry, size_hw: tuple[int, int]) -> Annotated:
        """Labels of one image.

        Args:
            entry: which.
            size_hw: of the image, for annotations that do not state their own.

        Raises:
            InputError: they cannot be read.
        """

    def image_bytes(self, entry: Entry) -> bytes:
        """The file of the photograph.

        Raises:
            InputError: it cannot be read.
        """

    def remedy(self, unknown: Sequence[str]) -> str:
        """What is expected instead of unknown ids or names, and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a layout found at its root.

    Attributes:
        annotations: reads the labels.
        entries: images with annotation, in the order of their names or of their list.
        is_upright: the layout's default for ``exif_orientation``.
        images_without_mask: images, or names of a list, that have none.
        masks_without_image: masks, or names of a list, that have none.
        where: what was searched, for messages.
        unannotated_images: images nobody annotated yet, where that is usual; left out.
    """

    annotations: Annotations
    entries: tuple[Entry, ...]
    where: str
    is_upright: bool = False
    images_without_mask: tuple[Path, ...] = ()
    masks_without_image: tuple[Path, ...] = ()
    unannotated_images: tuple[Path, ...] = ()


class PairedDataset:
    """Images with annotations of any layout; see ``SegmentationDataset``.

    Args:
        config: the dataset's description.
        source: what its layout found.

    Raises:
        InputError: there is no annotated image, or some have no counterpart.
    """

    def __init__(self, config: DatasetConfig, source: Source) -> None:
        if not config.skips_unpaired:
            check_pairs(source)
        if not source.entries:
            raise InputError(f'{source.where}: expected annotated images, found none')
        self.entries = tuple(config.select(source.entries, [e.name for e in source.entries]))
        self.annotations = source.annotations
        self._max_pixels = config.max_pixels
        self.is_upright = source.is_upright if config.is_upright is None else config.is_upright

    @property
    def classes(self) -> ClassTable:
        """What the ids of ``labels_YX`` mean."""
        return self.annotations.classes

    @property
    def ignore_id(self) -> int:
        """255, 65535 above 255 classes."""
        return self.classes.unlabeled_id

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        """The name of a sample, without reading it."""
        return self.entries[index].name

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        image = self.decode(entry, self.annotations.image_bytes(entry))
        annotated = self.read_labels(entry, image)
        complaint = self.size_complaint(entry, image, annotated.labels_YX)
        if complaint:
            raise InputError(complaint)
        if annotated.unknown:
            found = list(annotated.unknown)
            listed = ', '.join(found[:8]) + (', …' if len(found) > 8 else '')
            raise InputError(
                f'{entry.annotation}: unknown label {listed}; {self.annotations.remedy(found)}'
            )
        return Sample(image, annotated.labels_YX, entry.name)

    def decode(self, entry: Entry, data: bytes) -> U8:
        """The photograph in a file's bytes as RGB, (Y, X, 3)."""
        return decode_image(
            data, str(entry.image), is_upright=self.is_upright, max_pixels=self._max_pixels
        )

    def read_labels(self, entry: Entry, image_YX3: U8) -> Annotated:
        """Labels of an image as its annotation has them: size and unknown ids are not checked.

        Raises:
            InputError: the annotation cannot be read.
        """
        return self.annotations.read(entry, (image_YX3.shape[0], image_YX3.shape[1]))

    def size_complaint(self, entry: Entry, image_YX3: U8, labels_YX: Labels) -> str:
        """What is wrong with the size of an annotation; '' where it is its image's."""
        size_hw = image_YX3.shape[:2]
        mask_hw = labels_YX.shape
        if mask_hw == size_hw:
            return ''
        remedy = 'annotate the image at its own size'
        if mask_hw == size_hw[::-1]:
            orientation = exif_orientation(self.annotations.image_bytes(entry))
            if orientation >= 5:
                other = 'ignore' if self.is_upright else 'apply'
                remedy = (
                    f'the image has EXIF orientation {orientation}: set exif_orientation: {other}'
                )
        return (
            f'{entry.annotation}: expected the size of its image {entry.image}, '
            f'{size_hw[1]}x{size_hw[0]} px, got {mask_hw[1]}x{mask_hw[0]} px: {remedy}'
        )


def check_pairs(source: Source) -> None:
    """Raises an InputError naming images without mask and masks without image."""
    for paths, lacks, remedy in (
        (source.images_without_mask, 'no mask', 'annotate or remove'),
        (source.masks_without_image, 'no image', 'add the images of or remove'),
    ):
        if paths:
            listed = ', '.join(map(str, paths[:3])) + (', …' if len(paths) > 3 else '')
            raise InputError(
                f'{len(paths)} file(s) have {lacks}: {listed}; {remedy} them, or set '
                'unpaired: skip'
            )


def file_bytes(entry: Entry) -> bytes:
    """The photograph of an entry whose ``image`` is a file of its own."""
    return read_bytes(entry.image)
