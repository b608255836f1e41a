"""What every dataset gives: samples by index, and what their label values mean.

Shape suffixes: Y/X image pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from seg_perception.structures import U8, ClassTable, Labels


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One annotated image.

    Attributes:
        image_YX3: uint8 RGB of shape (Y, X, 3), the caller's own.
        labels_YX: ids of the dataset's ``classes`` or its ``ignore_id``, shape (Y, X), uint8
            (uint16 above 255 classes).
        name: stable and unique in the dataset; names the image in reports.
    """

    image_YX3: U8
    labels_YX: Labels
    name: str


class SegmentationDataset(Protocol):
    """Annotated images by index.

    A map-style dataset as torch's DataLoader wants it: picklable for its workers, and nothing is
    decoded before it is asked for.
    """

    @property
    def classes(self) -> ClassTable:
        """What the ids of ``labels_YX`` mean."""

    @property
    def ignore_id(self) -> int:
        """Marks pixels that take no part in loss and metrics: 255, 65535 above 255 classes."""

    def __len__(self) -> int:
        """Number of samples, at least one."""

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample.

        Raises:
            InputError: a file is unreadable, image and labels differ in size, or a label is
                not in the table; the message names the file.
            IndexError: no such sample.
        """

    def name(self, index: int) -> str:
        """The name of a sample, without reading it."""
