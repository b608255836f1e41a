"""What the shell offers for the next word, through argcomplete; see docs/shell.md."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

_ENTRY = re.compile(r'^( *)(\w+):(.*)$', re.MULTILINE)
_TOP = 4
"""How far parameters are indented in a parameter file; those of a camera are further."""


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers the shell and ends the process; called where the shell asks (``_ARGCOMPLETE``)."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def model_names(prefix: str) -> Iterable[str]:
    """Names of the catalog, and files."""
    from seg_perception.models.catalog import list_models

    return [*list_models(), *files(prefix)]


def files(prefix: str) -> Iterable[str]:
    """Files and folders, as the shell would offer them."""
    from argcomplete.completers import FilesCompleter

    return list(FilesCompleter()(prefix))


def parameter_names(prefix: str) -> Iterable[str]:
    """``NAME:=`` of every parameter of the segmentation node."""
    del prefix
    return [f'{name}:=' for name in _parameter_names()]


def _parameter_names() -> list[str]:
    """From the parameter file that is installed: the table itself takes a second to import."""
    from seg_perception.ros.environment import find_share_file

    path = find_share_file(Path('config/segmentation.yaml'))
    if path is None:
        return []
    names, group = [], ''
    for indent, name, value in _ENTRY.findall(path.read_text(encoding='utf-8')):
        if not value and len(indent) == _TOP:
            group = f'{name}.'
        elif len(indent) >= _TOP:
            names.append(name if len(indent) == _TOP else group + name)
    return names
