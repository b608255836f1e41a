"""``seg-perception dataset``: looks at annotated images before a training does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option

_DESCRIPTION = """\
Reads every image and mask once and reports images without mask and masks without image,
unreadable files, sizes that differ, ids outside the class table, masks without annotation,
how often each class occurs, and images of train that are in val, too.
"""
_EPILOG = """\
examples:
  seg-perception dataset check config/training/camvid_fast.yaml --set data.root=$PWD/data/camvid
  seg-perception dataset check --layout labelme --root trays --classes background,tray
  seg-perception dataset check --layout folders --root floor --classes floor/classes.txt

A configuration is that of a training (its data section) or of one dataset (layout, root, …).
Ends with 0 where the datasets can be trained with (warnings may remain), 1 where not.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'dataset',
        help='check annotated images before training on them',
        description='Works with annotated images, before a training does.',
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    check = commands.add_parser(
        'check',
        help='find broken pairs, wrong sizes, unknown ids, imbalance and leaks',
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    check.add_argument('config', nargs='?', type=Path, help='YAML file of a training or dataset')
    check.add_argument(
        '--set',
        dest='overrides',
        action='append',
        default=[],
        metavar='FIELD=VALUE',
        help='set a field of the file, e.g. data.root=/data/camvid, or of a dataset given by '
        '--layout, e.g. masks=labels; may be repeated',
    )
    check.add_argument('--layout', help='instead of a file: layout of the dataset')
    check.add_argument('--root', help='its folder')
    check.add_argument('--split', help='its part, as the layout names it')
    check.add_argument('--classes', help='names in the order of ids, with commas, or a file')
    add_json_option(check)
    check.add_argument(
        '--workers', type=_count, default=0, help='threads that read; 0 is one per core'
    )
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Runs ``dataset check``; returns its exit code."""
    from seg_perception.training.datasets.check import check_datasets

    configs, base_dir = _configs(arguments)
    report = check_datasets(
        configs,
        base_dir=base_dir,
        num_workers=arguments.workers,
        on_progress=_show_progress if sys.stderr.isatty() else None,
    )
    if arguments.json:
        print_json(report.to_dict())
    else:
        print(report.to_text())
    return 1 if report.num_errors else 0


def _configs(arguments: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], Path]:
    """The datasets to check, and the folder that their relative roots start from."""
    from seg_perception.errors import ConfigurationError
    from seg_perception.training.config import load_document, override
    from seg_perception.training.datasets import dataset_configs

    described = {
        key: value
        for key in ('layout', 'root', 'split', 'classes')
        if (value := getattr(arguments, key)) is not None
    }
    if arguments.config is not None:
        if described:
            raise ConfigurationError(
                f'expected either a configuration file or --layout and --root, got both '
                f'{arguments.config} and --{next(iter(described))}: use --set'
            )
        document = load_document(arguments.config)
        for text in arguments.overrides:
            override(document, text)
        return dataset_configs(document), arguments.config.absolute().parent
    if 'layout' not in described or 'root' not in described:
        raise ConfigurationError('expected a configuration file, or --layout and --root')
    if 'classes' in described:
        file = Path(described['classes'])
        # A file given here is seen from the working directory, as any argument.
        described['classes'] = (
            str(file.resolve()) if file.is_file() else described['classes'].split(',')
        )
    for text in arguments.overrides:
        override(described, text)
    return {'dataset': described}, Path()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f'expected a number of 0 or more, got {text!r}')
    return int(text)


def _show_progress(part: str, num_done: int, num_all: int) -> None:
    is_last = num_done == num_all
    if is_last or num_done % 10 == 0:
        end = '\n' if is_last else '\r'
        print(f'checking {part}: {num_done}/{num_all}', end=end, file=sys.stderr, flush=True)
