"""Entry point of ``seg-perception``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from seg_perception.cli import (
    bench,
    dataset,
    demo,
    doctor,
    evaluate,
    export,
    models,
    nav2_config,
    params,
    soak,
    train,
)
from seg_perception.errors import SegPerceptionError

COMMANDS: tuple[ModuleType, ...] = (
    demo,
    doctor,
    models,
    params,
    dataset,
    train,
    evaluate,
    export,
    bench,
    soak,
    nav2_config,
)
"""The sub-commands in the order of the help text.

Each module has ``add_parser(subparsers)``, which adds its parser and sets ``run`` on it with
``set_defaults(run=...)``: a function of the parsed arguments that returns the exit code. Heavy
libraries are imported in there, so that ``--help`` stays quick.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all its sub-commands."""
    parser = argparse.ArgumentParser(
        prog='seg-perception', description='Semantic segmentation for robots.'
    )
    subparsers = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; None for the process's own.

    Returns:
        The exit code: 0 for success, 1 for an error that was explained on stderr. Wrong
        arguments end the process with 2, as argparse does.
    """
    arguments = build_parser().parse_args(argv)
    try:
        exit_code = int(arguments.run(arguments))
        sys.stdout.flush()
        return exit_code
    except SegPerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, a pager) has seen enough; nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == '__main__':
    sys.exit(main())
