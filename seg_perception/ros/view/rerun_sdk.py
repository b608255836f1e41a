"""The library that draws the page; the only place that imports it."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seg_perception.errors import MissingExtraError

OLDEST = (0, 34)
"""The first version with all that is used here."""
APPLICATION = 'seg_perception'


def load_rerun() -> tuple[Any, Any]:
    """The modules ``rerun`` and ``rerun.blueprint``.

    Raises:
        MissingExtraError: rerun-sdk is not installed, or too old.
    """
    try:
        found = tuple(int(part) for part in version('rerun-sdk').split('.')[:2])
        if found < OLDEST:
            raise PackageNotFoundError
        # Files without a table of contents are meant, see `Recording`.
        os.environ.setdefault('RUST_LOG', 'warn,re_log_encoding=error')
        return import_module('rerun'), import_module('rerun.blueprint')
    except (ImportError, PackageNotFoundError) as error:
        raise MissingExtraError(
            f'rerun-sdk>={OLDEST[0]}.{OLDEST[1]}', 'view', 'draw the page'
        ) from error


def server_program() -> Path:
    """The program, part of rerun-sdk, that serves the page.

    Raises:
        MissingExtraError: it is not there.
    """
    given = os.environ.get('RERUN_CLI_PATH')
    spec = find_spec('rerun_cli')
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(given) if given else Path(next(iter(folders or ('',))), 'rerun')
    if not path.is_file():
        raise MissingExtraError('rerun-sdk', 'view', 'serve the page')
    return path
