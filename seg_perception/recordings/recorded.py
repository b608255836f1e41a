"""Recordings as they lie on the disk: one or several files, each read for itself.

The rosbags library reads the files. It would read a folder, too, but only as a whole: it unpacks
all of a compressed one at once, takes no file where another one is damaged, and leaves out topics
whose quality of service changed from file to file.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.recordings.definitions import require_rosbags

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader

STORAGES = {'.mcap': 'mcap', '.db3': 'sqlite3'}
_ZSTD_SUFFIX = '.zstd'
_METADATA = 'metadata.yaml'


@dataclass(frozen=True, slots=True)
class BagFile:
    """One file of a recording.

    Attributes:
        path: of the file.
        storage: ``mcap`` or ``sqlite3``.
        has_compressed_messages: whether every message is compressed for itself.
    """

    path: Path
    storage: str
    has_compressed_messages: bool = False

    @property
    def is_compressed(self) -> bool:
        """Whether the file as a whole is."""
        return self.path.suffix == _ZSTD_SUFFIX


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and its files, in the order in which they were written.

    Attributes:
        path: a folder with ``metadata.yaml``, or a single file.
        files: its files.
        version: of the metadata's format, which tells the generation of ROS; 9 where unknown.
        digests: hashes of types by name, which MCAP files do not have themselves.
    """

    path: Path
    files: tuple[BagFile, ...]
    version: int
    digests: tuple[tuple[str, str], ...] = ()


def find_recording(path: Path) -> Recording:
    """Finds the files of a recording.

    Raises:
        ConfigurationError: nothing there, or not a rosbag2.
        InputError: its metadata cannot be read.
        MissingExtraError: the rosbags library is not installed.
    """
    require_rosbags()
    if not path.exists():
        raise ConfigurationError(f'expected a recording, {path} does not exist')
    if path.suffix == '.bag':
        raise ConfigurationError(
            f'{path} is a recording of ROS 1: convert it first, '
            f'rosbags-convert --src {path} --dst {path.with_suffix("")}'
        )
    if path.is_dir() and (path / _METADATA).is_file():
        return _from_metadata(path)
    if path.is_file():
        return Recording(path, (_plain_file(path),), 9)
    files = sorted(p for p in path.iterdir() if p.suffix in STORAGES)
    hint = f'; `ros2 bag reindex {path}` writes one' if files else ''
    raise ConfigurationError(
        f'expected a folder with {_METADATA}, an .mcap or a .db3 file, '
        f'got {path}, which has no {_METADATA}{hint}'
    )


def _plain_file(path: Path) -> BagFile:
    stem = Path(path.stem) if path.suffix == _ZSTD_SUFFIX else path
    if stem.suffix not in STORAGES:
        raise ConfigurationError(
            f'expected a file that ends with {" or ".join(STORAGES)}, got {path}'
        )
    return BagFile(path, STORAGES[stem.suffix])


def _from_metadata(path: Path) -> Recording:
    try:
        document = yaml.safe_load((path / _METADATA).read_text(encoding='utf-8'))
        about: dict[str, Any] = document['rosbag2_bagfile_information']
        mode = str(about.get('compression_mode') or '').lower()
        files = []
        for name in about['relative_file_paths']:
            # Older ones name the folder too, which may have been renamed since.
            file = _plain_file(path / PurePosixPath(name).name)
            files.append(BagFile(file.path, file.storage, mode == 'message'))
        packer = about.get('compression_format') or 'zstd'
        digests = {
            str(topic['topic_metadata']['type']): str(
                topic['topic_metadata'].get('type_description_hash') or ''
            )
            for topic in about['topics_with_message_count']
        }
        version = int(about['version'])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'{path / _METADATA} cannot be read: {type(error).__name__} {error}; '
            f'`ros2 bag reindex {path}` writes a new one'
        ) from error
    if mode not in ('', 'none') and packer != 'zstd':
        raise InputError(f'{path}: expected compression zstd, got {packer}')
    if not files:
        raise InputError(f'{path / _METADATA} names no files')
    return Recording(path, tuple(files), version, tuple(sorted(digests.items())))


class OpenFile:
    """A file of a recording, opened.

    Args:
        file: of the recording.
        scratch_dir: where a compressed file is unpacked; the system's place for temporary files
            where None.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, file: BagFile, scratch_dir: Path | None = None) -> None:
        from rosbags.rosbag2 import Reader

        self.file = file
        self._stack = ExitStack()
        try:
            path = self._unpacked(scratch_dir) if file.is_compressed else file.path
            _check_journal(path)
            self._reader: Reader = self._stack.enter_context(Reader(path))
        except InputError:
            self.close()
            raise
        except Exception as error:  # the library's own, and what damaged files lead it to
            self.close()
            raise InputError(
                f'{file.path} cannot be read: {_why(error)}{_remedy(file)}'
            ) from error

    @property
    def connections(self) -> list[Connection]:
        """What is recorded: topics, their types and how many messages."""
        return self._reader.connections

    @property
    def start_ns(self) -> int:
        """When the first message was recorded."""
        return int(self._reader.start_time)

    @property
    def end_ns(self) -> int:
        """Behind the last one."""
        return int(self._reader.end_time)

    @property
    def num_messages(self) -> int:
        """As many as there should be."""
        return int(self._reader.message_count)

    @property
    def can_seek(self) -> bool:
        """Whether a part of it can be read without reading all that is before it."""
        storage = self._reader.storage
        return bool(getattr(storage, 'chunks', True))

    def messages(
        self, connections: list[Connection], start_ns: int, end_ns: int
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Connection, time of recording and bytes of each message, by time.

        Args:
            connections: of this file; none gives nothing.
            start_ns: the first that counts.
            end_ns: the first that does not any more.

        Raises:
            InputError: it cannot be read further.
        """
        if not connections:
            return
        try:
            messages = self._reader.messages(connections, start_ns, end_ns)
            for connection, time_ns, data in messages:
                is_packed = self.file.has_compressed_messages
                yield connection, time_ns, _zstd().decompress(data) if is_packed else data
        except GeneratorExit:
            raise
        except Exception as error:
            raise InputError(
                f'{self.file.path} cannot be read further: {_why(error)}{_remedy(self.file)}'
            ) from error

    def close(self) -> None:
        """Closes it, and removes what was unpacked."""
        self._stack.close()

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unpacked(self, scratch_dir: Path | None) -> Path:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=scratch_dir))
        path = Path(folder) / self.file.path.stem
        with _zstd().open(self.file.path, 'rb') as packed, path.open('wb') as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
        return path


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd  # which rosbags needs as well
    return zstd


def _check_journal(path: Path) -> None:
    """A database that was not closed keeps its last messages beside itself."""
    for suffix in ('-wal', '-journal'):
        beside = path.with_name(path.name + suffix)
        with suppress(OSError):
            if beside.stat().st_size:
                raise InputError(
                    f'{path} was not closed, its last messages are in {beside.name}: '
                    f"open it once, sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
                )


def _why(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def _remedy(file: BagFile) -> str:
    """How to save what can be saved."""
    if file.is_compressed:
        return f'; see whether `zstd -t {file.path}` finds it whole'
    if file.storage == 'mcap':
        return f'; `mcap recover {file.path} -o saved.mcap` saves what is whole'
    return f"; `sqlite3 {file.path} '.recover' | sqlite3 saved.db3` saves what is whole"
