"""``seg-perception view``: a live web page of what the segmentation nodes here see."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.parsing import add_json_option

DESCRIPTION = """\
Shows what the segmentation nodes of this ROS domain publish, live, on a web page: images with
their labels, confidence, objects, points and boxes in space, shares of the classes, latency and
rate. Finds the cameras by itself, goes on when they or their nodes come and go, and says on the
page and here what it waits for. Ctrl-C ends it.

Nobody waits for the viewer: it draws the newest frames, up to --rate a second, and leaves out
others. The node computes an output for it only while it runs.

The page is for this machine alone unless --host says otherwise; on a robot that is --host 0.0.0.0,
and the page is opened on a laptop. Whoever can reach its two ports sees the images: there is no
password.
"""

EPILOG = """\
examples:
  seg-perception view
  seg-perception view --host 0.0.0.0
  seg-perception view front rear --rate 5
  seg-perception view --save drive.rrd
  seg-perception view --no-page --save drive.rrd --seconds 60 --json

`rerun drive.rrd` shows a recording again.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'view',
        help='a live web page of images, labels, objects, points, latency',
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        'cameras', nargs='*', metavar='CAMERA', help='names or namespaces to show; all if none'
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='of this machine, to serve on; 0.0.0.0 for all of them',
    )
    parser.add_argument(
        '--port', type=int, default=9090, help='port of the page; 0 for any free one'
    )
    parser.add_argument(
        '--data-port', type=int, default=9876, help="port of the page's data; 0 for any free one"
    )
    parser.add_argument(
        '--rate', type=float, default=10.0, metavar='HZ', help='most frames of a camera per second'
    )
    parser.add_argument(
        '--images',
        choices=('auto', 'raw', 'jpeg'),
        default='auto',
        help='how images go to the page; auto is jpeg where --host lets others see it, else raw',
    )
    parser.add_argument(
        '--memory',
        type=int,
        default=64,
        metavar='MIB',
        help='how much of what was drawn is kept for browsers that come late',
    )
    parser.add_argument('--save', type=Path, metavar='FILE', help='also record to a .rrd file')
    parser.add_argument('--no-page', action='store_true', help='only record')
    parser.add_argument(
        '--seconds', type=float, default=0.0, metavar='SECONDS', help='how long; 0 for ever'
    )
    parser.add_argument(
        '--sim-time', action='store_true', help="take a simulation's time, from /clock"
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.ros.view.command import view

    return view(
        {
            'cameras': arguments.cameras or [''],
            'host': arguments.host,
            'page_port': arguments.port,
            'data_port': arguments.data_port,
            'memory_mib': arguments.memory,
            'images': arguments.images,
            'has_page': not arguments.no_page,
            'save_path': str(arguments.save or ''),
            'max_rate_hz': arguments.rate,
            'duration_s': arguments.seconds,
            'prints_json': arguments.json,
            'use_sim_time': arguments.sim_time,
        }
    )
