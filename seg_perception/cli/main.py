"""Entry point of ``seg-perception``."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from seg_perception.cli import (
    bag,
    bench,
    completion,
    dataset,
    demo,
    doctor,
    evaluate,
    export,
    models,
    nav2_config,
    params,
    segment,
    soak,
    train,
    view,
)
from seg_perception.cli.endings import DONE, run_command
from seg_perception.cli.parsing import MAX_WIDTH, CommandParser
from seg_perception.freed_memory import keep_freed_memory

COMMANDS: Mapping[str, tuple[ModuleType, ...]] = {
    'see it work': (demo, view),
    'segment files and recordings, without ROS': (segment, bag),
    'set up a robot': (doctor, models, params, nav2_config, completion),
    'train a model': (dataset, train, evaluate, export),
    'measure the node': (bench, soak),
}
"""The sub-commands by what they are for, in the order of the overview.

Each module has ``add_parser(subparsers)``, which adds its parser and sets ``run`` on it with
``set_defaults(run=...)``: a function of the parsed arguments that returns the exit code. The rules
for all of them are in `seg_perception.cli`.
"""

DESCRIPTION = 'Semantic segmentation for robots: camera topics in, labels and object masks out.'

EPILOG = """\
examples:
  seg-perception demo
  seg-perception doctor
  seg-perception models list
  seg-perception models show deeplabv3_mobilenetv2.voc21

`seg-perception COMMAND --help` explains a command and has examples. Results are on stdout,
everything else on stderr; --json prints results for scripts. Exit codes: 0 done, 1 an error or a
failed check, 2 wrong arguments, 70 a bug, 130 interrupted.
"""


class _ShowVersion(argparse.Action):
    """Prints the version; looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version('seg_perception')
        except PackageNotFoundError:
            number = 'not installed: run from its sources'
        print(f'{parser.prog} {number}')
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser with all its sub-commands."""
    parser = CommandParser(
        prog='seg-perception',
        usage='%(prog)s [--help] [--version] [--debug] COMMAND ...',
        description=DESCRIPTION,
    )
    parser.add_argument('--version', action=_ShowVersion, nargs=0, help='print the version')
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(
        metavar='COMMAND', prog='seg-perception', help=argparse.SUPPRESS
    )
    for modules in COMMANDS.values():
        for module in modules:
            module.add_parser(commands)
    parser.epilog = f'{_overview(commands)}\n{EPILOG}'
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; without one, prints what there is.

    Args:
        argv: arguments without the program's name; None for the process's own.

    Returns:
        The exit code, see `seg_perception.cli.endings`. Wrong arguments end the process with 2.
    """
    parser = build_parser()
    if '_ARGCOMPLETE' in os.environ:
        from seg_perception.cli.completers import complete

        complete(parser)
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return DONE
    keep_freed_memory()
    return run_command(arguments.run, arguments)


def _overview(commands: Any) -> str:
    """The commands with what they are for, by group."""
    purposes = {action.dest: action.help for action in commands._choices_actions}
    names = iter(purposes)
    lines = []
    for title, modules in COMMANDS.items():
        lines.append(f'{title}:')
        for name in (next(names) for _ in modules):
            lines += textwrap.wrap(
                f'{name:<12}  {purposes[name]}',
                MAX_WIDTH - 1,
                initial_indent='  ',
                subsequent_indent=' ' * 16,
            )
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
