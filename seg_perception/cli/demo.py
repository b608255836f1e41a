"""``seg-perception demo``: a camera, the node and a monitor, running together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.completers import model_names, parameter_names
from seg_perception.cli.parsing import complete_with, domain_id

_EPILOG = """\
examples:
  seg-perception demo
  seg-perception demo --source webcam:0 --seconds 60
  seg-perception demo --source drive.mcap --rate 0 --out /tmp/drive
  seg-perception demo --view
  seg-perception demo --model mobile.onnx -p object_min_area_px:=200 -p confidence_threshold:=0.5
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'demo',
        help='segment photographs, a video, a webcam or a recording over real ROS 2 topics',
        description='Starts an image source, the segmentation node and a monitor as processes on '
        'a private ROS 2 domain, and shows rate, latency and the classes seen. Ends with 0 when '
        'frames were published. With --view also a live web page, until Ctrl-C.',
        epilog=_EPILOG,
    )
    parser.add_argument(
        '--view',
        nargs='?',
        const='127.0.0.1',
        metavar='HOST',
        help='also serve a live web page, as seg-perception view does; 0.0.0.0 lets others see it',
    )
    parser.add_argument(
        '--seconds',
        type=float,
        metavar='SECONDS',
        help='how long to watch, from the first result on (20; with --view until Ctrl-C)',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out'), help='folder for overlay.png, summary and logs'
    )
    parser.add_argument(
        '--source',
        default='demo',
        help='demo, image file, folder, glob, video, webcam:<index>, rosbag2 or mcap',
    )
    complete_with(
        parser.add_argument(
            '--model', help="catalog name or file of a model; the node's default where not given"
        ),
        model_names,
    )
    parser.add_argument(
        '--rate', type=float, default=10.0, help='pictures per second; 0 for as recorded'
    )
    complete_with(
        parser.add_argument(
            '-p',
            '--param',
            action='append',
            default=[],
            metavar='NAME:=VALUE',
            help='a further parameter of the segmentation node; may be repeated',
        ),
        parameter_names,
    )
    parser.add_argument(
        '--domain-id',
        type=domain_id,
        metavar='ID',
        help='ROS domain to run on; a private one where not given',
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.ros.demo import DemoOptions, run_demo

    seconds = None if arguments.view else DemoOptions().seconds
    return run_demo(
        DemoOptions(
            seconds=seconds if arguments.seconds is None else arguments.seconds,
            view_host=arguments.view or '',
            out_dir=arguments.out,
            source=arguments.source,
            model=arguments.model or '',
            rate_hz=arguments.rate,
            node_parameters=arguments.param,
            domain_id=arguments.domain_id,
        )
    )
