"""``seg-perception evaluate``: what a model is worth on annotated images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.completers import model_names
from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option, complete_with

_EPILOG = """\
examples:
  seg-perception evaluate runs/floor config/training/floor.yaml
  seg-perception evaluate deeplabv3_mobilenetv2.voc21 voc.yaml --part val --out report
  seg-perception evaluate models/floor_int8 floor.yaml --engine openvino --json | jq .mean_iou
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'evaluate',
        help='measure a model on annotated images',
        description='Runs a model on every image of a dataset, through the pipeline that the '
        'node runs and at the size of the image, and writes report.md, metrics.json and pictures: '
        'IoU by class, confusion matrix, best and worst images, and the curves of a training run.',
        epilog=_EPILOG,
    )
    complete_with(
        parser.add_argument(
            'model', help="a run's folder, an exported folder, a catalog name, card or model file"
        ),
        model_names,
    )
    parser.add_argument(
        'dataset', type=Path, help='YAML file of a dataset, or of a training run (its data)'
    )
    parser.add_argument(
        '--part', help='which part of the file: train, val or test (default: val, or all there is)'
    )
    parser.add_argument('--out', type=Path, default=Path('report'), help='folder of the report')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--engine', default='native', help='what runs the model, as of the node')
    parser.add_argument('--precision', default='auto', help='auto, fp32, fp16, bf16 or int8')
    parser.add_argument('--weights', type=Path, help="a local copy of the model's weights")
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='SECTION.FIELD=VALUE',
        dest='overrides',
        help='replace a field of the file, e.g. data.root=/data/camvid; may be repeated',
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.errors import ConfigurationError
    from seg_perception.pipeline import Segmenter
    from seg_perception.progress import ProgressBar
    from seg_perception.training.config import load_document, override
    from seg_perception.training.datasets import dataset_configs, open_dataset
    from seg_perception.training.evaluation import evaluate
    from seg_perception.training.report import write_report
    from seg_perception.training.run_log import LOG_FILE, read_log

    document = load_document(arguments.dataset)
    for text in arguments.overrides:
        override(document, text)
    parts = dataset_configs(document)
    part = arguments.part or ('val' if 'val' in parts else next(iter(parts)))
    if part not in parts:
        raise ConfigurationError(
            f'--part: expected one of {", ".join(parts)}, as {arguments.dataset} has, got {part}'
        )
    dataset = open_dataset(parts[part], base_dir=arguments.dataset.absolute().parent)
    log_path = Path(arguments.model) / LOG_FILE
    log = read_log(log_path) if log_path.is_file() else []
    with (
        Segmenter(
            arguments.model,
            weights_path=arguments.weights,
            device=arguments.device,
            engine=arguments.engine,
            precision=arguments.precision,
        ) as segmenter,
        ProgressBar(is_shown=False if arguments.quiet else None) as bar,
    ):
        name = f'{arguments.dataset.stem} {part}'
        evaluation = evaluate(segmenter, dataset, name=name, progress=bar.reach)
        report = write_report(evaluation, segmenter, dataset, arguments.out, log=log)
    if arguments.json:
        print_json({**evaluation.summary(), 'report': report})
        return 0
    metrics = evaluation.metrics
    print(
        f'{len(evaluation.images)} images: mean IoU {metrics.mean_iou:.4f}, '
        f'pixel accuracy {metrics.pixel_accuracy:.4f}'
    )
    print(f'report: {report}')
    return 0
