"""``seg-perception train``: from annotated images to a model the node runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import add_json_option

_EPILOG = """\
examples:
  seg-perception train floor.yaml
  seg-perception train config/training/camvid_fast.yaml \\
      --set data.root=data/camvid --set training.epochs=3
  seg-perception train floor.yaml --resume must --device cuda:1 --quiet

The run folder is a model: evaluate and export take it, and so does the node (model:=OUT). Files to
start from are in config/training of the package.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'train',
        help='train a model on annotated images',
        description='Trains a segmentation network as a YAML file says: which network and what '
        'it starts from, which images, how they are varied, and for how long. The best weights '
        'on the validation images are kept. A run that was killed goes on where its last '
        'checkpoint is when the same command is given again.',
        epilog=_EPILOG,
    )
    parser.add_argument('config', type=Path, help='YAML file of the run')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the run (default: runs/NAME of the configuration)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='must',
        default='auto',
        choices=['auto', 'must', 'never'],
        help='auto: go on where the folder has a checkpoint, else begin; must (or --resume '
        'alone): fail where it has none; never: fail where it has one',
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='SECTION.FIELD=VALUE',
        dest='overrides',
        help='replace a field of the configuration; may be repeated. Example: '
        '--set data.root=/data/camvid --set training.epochs=3',
    )
    parser.add_argument(
        '--tensorboard', action='store_true', help='write events for TensorBoard too'
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.pipeline import Segmenter
    from seg_perception.training.config import load_config
    from seg_perception.training.datasets import dataset_configs, open_dataset
    from seg_perception.training.evaluation import evaluate
    from seg_perception.training.report import write_report
    from seg_perception.training.run_log import LOG_FILE, RunLog, read_log
    from seg_perception.training.trainer import train

    config = load_config(arguments.config, arguments.overrides)
    run_dir = arguments.out or Path('runs') / config.name
    log = RunLog(run_dir, is_shown=not arguments.quiet, has_tensorboard=arguments.tensorboard)
    result = train(config, run_dir, device=arguments.device, resume=arguments.resume, log=log)
    dataset = open_dataset(dataset_configs(config.document)['val'], base_dir=config.base_dir)
    with Segmenter(result.card, device=arguments.device) as segmenter:
        evaluation = evaluate(segmenter, dataset, name='its validation images')
        report = write_report(
            evaluation, segmenter, dataset, run_dir / 'report', log=read_log(run_dir / LOG_FILE)
        )
    if arguments.json:
        print_json(
            {
                'model': run_dir,
                'report': report,
                'num_steps': result.num_steps,
                'best_step': result.best_step,
                'is_stopped_early': result.is_stopped_early,
                'mean_iou': evaluation.mean_iou,
            }
        )
        return 0
    ended = 'stopped early' if result.is_stopped_early else 'finished'
    print(
        f'{ended} after {result.num_steps} steps; best at step {result.best_step}: '
        f'mean IoU {evaluation.mean_iou:.4f}, temperature {result.card.output.temperature:g}'
    )
    print(f'model:  {run_dir}')
    print(f'report: {report}')
    return 0
