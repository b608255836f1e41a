"""``seg-perception params``: a node's parameters, as YAML or as a table."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'params',
        help="print a node's parameters",
        description="Prints a node's parameters with defaults, ranges and meaning.",
    )
    parser.add_argument(
        '--node',
        choices=('segmentation_node', 'image_source_node', 'monitor_node'),
        default='segmentation_node',
        help='whose parameters; those of the others need ROS 2 here (default: %(default)s)',
    )
    parser.add_argument(
        '--format',
        choices=('yaml', 'markdown'),
        default='yaml',
        help='a parameter file to start from, or a table (default: %(default)s)',
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the parameters."""
    from seg_perception.ros import params_text

    write = params_text.to_yaml if arguments.format == 'yaml' else params_text.to_markdown
    print(write(arguments.node), end='')
    return 0
