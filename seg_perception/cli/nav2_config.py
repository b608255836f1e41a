"""``seg-perception nav2-config``: the costmap file of Nav2's semantic_segmentation_layer."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from seg_perception.cli.completers import model_names
from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option, complete_with

_EPILOG = """\
examples:
  seg-perception nav2-config --model deeplabv3plus_mobilenetv2.ade20k31 \\
      --drivable floor,road,sidewalk
  seg-perception nav2-config --model deeplabv3plus_mobilenetv2.ade20k31 \\
      --drivable floor,road --danger person,car \\
      --camera /front --output nav2.yaml

then:
  ros2 launch seg_perception nav2_semantic.launch.py costmap:=nav2.yaml \\
      image:=/front/image_raw model:=deeplabv3plus_mobilenetv2.ade20k31

To use the layer inside Nav2, give --costmap local_costmap and copy the block of the layer, and its
name in "plugins", into Nav2's own file.
"""


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(',') if name.strip()]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'nav2-config',
        help="write the costmap file of Nav2's semantic_segmentation_layer",
        description='Writes the parameter file of a Nav2 costmap whose layer, the plugin '
        'semantic_segmentation_layer, reads the labels and points of the segmentation node. '
        'Class names are those of the model and are checked. Drivable ground becomes free, '
        'dangers become obstacles; other classes and unlabelled pixels mark nothing.',
        epilog=_EPILOG,
    )
    complete_with(
        parser.add_argument(
            '--model', required=True, help='the model the node runs: a catalog name, card or file'
        ),
        model_names,
    )
    parser.add_argument(
        '--drivable',
        type=_names,
        required=True,
        metavar='CLASS,...',
        help='classes that may be driven on: cost 0, free',
    )
    parser.add_argument(
        '--danger',
        type=_names,
        default=[],
        metavar='CLASS,...',
        help='classes that may not: cost 254, lethal',
    )
    parser.add_argument(
        '--camera',
        action='append',
        default=[],
        metavar='NAMESPACE',
        dest='cameras',
        help='namespace of the image topic, /front for /front/image_raw; may be repeated '
        '(default: /camera)',
    )
    parser.add_argument(
        '--min-distance',
        type=float,
        default=0.3,
        metavar='METRES',
        help='leave out points nearer to the camera',
    )
    parser.add_argument(
        '--max-distance',
        type=float,
        default=5.0,
        metavar='METRES',
        help='leave out points farther away; the costmap is twice as wide',
    )
    parser.add_argument(
        '--decay',
        type=float,
        default=5.0,
        metavar='SECONDS',
        help='forget what is older',
    )
    parser.add_argument(
        '--resolution',
        type=float,
        default=0.05,
        metavar='METRES',
        help='edge of a cell',
    )
    parser.add_argument(
        '--global-frame',
        default='odom',
        metavar='FRAME',
        help='frame the costmap moves through',
    )
    parser.add_argument(
        '--base-frame',
        default='base_link',
        metavar='FRAME',
        help="the robot's frame",
    )
    parser.add_argument(
        '--costmap',
        default='costmap',
        metavar='NAME',
        help="the costmap's node and namespace: costmap for nav2_semantic.launch.py, "
        'local_costmap or global_costmap for Nav2',
    )
    parser.add_argument(
        '--layer-name',
        default='semantic_segmentation_layer',
        metavar='NAME',
        help="the layer's name among the costmap's plugins",
    )
    parser.add_argument(
        '-o', '--output', type=Path, metavar='FILE', help='file to write; printed where not given'
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the file or prints it."""
    from seg_perception.errors import ConfigurationError
    from seg_perception.models import resolve
    from seg_perception.navigation import CostmapOptions, costmap_yaml

    options = CostmapOptions(
        cameras=tuple(arguments.cameras or ['/camera']),
        min_distance_m=arguments.min_distance,
        max_distance_m=arguments.max_distance,
        decay_s=arguments.decay,
        resolution_m=arguments.resolution,
        global_frame=arguments.global_frame,
        base_frame=arguments.base_frame,
        costmap=arguments.costmap,
        layer_name=arguments.layer_name,
    )
    text = costmap_yaml(resolve(arguments.model), arguments.drivable, arguments.danger, options)
    if arguments.output is not None:
        try:
            arguments.output.write_text(text, encoding='utf-8')
        except OSError as error:
            raise ConfigurationError(
                f'output: cannot write {arguments.output}: {error}'
            ) from error
        print(f'wrote {arguments.output}', file=sys.stderr)
    if arguments.json:
        import yaml

        print_json(yaml.safe_load(text))
    elif arguments.output is None:
        print(text, end='')
    return 0
