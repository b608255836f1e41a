"""``seg-perception params``: a node's parameters, as YAML or as a table."""

from __future__ import annotations

import argparse
from typing import Any

from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option

_EPILOG = """\
examples:
  seg-perception params > segmentation.yaml
  seg-perception params --node image_source_node
  seg-perception params --json | jq -r '.[] | select(.live) | .name'

The node takes the file: ros2 run seg_perception segmentation_node --ros-args
--params-file segmentation.yaml
"""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'params',
        help="print a node's parameters",
        description="Prints a node's parameters with defaults, ranges and meaning.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        '--node',
        choices=('segmentation_node', 'image_source_node', 'monitor_node'),
        default='segmentation_node',
        help='whose parameters; those of the others need ROS 2 here',
    )
    parser.add_argument(
        '--format',
        choices=('yaml', 'markdown'),
        default='yaml',
        help='a parameter file to start from, or a table',
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the parameters."""
    from seg_perception.ros import params_text

    if arguments.json:
        print_json(params_text.to_document(arguments.node))
        return 0
    write = params_text.to_yaml if arguments.format == 'yaml' else params_text.to_markdown
    print(write(arguments.node), end='')
    return 0
