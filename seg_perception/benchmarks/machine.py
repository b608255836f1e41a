"""What the benchmark ran on: hardware and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from seg_perception.errors import MissingExtraError

DISTRIBUTIONS = ('numpy', 'opencv-python', 'onnxruntime', 'psutil')


def hardware() -> dict[str, object]:
    """Processor, cores this process may use, memory, GPU."""
    memory_bytes = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return {
        'cpu': _cpu_name(),
        'num_cores': len(os.sched_getaffinity(0)),
        'memory_gib': round(memory_bytes / 2**30, 1),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'kernel': platform.release(),
    }


def busy_share(seconds: float = 1.0) -> float:
    """Share of all cores' time that is in use now, 0 to 1; call it before measuring.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError('psutil', 'bench', 'measure processes') from error
    return float(psutil.cpu_percent(interval=seconds)) / 100.0


def versions() -> dict[str, str]:
    """Python and the libraries that do the work."""
    found = {'python': platform.python_version(), 'torch': torch.__version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found['seg_perception'] = _own_version()
    return found


def _own_version() -> str:
    try:
        return importlib.metadata.version('seg_perception')
    except importlib.metadata.PackageNotFoundError:
        return 'checkout'


def _cpu_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()
