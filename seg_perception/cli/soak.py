"""``seg-perception soak``: a node under everything that happens to it, kept to account."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option, domain_id

DESCRIPTION = """\
Runs segmentation_node between a process of cameras and one that listens, for as long as asked:
cameras leave, come back, die, change size, encoding and rate, burst, fall silent and send
garbage; subscribers come and go; parameters change, some of them to impossible values; the node
is disabled, deactivated, and loaded again with another model or with one that is not there.

After every step the node has to be publishing again. Every account it publishes has to add up,
every fault has to be reported as what it is, and its memory, threads and file descriptors must
not grow. Ends with 1 where one of the bounds is broken.
"""

EPILOG = """\
examples:
  seg-perception soak --minutes 60 --report soak.json
  seg-perception soak --minutes 5 --seed 7 --log-dir /tmp/soak
  seg-perception soak --minutes 1 --json | jq .is_passed
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'soak',
        help='run a node under faults for as long as you like, and see that it holds',
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument('--minutes', type=float, default=10.0, help='how long')
    parser.add_argument('--seed', type=int, default=0, help='the same one makes the same steps')
    parser.add_argument(
        '--report', type=Path, metavar='FILE', help='where to write everything as JSON'
    )
    parser.add_argument(
        '--log-dir', type=Path, metavar='FOLDER', help="folder for the processes' messages"
    )
    parser.add_argument(
        '--domain-id',
        type=domain_id,
        metavar='ID',
        help='ROS domain to run on; a private one where not given',
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.ros.soak.run import run_soak

    if arguments.report is not None:
        # Not after an hour: a place that cannot be written to.
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.touch()
    document = run_soak(
        arguments.minutes,
        arguments.seed,
        domain_id=arguments.domain_id,
        log_dir=arguments.log_dir,
    )
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')
        print(f'wrote {arguments.report}', file=sys.stderr)
    if arguments.json:
        print_json(document)
    else:
        from seg_perception.ros.soak.report import to_text

        print(to_text(document), end='')
    return 0 if document['is_passed'] else 1
