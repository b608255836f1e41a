"""``seg-perception bench --parity``, ``--live`` and ``--gpu``: engines and precisions compared."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from pathlib import Path


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
        metavar='MODEL[,engine=…][,precision=…][,weights=…]',
        help='compare the latency of these over live topics, by turns; the first is the reference',
    )
    group.add_argument(
        '--gpu',
        action='store_true',
        help='compare the Segmenter with the bare forward loop on a GPU, for each --model, --size '
        '(of images and network input), --batch, --engine and --precision; random:NAME takes the '
        'architecture of NAME with random weights',
    )
    group.add_argument('--batch', default='1', help='images at once, of --gpu (1)')
    group.add_argument(
        '--engine',
        help='engines, separated by commas; of --parity those here, of --gpu eager,cuda_graph',
    )
    group.add_argument(
        '--precision',
        help='precisions; of --parity fp32 and bf16 (fp16 on a GPU), of --gpu fp16',
    )
    group.add_argument('--images', type=Path, help="photographs of --parity; scikit-image's")
    group.add_argument('--weights', type=Path, help="a local copy of --parity's weights")
    group.add_argument('--device', default='auto', help='of --parity (auto)')
    group.add_argument('--json', type=Path, help='file for the figures of these')


def run(arguments: argparse.Namespace) -> int:
    """Runs the comparison that is asked for; returns the exit code."""
    compare = _parity if arguments.parity else _live if arguments.live else _gpu
    document = compare(arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=1) + '\n')
    return 0


def _parity(arguments: argparse.Namespace) -> object:
    from seg_perception.benchmarks.engine_parity import measure_parity, to_table
    from seg_perception.models import DEFAULT_MODEL

    document = measure_parity(
        [DEFAULT_MODEL if model == 'null' else model for model in arguments.model],
        engines=_parts(arguments.engine),
        precisions=_parts(arguments.precision),
        images=arguments.images,
        weights=arguments.weights,
        device=arguments.device,
        num_threads=arguments.threads[0],
    )
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
        [int(part) for part in _parts(arguments.batch)],
        _parts(arguments.precision) or ['fp16'],
        _parts(arguments.engine) or ['eager', 'cuda_graph'],
    ):
        name = DEFAULT_MODEL if model == 'null' else model
        case = gpu.GpuCase(name, engine, precision, (height, width), batch)
        rows.append(gpu.measure(case, seconds=arguments.seconds, rounds=arguments.rounds))
        head = gpu.table_head() if len(rows) == 1 else ''
        print(f'{head}{gpu.table_row(rows[-1])}', end='', flush=True)
    return {
        'hardware': machine.hardware(),
        'versions': machine.versions(),
        'cases': [dataclasses.asdict(row) | {'ratio': row.ratio} for row in rows],
    }


def _parts(text: str | None) -> list[str]:
    return [part for part in (text or '').split(',') if part]
