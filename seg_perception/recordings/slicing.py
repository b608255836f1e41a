"""One slice of a recording through the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_perception.batch.running import BatchRunner
from seg_perception.errors import InputError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.imaging import check_frame, decode
from seg_perception.pipeline import Segmenter
from seg_perception.recordings.bag_files import BagFileWriter
from seg_perception.recordings.cameras import (
    CAMERA_INFO,
    CameraTopic,
    read_frame,
    read_intrinsics,
)
from seg_perception.recordings.definitions import definition_of
from seg_perception.recordings.outputs import (
    ImageResult,
    OutputTopic,
    output_qos,
    output_topics,
)
from seg_perception.recordings.plan import Job, Slice
from seg_perception.recordings.recorded import OpenFile
from seg_perception.recordings.survey import Topic
from seg_perception.structures import Frame, Segmentation

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

_LOOK_BACK_S = (1, 8, 64)
"""How far before a slice its first calibration is looked for, before that is done everywhere."""
_NUM_RARE = 64
"""Of a topic with so few messages in a file, all are read once and kept."""


@dataclass(frozen=True, slots=True)
class _Tag:
    """An image and where it comes from."""

    camera: int
    log_ns: int
    frame: Frame
    intrinsics: Intrinsics | None


class SliceWorker:
    """Does slices of one job, with one model and one open file at a time.

    Args:
        job: what is to be done.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._slices = job.slices()
        self._segmenter: Segmenter | None = None
        self._outputs: list[OutputTopic] = []
        self._opened: OpenFile | None = None
        self._opened_number = -1
        self._rare_infos: list[tuple[str, int, bytes]] = []

    def load(self) -> Segmenter:
        """Loads the model, once.

        Raises:
            SegPerceptionError: see `Segmenter`.
        """
        if self._segmenter is None:
            self._segmenter = self._job.model.load()
            self._outputs = output_topics(
                self._job.outputs,
                self._segmenter.classes,
                has_confidence=self._segmenter.has_confidence,
            )
        return self._segmenter

    def segment(self, number: int) -> dict[str, Any]:
        """Segments a slice and writes what is said of it into a file of its own.

        Returns:
            An account in plain values: ``images`` that were recorded and chosen; ``faults``, one
            ``[topic, time, reason]`` for each that could not be segmented; ``uncalibrated``
            ones; ``read_fault``, why the slice could not be read to its end, or empty;
            ``frames``, one ``[camera, time, stamp, {class id: pixels}]`` for each that was.

        Raises:
            SegPerceptionError: the model cannot be loaded, or the results cannot be written.
        """
        part = self._slices[number]
        segmenter = self.load()
        path = self._job.results_path(number)
        account: dict[str, Any] = {
            'images': 0,
            'faults': [],
            'uncalibrated': 0,
            'read_fault': '',
            'frames': [],
        }
        wanted = self._outputs
        runner: BatchRunner[_Tag] = BatchRunner(
            segmenter,
            confidence=any(output.needs_confidence for output in wanted),
            objects=any(output.needs_objects for output in wanted),
            choose=lambda result: result,
        )
        with BagFileWriter(path, 'mcap', is_compressed=True) as writer:
            for topic in self.result_topics():
                writer.add(topic)
            for tag, _, outcome in runner.run(self._batches(part, account)):
                camera = self._job.cameras[tag.camera]
                if not isinstance(outcome, Segmentation):
                    account['faults'].append([camera.topic, tag.log_ns, str(outcome)])
                    continue
                result = ImageResult(tag.frame, outcome, self._job.options, tag.intrinsics)
                for output in wanted:
                    message = output.make(result)
                    if message is not None:
                        name = f'{camera.namespace}/{output.name}'
                        writer.write(name, output.message_type, tag.log_ns, message.data)
                account['uncalibrated'] += tag.intrinsics is None
                account['frames'].append(
                    [tag.camera, tag.log_ns, outcome.stamp_ns, _pixels_by_class(outcome)]
                )
            writer.close()
        return account

    def result_topics(self) -> list[Topic]:
        """The topics of what is said about images, of all cameras."""
        self.load()
        return [
            our_topic(camera, output.name, output.message_type)
            for camera in self._job.cameras
            for output in self._outputs
        ]

    def close(self) -> None:
        """Frees the model's memory and closes the file."""
        if self._segmenter is not None:
            self._segmenter.close()
            self._segmenter = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _open(self, file: int) -> OpenFile:
        if self._opened is None or self._opened_number != file:
            if self._opened is not None:
                self._opened.close()
            self._opened = None
            survey = self._job.found.files[file]
            self._opened = OpenFile(survey.file, scratch_dir(self._job))
            self._opened_number = file
            self._rare_infos = self._read_rare_infos(self._opened)
        return self._opened

    def _read_rare_infos(self, opened: OpenFile) -> list[tuple[str, int, bytes]]:
        """Topic, time and bytes of all calibrations of topics with few of them.

        Raises:
            InputError: the file cannot be read.
        """
        rare = [
            c
            for c in opened.connections
            if _Calibrations(self._job).takes(c.topic, c.msgtype) and c.msgcount <= _NUM_RARE
        ]
        messages = opened.messages(rare, opened.start_ns, opened.end_ns)
        return [(connection.topic, log_ns, data) for connection, log_ns, data in messages]

    def _batches(
        self, part: Slice, account: dict[str, Any]
    ) -> Iterator[Sequence[tuple[_Tag, Any]]]:
        """The images of a slice that can be decoded; the account has the others."""
        batch: list[tuple[_Tag, Any]] = []
        for tag in self._images(part, account):
            batch.append((tag, tag.frame))
            if len(batch) == self._job.batch_size:
                yield batch
                batch = []
        yield batch

    def _images(self, part: Slice, account: dict[str, Any]) -> Iterator[_Tag]:
        cameras = {camera.topic: i for i, camera in enumerate(self._job.cameras)}
        calibrations = _Calibrations(self._job)
        last_period: dict[str, int] = {}
        try:
            opened = self._open(part.file)
            connections = [
                c
                for c in opened.connections
                if c.topic in cameras or calibrations.takes(c.topic, c.msgtype)
            ]
            calibrations.look_back(opened, part, self._rare_infos)
            for connection, log_ns, data in opened.messages(
                connections, part.start_ns, part.end_ns
            ):
                if connection.topic not in cameras:
                    calibrations.take(connection, data)
                    continue
                if self._job.every_ns:
                    period = (log_ns - self._job.range_ns[0]) // self._job.every_ns
                    if last_period.get(connection.topic) == period:
                        continue
                    last_period[connection.topic] = period
                account['images'] += 1
                number = cameras[connection.topic]
                camera = self._job.cameras[number]
                try:
                    frame = _decoded(camera, data)
                    intrinsics = calibrations.of(camera, frame)
                except InputError as error:
                    account['faults'].append([camera.topic, log_ns, str(error)])
                    continue
                yield _Tag(number, log_ns, frame, intrinsics)
        except InputError as error:
            account['read_fault'] = str(error)


