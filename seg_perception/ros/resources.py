"""What the process takes of the machine and of the device, for diagnostics."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import torch

_MB = 2**20


def resource_values() -> dict[str, object]:
    """Memory of the process, and of the CUDA device where one is in use, in MiB; threads."""
    values: dict[str, object] = {'threads': threading.active_count()}
    if (rss_bytes := resident_bytes()) is not None:
        values['process_memory_mib'] = rss_bytes / _MB
    # Asking a device that this process does not use would start a context on it.
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        try:
            free_bytes, total_bytes = torch.cuda.mem_get_info()
            values |= {
                'device_memory_used_mib': torch.cuda.memory_reserved() / _MB,
                'device_memory_free_mib': free_bytes / _MB,
                'device_memory_total_mib': total_bytes / _MB,
            }
        except RuntimeError as error:  # after a device-side error every call fails
            values['device_memory'] = str(error).splitlines()[0]
    return values


def resident_bytes() -> int | None:
    """Resident memory of this process; None where the system does not say."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return None
