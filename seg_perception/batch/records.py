"""What is kept of every finished input, for what is made of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from seg_perception.batch.coco import picture_annotations
from seg_perception.batch.outputs import Picture, count_pixels


@dataclass(frozen=True, slots=True)
class Record:
    """A finished input; goes to the journal as JSON and comes back the same.

    Attributes:
        choices: which outputs were made.
        codec: of a video's overlay; empty for photographs.
        size_wh: of its pictures.
        num_pictures: 1 for a photograph.
        num_objects: of all its pictures; None where the model does not tell objects apart.
        num_pixels: by class id, and of none at the end, of all its pictures.
        is_turned: whether EXIF data had the photograph turned.
        num_tiles: how many pictures for the contact sheet were asked for.
        tiles: those that were made: file, and number of the picture in a video.
        annotations: of COCO, by picture; None where they were not asked for.
    """

    choices: Sequence[str]
    codec: str
    size_wh: Sequence[int]
    num_pictures: int
    num_objects: int | None
    num_pixels: Sequence[int]
    is_turned: bool
    num_tiles: int
    tiles: Sequence[Sequence[Any]]
    annotations: Sequence[Sequence[dict[str, Any]]] | None

    def without_annotations(self) -> Record:
        """The same, small enough to be kept in memory of any number of inputs."""
        return replace(self, annotations=None)

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Record:
        """From the journal."""
        return cls(**values)


class Counter:
    """Adds up the pictures of one input.

    Args:
        has_annotations: whether COCO's annotations are wanted.
    """

    def __init__(self, *, has_annotations: bool) -> None:
        self._annotations: list[list[dict[str, Any]]] | None = [] if has_annotations else None
        self._num_pixels: list[int] = []
        self._num_objects: int | None = None
        self._size_wh = (0, 0)
        self.num_pictures = 0

    def add(self, picture: Picture) -> None:
        """Counts the next picture."""
        result = picture.segmentation
        height, width = result.labels_YX.shape
        self._size_wh = (width, height)
        counts = count_pixels(result)
        self._num_pixels = [
            a + b for a, b in zip(self._num_pixels or [0] * len(counts), counts, strict=True)
        ]
        if result.objects is not None:
            self._num_objects = (self._num_objects or 0) + len(result.objects.items)
        if self._annotations is not None:
            self._annotations.append(picture_annotations(result))
        self.num_pictures += 1

    def record(
        self,
        choices: Sequence[str],
        num_tiles: int,
        tiles: Sequence[tuple[str, int | None]],
        *,
        codec: str = '',
        is_turned: bool = False,
    ) -> Record:
        """What was counted; see `Record`."""
        return Record(
            choices=choices,
            codec=codec,
            size_wh=self._size_wh,
            num_pictures=self.num_pictures,
            num_objects=self._num_objects,
            num_pixels=self._num_pixels,
            is_turned=is_turned,
            num_tiles=num_tiles,
            tiles=tiles,
            annotations=self._annotations,
        )
