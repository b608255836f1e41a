"""What every source of frames offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.structures import CompressedFrame, Frame


@dataclass(frozen=True, slots=True, eq=False)
class SourceFrame:
    """One picture of a source.

    Attributes:
        frame: the picture. Its ``stamp_ns`` and ``frame_id`` are those of the recording, 0 and
            empty where it has none.
        offset_s: seconds since the source's first picture when it was taken; None where the
            source has no time of its own (photographs, live cameras).
        name: what a person would call it, e.g. the file's name.
    """

    frame: Frame | CompressedFrame
    offset_s: float | None = None
    name: str = ''


class FrameSource(Protocol):
    """Something that gives pictures one after another.

    Attributes:
        description: what it is, for a log line.
        is_live: whether it gives pictures at its own pace and cannot be played again.
    """

    description: str
    is_live: bool

    @property
    def intrinsics(self) -> Intrinsics | None:
        """The calibration that came with the recording, if one did."""

    def frames(self) -> Iterator[SourceFrame]:
        """The pictures from the first to the last; each call starts anew.

        Raises:
            InputError: a picture cannot be read.
        """

    def close(self) -> None:
        """Lets go of files and devices; harmless when repeated."""
