"""``seg-perception bench --parity``, ``--live`` and ``--gpu``: engines and precisions compared."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import get_args

from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import whole_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the command's parser."""
    group = parser.add_argument_group('engines and precisions')
    group.add_argument(
        '--parity',
        action='store_true',
        help='compare labels and speed of all engines and precisions of --model with eager fp32; '
        'further models are the same one in other files, int8 exports for example',
    )
    group.add_argument(
        '--live',
        nargs='+',
        metavar='MODEL[,…]',
        help='compare the latency of these over live topics, by turns; the first is '
        'the reference; after the name may come ,engine=… ,precision=… and ,weights=…',
    )
    group.add_argument(
        '--gpu',
        action='store_true',
        help='compare the Segmenter with the bare forward loop on a GPU, for each --model, --size '
        '(of images and network input), --batch, --engine and --precision; random:NAME takes the '
        'architecture of NAME with random weights',
    )
    group.add_argument(
        '--batch', type=whole_numbers, default='1', metavar='N,…', help='images at once, of --gpu'
    )
    group.add_argument(
        '--engine',
        metavar='NAME,…',
        help='engines, separated by commas; of --parity those here, of --gpu eager,cuda_graph',
    )
    group.add_argument(
        '--precision',
        metavar='NAME,…',
        help='precisions; of --parity fp32 and bf16 (fp16 on a GPU), of --gpu fp16',
    )
    group.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help="photographs of --parity (default: scikit-image's)",
    )
    group.add_argument(
        '--weights', type=Path, metavar='FILE', help="a local copy of --parity's weights"
    )
    group.add_argument('--device', default='auto', help='of --parity: auto, cpu, cuda or cuda:N')


def run(arguments: argparse.Namespace) -> int:
    """Runs the comparison that is asked for; returns the exit code."""
    compare = _parity if arguments.parity else _live if arguments.live else _gpu
    document = compare(arguments)
    if arguments.json:
        print_json(document)
    return 0


def _parity(arguments: argparse.Namespace) -> object:
    from seg_perception.benchmarks.engine_parity import measure_parity, to_table
    from seg_perception.models import DEFAULT_MODEL

    document = measure_parity(
        [DEFAULT_MODEL if model == 'null' else model for model in arguments.model],
        engines=_named(arguments, 'engine'),
        precisions=_named(arguments, 'precision'),
        images=arguments.images,
        weights=arguments.weights,
        device=arguments.device,
        num_threads=arguments.threads[0],
    )
    if not arguments.json:
        print(to_table(document), end='')
    return document


def _live(arguments: argparse.Namespace) -> object:
    from seg_perception.benchmarks.contenders import parse_contender
    from seg_perception.ros.bench.run import measure_contenders

    rows = measure_contenders(
        [parse_contender(text) for text in arguments.live],
        size_wh=arguments.size[0],
        num_threads=arguments.threads[0],
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        rate_hz=arguments.rate,
        domain_id=arguments.domain_id,
        log_dir=arguments.log_dir,
    )
    if not arguments.json:
        from seg_perception.ros.bench.live import to_table

        print(to_table(rows), end='')
    return rows


def _gpu(arguments: argparse.Namespace) -> object:
    from seg_perception.benchmarks import gpu, machine
    from seg_perception.models import DEFAULT_MODEL

    rows = []
    for model, (width, height), batch, precision, engine in itertools.product(
        arguments.model,
        arguments.size,
        arguments.batch,
        _named(arguments, 'precision') or ['fp16'],
        _named(arguments, 'engine') or ['eager', 'cuda_graph'],
    ):
        name = DEFAULT_MODEL if model == 'null' else model
        case = gpu.GpuCase(name, engine, precision, (height, width), batch)
        rows.append(gpu.measure(case, seconds=arguments.seconds, rounds=arguments.rounds))
        head = gpu.table_head() if len(rows) == 1 else ''
        # Rows come as they are measured, which takes long.
        stream = sys.stderr if arguments.json else sys.stdout
        print(f'{head}{gpu.table_row(rows[-1])}', end='', flush=True, file=stream)
    return {
        'hardware': machine.hardware(),
        'versions': machine.versions(),
        'cases': [dataclasses.asdict(row) | {'ratio': row.ratio} for row in rows],
    }


def _named(arguments: argparse.Namespace, field: str) -> list[str]:
    """The engines or precisions given; none for none."""
    from seg_perception.backends import EngineName, Precision
    from seg_perception.errors import ConfigurationError

    known = get_args(EngineName if field == 'engine' else Precision)
    names = [part for part in (getattr(arguments, field) or '').split(',') if part]
    for name in names:
        if name not in known:
            raise ConfigurationError(f'--{field}: expected some of {", ".join(known)}, got {name}')
    return names