class _Calibrations:
    """The newest calibration of every camera, as the recording goes on.

    That of images before the first one is the first one: drivers send it behind its image.
    """

    def __init__(self, job: Job) -> None:
        self._newest: dict[str, Intrinsics | None] = {
            c.camera_info_topic: c.first_intrinsics for c in job.cameras if c.camera_info_topic
        }

    def takes(self, topic: str, message_type: str) -> bool:
        """Whether a topic is one of calibrations."""
        return topic in self._newest and message_type == CAMERA_INFO

    def take(self, connection: Connection, data: bytes) -> None:
        """Takes a message."""
        self._newest[connection.topic] = read_intrinsics(data)

    def of(self, camera: CameraTopic, frame: Frame) -> Intrinsics | None:
        """The one of an image; None where there is none, or one of another size."""
        intrinsics = self._newest.get(camera.camera_info_topic)
        is_its = intrinsics is not None and intrinsics.size_wh == (frame.width, frame.height)
        return intrinsics if is_its else None

    def look_back(
        self, opened: OpenFile, part: Slice, rare_infos: Sequence[tuple[str, int, bytes]]
    ) -> None:
        """Finds the last ones before a slice: near it first, then anywhere in its file.

        Args:
            opened: the file.
            part: the slice.
            rare_infos: topic, time and bytes of those that are known already.

        Raises:
            InputError: the file cannot be read.
        """
        end_ns = part.start_ns
        missing = {
            c.topic
            for c in opened.connections
            if self.takes(c.topic, c.msgtype) and c.msgcount > _NUM_RARE
        }
        for topic, log_ns, data in rare_infos:
            if log_ns < end_ns:
                self._newest[topic] = read_intrinsics(data)
        for seconds in (*_LOOK_BACK_S, None):
            if not missing or end_ns <= opened.start_ns:
                return
            back_ns = opened.start_ns if seconds is None else end_ns - seconds * 1_000_000_000
            start_ns = max(opened.start_ns, back_ns)
            connections = [c for c in opened.connections if c.topic in missing]
            found = set()
            for connection, _, data in opened.messages(connections, start_ns, end_ns):
                self.take(connection, data)
                found.add(connection.topic)
            missing -= found
            end_ns = start_ns


def our_topic(
    camera: CameraTopic, name: str, message_type: str, *, is_latched: bool = False
) -> Topic:
    """A topic below a camera's namespace, as the live node offers it."""
    definition, digest = definition_of(message_type)
    qos = (output_qos(is_latched=is_latched),)
    return Topic(f'{camera.namespace}/{name}', message_type, definition, digest, 'cdr', qos)


def scratch_dir(job: Job) -> Path:
    """Where compressed files are unpacked: beside the results, not where memory may be."""
    folder = job.work_dir / 'scratch'
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _decoded(camera: CameraTopic, data: bytes) -> Frame:
    """A recorded image as a frame that can be segmented.

    Raises:
        InputError: it cannot.
    """
    frame = read_frame(camera, data)
    if isinstance(frame, Frame):
        check_frame(frame)
        return frame
    return decode(frame)


def _pixels_by_class(result: Segmentation) -> dict[str, int]:
    """How many pixels each class has, unlabelled ones included; as JSON keeps it."""
    counts = np.bincount(result.labels_YX.reshape(-1))
    return {str(i): int(counts[i]) for i in np.flatnonzero(counts)}
