"""Files that are always whole: a reader sees the old content or the new, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_perception.errors import OutputError

PARTIAL_PREFIX = '.partial.'
"""How names of files begin that are being written, and stay where a process was killed."""


@contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """A file of another name that replaces this one when it is complete and on the disk.

    Yields:
        Where to write: the same folder and suffix. Nothing is left of it where the block fails.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(PARTIAL_PREFIX + path.name)
    try:
        yield partial
        with partial.open('rb+') as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f'{path}: cannot be written: {error}') from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears, or replaces another, only when complete and on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    with replaced_whole(path) as partial:
        partial.write_bytes(content)
