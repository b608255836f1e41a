"""Starts a node that can be interrupted at once: ``python -m seg_perception.ros.start MODULE``.

A node's libraries take seconds to import; a signal that comes meanwhile must end the process as
quietly as any other.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from seg_perception.freed_memory import keep_freed_memory
from seg_perception.ros.process import catch_signals


def start(module: str) -> NoReturn:
    """Imports a node's module of this package and runs its ``main``."""
    catch_signals()
    keep_freed_memory()  # libraries start threads as they are imported
    import_module(f'seg_perception.ros.{module}').main()
    raise AssertionError(f'{module}.main() returned')


if __name__ == '__main__':
    start(sys.argv.pop(1))
