"""What a recording holds, before any of it is segmented."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.recordings.definitions import recorded_definition
from seg_perception.recordings.recorded import BagFile, OpenFile, Recording

if TYPE_CHECKING:
    from rosbags.interfaces import MessageDefinition, Qos

_NANOSECONDS = 1_000_000_000
_FIRST_DATE_S = 1e8
"""Numbers of seconds from here on (1973) are dates, smaller ones are offsets."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and all that its messages have in common.

    Attributes:
        name: of the topic.
        message_type: e.g. ``sensor_msgs/msg/Image``.
        definition: of the type; of format NONE where nobody knows it.
        digest: hash of the type (RIHS01); may be empty.
        serialization: ``cdr``.
        qos: profiles of who published it.
    """

    name: str
    message_type: str
    definition: MessageDefinition
    digest: str
    serialization: str
    qos: tuple[Qos, ...]


@dataclass(frozen=True, slots=True)
class SurveyedFile:
    """A file and what is in it.

    Attributes:
        file: of the recording.
        start_ns: time of the first message; 0 where there is none.
        end_ns: behind the last one.
        num_messages: how many there should be.
        num_by_topic: the same by topic.
        can_seek: whether a part of it can be read for itself.
        fault: why it cannot be read; empty where it can.
    """

    file: BagFile
    start_ns: int = 0
    end_ns: int = 0
    num_messages: int = 0
    num_by_topic: Mapping[str, int] = ()  # type: ignore[assignment]
    can_seek: bool = True
    fault: str = ''


@dataclass(frozen=True, slots=True)
class Survey:
    """A recording and what is in it.

    Attributes:
        recording: where it lies.
        files: in their order.
        topics: of all files.
    """

    recording: Recording
    files: tuple[SurveyedFile, ...]
    topics: tuple[Topic, ...]

    @property
    def whole_files(self) -> list[tuple[int, SurveyedFile]]:
        """Number and file of those that can be read and are not empty."""
        return [(i, f) for i, f in enumerate(self.files) if not f.fault and f.num_messages]

    @property
    def range_ns(self) -> tuple[int, int]:
        """Time of the first message, and behind the last one."""
        files = [file for _, file in self.whole_files]
        return min(f.start_ns for f in files), max(f.end_ns for f in files)

    def topic(self, name: str) -> Topic:
        """The topic of a name, which is there."""
        return next(topic for topic in self.topics if topic.name == name)


def survey(recording: Recording, scratch_dir: Path | None = None) -> Survey:
    """Opens all files of a recording, one after the other.

    Args:
        recording: where it lies.
        scratch_dir: see `OpenFile`.

    Raises:
        InputError: none of them can be read, or there is no message in them.
    """
    files: list[SurveyedFile] = []
    topics: dict[tuple[str, str], Topic] = {}
    digests = dict(recording.digests)
    for file in recording.files:
        try:
            with OpenFile(file, scratch_dir) as opened:
                files.append(_survey_file(opened))
                for connection in opened.connections:
                    key = connection.topic, connection.msgtype
                    definition, digest = recorded_definition(connection)
                    before = topics.get(key)
                    profiles = (*(before.qos if before else ()), *_qos_of(connection))
                    topics[key] = Topic(
                        *key,
                        definition,
                        digest or digests.get(connection.msgtype, ''),
                        'cdr',
                        tuple(dict.fromkeys(profiles)),
                    )
        except InputError as error:
            files.append(SurveyedFile(file, num_by_topic={}, fault=str(error)))
    found = Survey(recording, tuple(files), tuple(topics.values()))
    if not found.whole_files:
        faults = [file.fault for file in files if file.fault]
        raise InputError('; '.join(faults) or f'{recording.path} holds no messages')
    return found


def _survey_file(opened: OpenFile) -> SurveyedFile:
    num_by_topic: dict[str, int] = {}
    for connection in opened.connections:
        before = num_by_topic.get(connection.topic, 0)
        num_by_topic[connection.topic] = before + connection.msgcount
    is_empty = not opened.num_messages
    return SurveyedFile(
        opened.file,
        0 if is_empty else opened.start_ns,
        0 if is_empty else opened.end_ns,
        opened.num_messages,
        num_by_topic,
        opened.can_seek,
    )


def _qos_of(connection: object) -> Iterable[Qos]:
    return connection.ext.offered_qos_profiles  # type: ignore[attr-defined,no-any-return]


def selected_range_ns(
    found: Survey, start_s: float | None, end_s: float | None
) -> tuple[int, int]:
    """The part of a recording that counts.

    Args:
        found: the recording.
        start_s: seconds behind its first message, or a date in Unix seconds; None for all.
        end_s: the same, of the end.

    Raises:
        ConfigurationError: nothing lies in between.
    """
    first_ns, end_ns = found.range_ns

    def time_ns(value_s: float) -> int:
        offset_ns = 0 if abs(value_s) >= _FIRST_DATE_S else first_ns
        return offset_ns + round(value_s * _NANOSECONDS)

    low_ns = first_ns if start_s is None else max(first_ns, time_ns(start_s))
    high_ns = end_ns if end_s is None else min(end_ns, time_ns(end_s))
    if low_ns >= high_ns:
        length_s = (end_ns - first_ns) / _NANOSECONDS
        raise ConfigurationError(
            f'expected a part of the recording, which takes {length_s:.3f} s from '
            f'{first_ns / _NANOSECONDS:.3f} on, got --start {start_s} --end {end_s}'
        )
    return low_ns, high_ns
