"""Writes files of recordings, and the ``metadata.yaml`` that makes several of them one.

The rosbags library writes them. Its own `Writer` makes recordings of one file and wants to know
the definition of every type; ours are as many as the original has, and types that nobody knows
are passed on as they are.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import yaml

from seg_perception.errors import OutputError
from seg_perception.recordings.survey import Topic
from seg_perception.whole_file import PARTIAL_PREFIX, write_whole

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

_DISTRO = 'seg_perception'
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the disk as ours.

    Raises:
        OutputError: the disk is full or cannot be written.
    """
    try:
        yield
    except sqlite3.Error as error:  # it does not say which; a full disk is the usual reason
        raise OutputError(
            f'{path}: cannot be written: {error} ({_free(path)}); run the same command again to '
            f'go on when there is room'
        ) from error
    except OSError as error:
        is_full = error.errno in _FULL
        remedy = f' ({_free(path)}); run the same command again to go on when there is room'
        raise OutputError(
            f'{path}: cannot be written: {error.strerror or error}{remedy if is_full else ""}'
        ) from error


def _free(path: Path) -> str:
    try:
        return f'{shutil.disk_usage(path.parent).free / 1e9:.1f} GB are free'
    except OSError:
        return 'its folder is gone'


class BagFileWriter:
    """Writes one file, which is there when it is complete and on the disk.

    Args:
        path: of the file; its suffix does not matter.
        storage: ``mcap`` or ``sqlite3``.
        is_compressed: whether chunks are compressed (MCAP only).
        version: of the metadata, 8 or 9.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, storage: str, *, is_compressed: bool, version: int = 9) -> None:
        from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer

        self._path = path
        self._storage_name = storage
        self._version = version
        self._folder = path.parent / f'{PARTIAL_PREFIX}{path.stem}'
        self._topics: dict[str, tuple[Topic, Connection]] = {}
        self._types: set[str] = set()
        self._num: dict[str, int] = {}
        self._start_ns, self._end_ns = 2**63 - 1, 0
        plugin = Writer.STORAGE_PLUGINS[StoragePlugin[storage.upper()]]
        mode = CompressionMode.STORAGE if is_compressed else CompressionMode.NONE
        with explained(path):
            shutil.rmtree(self._folder, ignore_errors=True)  # left by a killed process
            self._folder.mkdir(parents=True)
            self._storage: Any = plugin(self._folder, mode)

    def add(self, topic: Topic) -> None:
        """Adds a topic, with messages or without.

        Raises:
            OutputError: it cannot be written.
        """
        from rosbags.interfaces import (
            Connection,
            ConnectionExtRosbag2,
            MessageDefinition,
            MessageDefinitionFormat,
        )

        definition = topic.definition
        if definition.format == MessageDefinitionFormat.NONE:
            definition = MessageDefinition(MessageDefinitionFormat.MSG, '')
        connection = Connection(
            id=len(self._topics) + 1,
            topic=topic.name,
            msgtype=topic.message_type,
            msgdef=definition,
            digest=topic.digest,
            msgcount=0,
            ext=ConnectionExtRosbag2(topic.serialization, list(topic.qos)),
            owner=self,
        )
        with explained(self._path):
            if topic.message_type not in self._types:
                self._types.add(topic.message_type)
                self._storage.add_msgtype(connection)
            self._storage.add_connection(connection, _qos_text(topic, self._version))
        self._topics[_key(topic.name, topic.message_type)] = topic, connection
        self._num[_key(topic.name, topic.message_type)] = 0

    def write(self, topic: str, message_type: str, time_ns: int, data: bytes | memoryview) -> None:
        """Writes a message of a topic that was added.

        Raises:
            OutputError: it cannot be written.
        """
        key = _key(topic, message_type)
        with explained(self._path):
            self._storage.write(self._topics[key][1], time_ns, data)
        self._num[key] += 1
        self._start_ns = min(self._start_ns, time_ns)
        self._end_ns = max(self._end_ns, time_ns)

    def close(self) -> dict[str, Any]:
        """Completes the file.

        Returns:
            What `write_metadata` wants to know of it, in plain values.

        Raises:
            OutputError: it cannot be written.
        """
        num_messages = sum(self._num.values())
        about = {
            'path': self._path.name,
            'start_ns': self._start_ns if num_messages else 0,
            'end_ns': self._end_ns,
            'num_messages': num_messages,
            'num_by_topic': dict(self._num),
        }
        topics = [topic for topic, _ in self._topics.values()]
        document = metadata(self._storage_name, self._version, topics, [about])
        with explained(self._path):
            text = yaml.safe_dump(document['rosbag2_bagfile_information'], sort_keys=False)
            self._storage.close(self._version, text.strip())
            written = Path(self._storage.path)
            with written.open('rb+') as stream:
                os.fsync(stream.fileno())
            os.replace(written, self._path)
            shutil.rmtree(self._folder)
        return about

    def abort(self) -> None:
        """Leaves no file."""
        try:
            self._storage.abort()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> BagFileWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()


def metadata(
    storage: str, version: int, topics: Sequence[Topic], files: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What ``metadata.yaml`` says.

    Args:
        storage: ``mcap`` or ``sqlite3``.
        version: of its format, 8 or 9.
        topics: of all files.
        files: what `BagFileWriter.close` said of each.
    """
    filled = [file for file in files if file['num_messages']]
    start_ns = min((file['start_ns'] for file in filled), default=0)
    end_ns = max((file['end_ns'] for file in filled), default=0)
    about = {
        'version': version,
        'storage_identifier': storage,
        'duration': {'nanoseconds': end_ns - start_ns},
        'starting_time': {'nanoseconds_since_epoch': start_ns},
        'message_count': sum(file['num_messages'] for file in files),
        'topics_with_message_count': [
            {
                'topic_metadata': {
                    'name': topic.name,
                    'type': topic.message_type,
                    'serialization_format': topic.serialization,
                    'offered_qos_profiles': _qos_document(topic, version),
                    'type_description_hash': topic.digest,
                },
                'message_count': sum(
                    file['num_by_topic'].get(_key(topic.name, topic.message_type), 0)
                    for file in files
                ),
            }
            for topic in topics
        ],
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': [file['path'] for file in files],
        'files': [
            {
                'path': file['path'],
                'starting_time': {'nanoseconds_since_epoch': file['start_ns']},
                'duration': {
                    'nanoseconds': file['end_ns'] - file['start_ns'] if file in filled else 0
                },
                'message_count': file['num_messages'],
            }
            for file in files
        ],
        'custom_data': None,
        'ros_distro': _DISTRO,
    }
    return {'rosbag2_bagfile_information': about}


def write_metadata(folder: Path, document: Mapping[str, Any]) -> None:
    """Writes ``metadata.yaml``.

    Raises:
        OutputError: it cannot be written.
    """
    text = yaml.safe_dump(dict(document), sort_keys=False)
    write_whole(folder / 'metadata.yaml', text.encode())


def _key(topic: str, message_type: str) -> str:
    return f'{topic} {message_type}'


def _qos_document(topic: Topic, version: int) -> Any:
    from rosbags.rosbag2.metadata import dump_qos_v8, dump_qos_v9

    dumped: Any = (dump_qos_v9 if version >= 9 else dump_qos_v8)(list(topic.qos))
    return dumped


def _qos_text(topic: Topic, version: int) -> str:
    dumped = _qos_document(topic, version)
    if isinstance(dumped, str):
        return dumped
    return yaml.safe_dump(dumped, sort_keys=False).strip()
