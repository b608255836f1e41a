"""Videos and live streams: every picture segmented, the overlay a video again.

A video that was interrupted is decoded and drawn from its beginning, which is quick; the pictures
that were segmented before are not segmented again (see `FrameStore`).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from seg_perception.batch.contact_sheet import small_overlay
from seg_perception.batch.frame_store import FrameStore
from seg_perception.batch.outputs import OUTPUTS, Picture, encode_png
from seg_perception.batch.overlap import WriteBehind, read_ahead
from seg_perception.batch.plan import Task
from seg_perception.batch.records import Counter, Record
from seg_perception.batch.running import BatchRunner
from seg_perception.errors import InputError, OutputError
from seg_perception.imaging.convert import to_rgb
from seg_perception.sources import SourceFrame
from seg_perception.structures import U8, ClassTable, Frame, Segmentation
from seg_perception.whole_file import replaced_whole, write_whole

CODECS = {'mpeg4': 'mp4v', 'vp9': 'vp09'}
"""Of overlay videos: MPEG-4 part 2 for its speed, VP9 for browsers."""
DEFAULT_RATE_HZ = 10.0
"""Of what does not say its own."""


class VideoLike(Protocol):
    """A video or a live stream (``sources``)."""

    is_live: bool
    rate_hz: float | None

    def frames(self) -> Iterator[SourceFrame]:
        """The pictures."""
        ...


class OverlayVideo:
    """A video file that pictures are added to.

    Args:
        path: of an ``.mp4``.
        size_wh: of the pictures; others are made as large.
        rate_hz: pictures per second.
        codec: of `CODECS`.

    Raises:
        OutputError: OpenCV cannot write such a video here.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], rate_hz: float, codec: str) -> None:
        self._size_wh = size_wh
        fourcc = cv2.VideoWriter.fourcc(*CODECS[codec])
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate_hz, size_wh)
        if not self._writer.isOpened():
            raise OutputError(
                f'{path}: this OpenCV cannot write a video of {size_wh[0]}x{size_wh[1]} px with '
                f'codec {codec}: try another codec, or leave the overlay out'
            )

    def add(self, image_rgb: U8) -> None:
        """Adds a picture."""
        if image_rgb.shape[1::-1] != self._size_wh:
            resized = cv2.resize(image_rgb, self._size_wh, interpolation=cv2.INTER_AREA)
            image_rgb = np.asarray(resized, np.uint8)
        self._writer.write(np.ascontiguousarray(image_rgb[..., ::-1]))

    def close(self) -> None:
        """Completes the file."""
        self._writer.release()


class _Writer:
    """Makes the files of one video, picture by picture; used by one thread at a time."""

    def __init__(
        self,
        task: Task,
        folder: Path,
        overlay: Path | None,
        rate_hz: float,
        codec: str,
        tile_frames: Sequence[int],
        *,
        is_live: bool,
    ) -> None:
        self._task = task
        self._folder = folder
        self._overlay = overlay
        self._rate_hz = rate_hz
        self._codec = codec
        self._tile_frames = tile_frames
        self._is_live = is_live
        self._video: OverlayVideo | None = None
        self._start_s = 0.0
        self._num_drawn = 0
        self._latest: U8 | None = None
        self.tiles: list[tuple[str, int | None]] = []
        self.names: list[str] = []
        self.counter = Counter(has_annotations=task.has_annotations)

    def add(self, picture: Picture, time_s: float) -> None:
        """Takes the next picture.

        Args:
            picture: it.
            time_s: when it came, on a clock that does not jump; only looked at of live streams.
        """
        index = self.counter.num_pictures
        if self._overlay is not None:
            self._draw(picture.overlay(), time_s)
        for choice in self._task.choices:
            if choice != 'overlay':
                suffix = OUTPUTS[choice].suffix.rpartition('.')[2]
                name = f'{self._task.output(choice)}/{index:06d}.{suffix}'
                self._write(name, OUTPUTS[choice].encode(picture))
        if index in self._tile_frames:
            name = self._task.tile(len(self.tiles))
            self._write(name, encode_png(small_overlay(picture)))
            self.tiles.append((name, index))
        self.counter.add(picture)

    def close(self) -> None:
        """Completes the overlay video."""
        if self._video is not None:
            if self._latest is not None:
                self._video.add(self._latest)
            self._video.close()
            self._video = self._latest = None

    def _draw(self, overlay: U8, time_s: float) -> None:
        if self._video is None:
            assert self._overlay is not None
            size_wh = overlay.shape[1], overlay.shape[0]
            self._video = OverlayVideo(self._overlay, size_wh, self._rate_hz, self._codec)
            self._start_s = time_s
        if not self._is_live:
            self._video.add(overlay)
            return
        # The video has a fixed rate and what is live has not: what is seen stays until the next.
        due = round((time_s - self._start_s) * self._rate_hz)
        while self._latest is not None and self._num_drawn < due:
            self._video.add(self._latest)
            self._num_drawn += 1
        self._latest = overlay

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        self.names.append(name)


