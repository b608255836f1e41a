"""``seg-perception doctor``: what is wrong with machine, topics and cameras, and what to do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option
from seg_perception.errors import ConfigurationError

DESCRIPTION = """\
Looks at Python, ROS 2, middleware, DDS profile, torch, GPU and extras; then at the cameras of a
running segmentation node, or at one named here: who publishes, with which type and QoS, whether
images come, how often, how old, whether they can be used, whether calibration and depth fit, and
whether TF leads from the cameras to the robot.
Says of everything that is not right what to do about it. Ends with 1 where something does not
work, with 0 where there are only warnings.
"""

EPILOG = """\
examples:
  seg-perception doctor
  seg-perception doctor --image /camera/color/image_raw --depth /camera/aligned_depth/image_raw
  seg-perception doctor --node /robot1/segmentation --json
  seg-perception doctor --bundle report.zip
"""

_MARKS = {'OK': ' ok ', 'WARNING': 'WARN', 'ERROR': 'FAIL'}


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'doctor',
        help='say what is wrong with machine, topics and cameras, and how to mend it',
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        '--node', default='/segmentation', metavar='NAME', help='the node whose cameras to look at'
    )
    parser.add_argument('--image', metavar='TOPIC', default='', help='look at this camera instead')
    parser.add_argument(
        '--transport',
        choices=('raw', 'compressed'),
        default='raw',
        help='how that camera sends images',
    )
    parser.add_argument(
        '--depth',
        metavar='TOPIC',
        default='',
        help='its depth images, registered to the colour images',
    )
    parser.add_argument(
        '--seconds', type=float, default=3.0, help='how long to listen to each camera'
    )
    parser.add_argument(
        '--base-frame',
        metavar='FRAME',
        default='',
        help="the robot's frame in TF; the node's base_frame, or base_link where none runs",
    )
    add_json_option(parser)
    parser.add_argument(
        '--bundle',
        type=Path,
        metavar='FILE',
        help='also write findings, parameters, versions and environment for a bug report (.zip)',
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.ros.doctor.examination import Question, examine, exit_code

    if not arguments.seconds > 0.0:
        raise ConfigurationError(f'--seconds: expected more than 0, got {arguments.seconds:g}')
    findings, parameters = examine(
        Question(
            node=arguments.node,
            image_topic=arguments.image,
            is_compressed=arguments.transport == 'compressed',
            depth_topic=arguments.depth,
            seconds=arguments.seconds,
            base_frame=arguments.base_frame,
        )
    )
    names: list[str] = []
    if arguments.bundle is not None:
        from seg_perception.ros.doctor.bundle import write_bundle

        names = write_bundle(arguments.bundle, findings, parameters)
    if arguments.json:
        print_json([finding.to_document() for finding in findings])
        return exit_code(findings)
    for finding in findings:
        print(f'[{_MARKS[finding.gravity.name]}] {finding.check}: {finding.what}')
        if finding.fix:
            print(f'       -> {finding.fix}')
    if names:
        print(f'wrote {arguments.bundle} with {", ".join(names)}')
    return exit_code(findings)
