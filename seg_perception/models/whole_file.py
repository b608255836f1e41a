"""Files that are always whole: a reader sees the old content or the new, whatever happens."""

from __future__ import annotations

import os
from pathlib import Path

from seg_perception.errors import WeightsError


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears, or replaces another, only when complete and on the disk.

    Raises:
        WeightsError: it cannot be written.
    """
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with partial.open('wb') as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WeightsError(f'{path}: cannot be written: {error}') from error
