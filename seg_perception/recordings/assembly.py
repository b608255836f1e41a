"""Puts files of the new recording together: what was recorded, and what is said about it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from seg_perception.errors import InputError
from seg_perception.messages.described import write_label_info
from seg_perception.recordings.bag_files import BagFileWriter
from seg_perception.recordings.outputs import LABEL_INFO, output_topics
from seg_perception.recordings.plan import Job, Slice
from seg_perception.recordings.recorded import BagFile, OpenFile
from seg_perception.recordings.slicing import our_topic, scratch_dir
from seg_perception.recordings.survey import Topic

_Message = tuple[int, str, str, bytes]
"""Time, topic, type and content."""


def job_topics(job: Job) -> list[Topic]:
    """All topics of the new recording: those of the old one first."""
    topics = list(job.found.topics) if job.has_originals else []
    return [*topics, *_our_topics(job)]


def assemble(job: Job, file: int) -> dict[str, Any]:
    """Puts one file together, of whose slices all are done.

    Messages keep the order of their times; of those of one time, what was recorded comes first.

    Returns:
        An account in plain values: what `BagFileWriter.close` says, ``num_copied`` messages that
        were recorded, and ``read_faults``, why some of them could not be read.

    Raises:
        OutputError: the file cannot be written.
        InputError: the results of a slice are damaged.
    """
    parts = [part for part in job.slices() if part.file == file]
    faults: list[str] = []
    num_copied = 0
    path = job.file_path(file)
    with BagFileWriter(
        path,
        job.storage,
        is_compressed=job.is_compressed and job.storage == 'mcap',
        version=job.metadata_version,
    ) as writer:
        for topic in job_topics(job):
            writer.add(topic)
        originals = _originals(job, file, parts, faults) if job.has_originals else iter(())
        streams = [originals, _label_infos(job, parts), _results(job, parts)]
        numbered = [_numbered(stream, i) for i, stream in enumerate(streams)]
        for _, number, (time_ns, topic_name, message_type, data) in heapq.merge(
            *numbered, key=lambda item: item[:2]
        ):
            num_copied += number == 0
            writer.write(topic_name, message_type, time_ns, data)
        account = writer.close()
    return {**account, 'num_copied': num_copied, 'read_faults': faults}


def _numbered(stream: Iterator[_Message], number: int) -> Iterator[tuple[int, int, _Message]]:
    for message in stream:
        yield message[0], number, message


def _originals(job: Job, file: int, parts: list[Slice], faults: list[str]) -> Iterator[_Message]:
    """What was recorded; where it cannot be read, it goes on with the next slice."""
    try:
        opened = OpenFile(job.found.files[file].file, scratch_dir(job))
    except InputError as error:
        faults.append(str(error))
        return
    with opened:
        for part in parts:
            try:
                for connection, time_ns, data in opened.messages(
                    opened.connections, part.start_ns, part.end_ns
                ):
                    yield time_ns, connection.topic, connection.msgtype, data
            except InputError as error:
                faults.append(str(error))


def _results(job: Job, parts: list[Slice]) -> Iterator[_Message]:
    for part in parts:
        with OpenFile(BagFile(job.results_path(part.number), 'mcap')) as opened:
            for connection, time_ns, data in opened.messages(
                opened.connections, part.start_ns, part.end_ns
            ):
                yield time_ns, connection.topic, connection.msgtype, data


def _label_infos(job: Job, parts: list[Slice]) -> Iterator[_Message]:
    """The class table of every camera, before the first labels; it holds for all."""
    if 'label_info' not in job.outputs or not parts:
        return
    classes, threshold = job.model.classes(), job.model.confidence_threshold
    start_ns, end_ns = parts[0].start_ns, parts[-1].end_ns
    for camera in sorted(job.cameras, key=lambda camera: camera.first_log_ns):
        if start_ns <= camera.first_log_ns < end_ns:
            data = write_label_info(classes, threshold, camera.first_stamp_ns, '')
            name = f'{camera.namespace}/label_info'
            yield camera.first_log_ns, name, LABEL_INFO, data.tobytes()


def _our_topics(job: Job) -> list[Topic]:
    outputs = output_topics(
        job.outputs, job.model.classes(), has_confidence=job.model.card().output.has_scores
    )
    topics = []
    for camera in job.cameras:
        if 'label_info' in job.outputs:
            topics.append(our_topic(camera, 'label_info', LABEL_INFO, is_latched=True))
        topics += [our_topic(camera, output.name, output.message_type) for output in outputs]
    return topics
