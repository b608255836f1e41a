"""Removes the shared memory that killed processes left behind.

Fast DDS gives every process a segment in /dev/shm (67 MiB with the shipped profile) and an empty
lock file beside it, ``<segment>_el``. Its owner, and all who read from it, open the file, lock it
(``flock``) and keep it locked until they end (Fast DDS, Robust…Lock.hpp). The kernel takes the
locks of processes that are killed, but nobody takes the memory: a node that is respawned again
and again would fill it. This does as ``fastdds shm clean`` does, and leaves young files alone:
their owner may not have come to lock them yet.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path('/dev/shm')
MIN_AGE_S = 60.0
"""Between creating and locking its file, a process needs microseconds."""
_LOCK_FILE = re.compile(r'(fast(?:rtps|dds)_[0-9a-f]{16})_el')


def remove_orphans(folder: Path = SHARED_MEMORY, min_age_s: float = MIN_AGE_S) -> tuple[int, int]:
    """Removes segments whose owners are gone, as far as they belong to this user.

    Args:
        folder: where the segments are; nothing is done where it is missing.
        min_age_s: younger ones are left alone.

    Returns:
        How many were removed, and how many bytes they held.
    """
    num_removed = num_bytes = 0
    for lock_path in folder.glob('fast*_el') if folder.is_dir() else ():
        if match := _LOCK_FILE.fullmatch(lock_path.name):
            # It may vanish meanwhile, or be another user's.
            with suppress(FileNotFoundError, PermissionError):
                if time.time() - lock_path.stat().st_mtime >= min_age_s:
                    freed = _remove_if_orphaned(lock_path, folder / match[1])
                    num_removed += freed is not None
                    num_bytes += freed or 0
    return num_removed, num_bytes


def _remove_if_orphaned(lock_path: Path, segment_path: Path) -> int | None:
    """The bytes that were freed; None where somebody holds the lock."""
    lock = os.open(lock_path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        num_bytes = 0
        with suppress(FileNotFoundError):
            num_bytes = segment_path.stat().st_blocks * 512
            segment_path.unlink()
        lock_path.unlink()
        return num_bytes
    except BlockingIOError:
        return None
    finally:
        os.close(lock)