def segment_video(
    task: Task,
    source: VideoLike,
    runner: BatchRunner[Any],
    folder: Path,
    kept: FrameStore | None,
    *,
    tile_frames: Sequence[int],
    codec: str,
    batch_size: int,
    num_workers: int,
    on_picture: Callable[[bool], None],
) -> tuple[list[str], Record]:
    """Segments a video or a live stream.

    Args:
        task: what is to be made of it.
        source: it.
        runner: has the model.
        folder: of the results.
        kept: keeps its segmentations while it is not finished; None of what is live.
        tile_frames: pictures that go onto the contact sheet.
        codec: of the overlay, of `CODECS`.
        batch_size: pictures that go through the model together.
        num_workers: 0 for one thing after the other.
        on_picture: called after each, with whether it was segmented now.

    Returns:
        The files, relative to the folder, and what to keep.

    Raises:
        InputError: there is no picture, or one cannot be segmented.
        OutputError: a file cannot be written.
    """
    for choice in task.choices:
        if choice != 'overlay':  # pictures of a longer video of this name
            shutil.rmtree(folder / task.output(choice), ignore_errors=True)
    with ExitStack() as stack:
        overlay = None
        if 'overlay' in task.choices:
            path = folder / task.output('overlay')
            path.parent.mkdir(parents=True, exist_ok=True)
            overlay = stack.enter_context(replaced_whole(path))
        rate_hz = source.rate_hz or DEFAULT_RATE_HZ
        writer = _Writer(
            task, folder, overlay, rate_hz, codec, tile_frames, is_live=source.is_live
        )
        stack.callback(writer.close)
        behind = stack.enter_context(WriteBehind[None](min(num_workers, 1), 2 * batch_size))
        depth = 2 * batch_size if num_workers else 0
        frames = _timed(source.frames(), depth)
        for picture, time_s, is_new in _segmented(frames, runner, kept, batch_size):
            behind.put(partial(_add, writer, picture, time_s, kept if is_new else None))
            on_picture(is_new)
        behind.rest()
        if not writer.counter.num_pictures:
            raise InputError('has no picture that can be decoded')
        writer.close()
        names = [task.output('overlay')] * (overlay is not None) + writer.names
        record = writer.counter.record(task.choices, task.num_tiles, writer.tiles, codec=codec)
    return names, record


def open_store(folder: Path, task: Task, facts_id: str, classes: ClassTable) -> FrameStore:
    """What keeps the segmentations of a video until it is finished.

    Args:
        folder: of such files.
        task: the video.
        facts_id: of what makes the results; those that were made otherwise are removed.
        classes: what labels mean.
    """
    key, made = _digest(task.key), _digest(f'{facts_id} {sorted(task.source.items())}')
    path = folder / f'{key}-{made}.frames'
    for other in folder.glob(f'{key}-*.frames'):
        if other != path:
            other.unlink()
    return FrameStore(path, classes)


def spread(num_tiles: int, num_frames: int | None) -> list[int]:
    """Which pictures of a video stand for it: in the middle of equal parts."""
    if num_frames is None:
        return list(range(min(num_tiles, 1)))
    num_tiles = min(num_tiles, num_frames)
    return [(2 * i + 1) * num_frames // (2 * num_tiles) for i in range(num_tiles)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]


def _add(writer: _Writer, picture: Picture, time_s: float, kept: FrameStore | None) -> None:
    if kept is not None:
        kept.append(picture.segmentation)
    writer.add(picture, time_s)


def _timed(frames: Iterator[SourceFrame], depth: int) -> Iterator[tuple[float, U8]]:
    """The pictures as RGB and when they came, read ahead."""

    def read(_: None) -> tuple[float, U8] | None:
        source_frame = next(frames, None)
        if source_frame is None:
            return None
        now_s = time.monotonic()
        frame = source_frame.frame
        assert isinstance(frame, Frame)
        return now_s, to_rgb(frame)

    forever: Iterable[None] = iter(lambda: None, 0)
    for item in read_ahead(read, forever, num_workers=min(depth, 1), depth=depth):
        if item is None:
            return
        yield item


def _segmented(
    frames: Iterator[tuple[float, U8]],
    runner: BatchRunner[Any],
    kept: FrameStore | None,
    batch_size: int,
) -> Iterator[tuple[Picture, float, bool]]:
    """Pictures, when they came, and whether they were segmented now."""
    if kept is not None:
        # Whole batches only, so that each is what it would have been.
        kept.keep(len(kept) // batch_size * batch_size)
        for segmentation, (time_s, image_rgb) in zip(kept.segmentations(), frames, strict=False):
            yield Picture(image_rgb, segmentation), time_s, False
    batches = iter(lambda: list(islice(frames, batch_size)), [])
    for time_s, image_rgb, outcome in runner.run(batches):
        if not isinstance(outcome, Segmentation):
            raise InputError(str(outcome))
        yield Picture(image_rgb, outcome), time_s, True
