"""``seg-perception export``: a model as a folder that the node takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.completers import model_names
from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option, complete_with

_EPILOG = """\
examples:
  seg-perception export runs/floor -o models/floor
  seg-perception export runs/floor -o models/floor_onnx --format onnx
  seg-perception export runs/floor -o served/floor --format triton
  seg-perception export runs/floor -o models/floor_int8 --format onnx --int8 --images photos

The folder is a model: ros2 run seg_perception segmentation_node --ros-args -p model:=models/floor
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'export',
        help='write a trained model as a folder the node takes',
        description='Writes weights and model card into a new folder, loads it again as the node '
        'would, and compares it with the network at two sizes. A folder that is there is right: '
        'on any failure nothing is left.',
        epilog=_EPILOG,
    )
    complete_with(
        parser.add_argument('model', help="a run's folder, a catalog name, card or weights file"),
        model_names,
    )
    parser.add_argument('-o', '--out', type=Path, required=True, help='the folder to make')
    parser.add_argument(
        '--format',
        default='safetensors',
        choices=['safetensors', 'pt2', 'onnx', 'triton'],
        help='safetensors: tensors only, runs on torch; pt2: torch.export, the node then wants '
        'trust_model_code; onnx: any batch and size, runs on onnxruntime; triton: the same as an '
        'entry of a model repository, for robots that share a GPU server',
    )
    parser.add_argument('--weights', type=Path, help="a local copy of the model's weights")
    parser.add_argument(
        '--int8',
        action='store_true',
        help='quantise an onnx export for CPUs; two to four times as quick there',
    )
    parser.add_argument(
        '--images',
        type=Path,
        help="folder of photographs from the robot's cameras that --int8 is made for; without "
        'one, photographs of scikit-image',
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.training.export import export
    from seg_perception.training.quantisation import read_images

    images = read_images(arguments.images) if arguments.int8 else []
    done = export(
        arguments.model,
        arguments.out,
        arguments.format,
        weights_path=arguments.weights,
        quantised_for=images,
    )
    if arguments.json:
        print_json({'folder': done.folder, 'comparisons': done.comparisons})
        return 0
    for comparison in done.comparisons:
        height, width = comparison.input_hw
        print(
            f'compared with the network at {comparison.batch}x3x{height}x{width}: logits differ '
            f'by at most {comparison.difference:.1e} of the largest, '
            f'{100 * comparison.same_labels:.2f} % of the labels agree'
        )
    print(f'model: {done.folder}')
    return 0
