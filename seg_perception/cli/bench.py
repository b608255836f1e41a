"""``seg-perception bench``: what the node costs beside the model, measured and accepted."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seg_perception.benchmarks.acceptance import BOUNDS
from seg_perception.cli import engine_bench
from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import MAX_WIDTH, add_json_option, domain_id, whole_numbers, words
from seg_perception.errors import ConfigurationError

DESCRIPTION = """\
Measures, interleaved in one run and each checked for right labels first:

  forward alone  the model's bare forward loop, the limit;
  Segmenter      this package's pipeline in one process;
  node           segmentation_node between a camera process and a sink
                 process, over live topics;
  plain node     the same as tutorials write it: BGR copy, cv2.resize, NumPy
                 normalisation, softmax and argmax at the network's size,
                 NEAREST resize, array.tobytes().

Reports CPU time per frame, latency p50/p95/p99, rate, jitter, missed frames and memory.
"""

EPILOG = """\
{examples}
sweeps: lists are separated by commas. The first values together are the base; every other value
is measured with all else as in the base. --model null is a network that costs nothing, so that
only the node's own work is left; cameras then send 10 images per second, else 1.3 times what the
bare model can do. CPU time counts user and system time of a process between two moments after
warm-up, so that it means something on a busy machine too; wall-clock figures need a quiet one.

throughput against the bare forward loop: the camera is part of the measurement, not of the node,
so its CPU time, spread over all cores, is taken off the time: frames / (seconds - camera CPU
seconds / cores). The sink's is not taken off.

{bounds}"""

EXAMPLES = """\
examples:
  seg-perception bench --size 640x480,1280x720,1920x1080 --out /tmp/sizes
  seg-perception bench --classes 2,21,150 --outputs labels,labels+confidence,+masks5,+overlay
  seg-perception bench --model deeplabv3_mobilenetv2.voc21 --cameras 1,2,4 --threads 2
  seg-perception bench --compare before/report.json after/report.json
  seg-perception bench --accept
  seg-perception bench --accept node_cpu_vs_plain,memory_growth_mib
  seg-perception bench --parity --model deeplabv3_mobilenetv2.voc21 --threads 2
  seg-perception bench --gpu --size 960x544,1920x1080 --batch 1,8 --engine cuda_graph
  seg-perception bench --live my.onnx my.onnx,engine=openvino --size 640x480 --threads 2
"""

# What is done instead of measuring the node.
_INSTEAD = ('accept', 'compare', 'parity', 'live', 'gpu')


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'bench',
        help='measure what the node costs beside the model, against a plain node',
        description=DESCRIPTION,
        epilog=EPILOG.replace('{bounds}', _bounds_text()).replace('{examples}', EXAMPLES),
    )
    parser.add_argument(
        '--model',
        type=words,
        default='null',
        metavar='NAME,…',
        help='models: null, catalog names or files',
    )
    parser.add_argument(
        '--classes',
        type=whole_numbers,
        default='21',
        metavar='N,…',
        help='class counts of the null model',
    )
    parser.add_argument(
        '--size', type=_sizes, default='1280x720', metavar='WxH,…', help='image sizes in pixels'
    )
    parser.add_argument(
        '--encoding',
        type=words,
        default='rgb8',
        metavar='NAME,…',
        help='image encodings: rgb8, bgr8, yuv422, bayer_rggb8 …, or jpeg',
    )
    parser.add_argument(
        '--outputs',
        type=words,
        default='labels+confidence',
        metavar='NAME,…',
        help='what is listened to: labels, labels+confidence, +masks5, +overlay (each with all '
        'before it)',
    )
    parser.add_argument(
        '--cameras', type=whole_numbers, default='1', metavar='N,…', help='numbers of cameras'
    )
    parser.add_argument(
        '--threads',
        type=whole_numbers,
        default='1',
        metavar='N,…',
        help='CPU threads of the model',
    )
    parser.add_argument(
        '--scene',
        choices=('regions', 'checkers'),
        default='regions',
        help='what null models see: twelve regions, or two colours whose borders are the same for '
        'any number of classes, for sweeps of --classes (regions)',
    )
    parser.add_argument('--rounds', type=int, default=3, help='turns of each mode')
    parser.add_argument('--seconds', type=float, default=3.0, help='length of a turn')
    parser.add_argument(
        '--rate', type=float, metavar='HZ', help='images per second of each camera'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FOLDER',
        help='folder for report.json, report.md and report.png',
    )
    parser.add_argument(
        '--accept',
        nargs='?',
        const='all',
        metavar='NAME,…',
        help='measure the acceptance bounds instead (all, or those named), print one line each: '
        'name value bound PASS|FAIL; ends with 1 where one fails',
    )
    parser.add_argument(
        '--compare', nargs=2, type=Path, metavar='REPORT', help='compare two report.json instead'
    )
    parser.add_argument(
        '--log-dir', type=Path, metavar='FOLDER', help="folder for the processes' messages"
    )
    parser.add_argument(
        '--domain-id',
        type=domain_id,
        metavar='ID',
        help='ROS domain to run on; a private one where not given',
    )
    add_json_option(parser)
    engine_bench.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    asked = [name for name in _INSTEAD if getattr(arguments, name)]
    if len(asked) > 1:
        raise ConfigurationError(
            f'expected one of {", ".join(f"--{name}" for name in _INSTEAD)}, '
            f'got {" and ".join(f"--{name}" for name in asked)}'
        )
    if arguments.compare:
        from seg_perception.benchmarks.comparison import compare, comparison_table
        from seg_perception.benchmarks.report import read_json

        reports = [read_json(path) for path in arguments.compare]
        if arguments.json:
            print_json(compare(*reports))
        else:
            print(comparison_table(*reports), end='')
        return 0
    if arguments.accept:
        return _accept(arguments)
    if arguments.parity or arguments.live or arguments.gpu:
        return engine_bench.run(arguments)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    from seg_perception.benchmarks.report import make_document, to_markdown, write_report
    from seg_perception.ros.bench.run import measure_sweep

    cases, busy_before = measure_sweep(
        {
            'model': arguments.model,
            'num_classes': arguments.classes,
            'size_wh': arguments.size,
            'encoding': arguments.encoding,
            'outputs': arguments.outputs,
            'num_cameras': arguments.cameras,
            'num_threads': arguments.threads,
            'null_scene': [arguments.scene],
        },
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        rate_hz=arguments.rate,
        domain_id=arguments.domain_id,
        log_dir=arguments.log_dir,
    )
    document = make_document(cases, shlex.join(['seg-perception', *sys.argv[1:]]), busy_before)
    if arguments.out is not None:
        write_report(document, arguments.out)
        print(f'wrote report.json, report.md and report.png to {arguments.out}', file=sys.stderr)
    if arguments.json:
        print_json(document)
    else:
        print(to_markdown(document), end='')
    return 0


def _accept(arguments: argparse.Namespace) -> int:
    from seg_perception.ros.bench.run import measure_acceptance

    verdicts = []
    for verdict in measure_acceptance(
        arguments.accept, domain_id=arguments.domain_id, log_dir=arguments.log_dir
    ):
        print(verdict.line(), flush=True, file=sys.stderr if arguments.json else sys.stdout)
        verdicts.append(verdict)
    is_passed = all(verdict.is_passed for verdict in verdicts)
    if arguments.json:
        bounds = [{**asdict(v), 'is_passed': v.is_passed} for v in verdicts]
        print_json({'is_passed': is_passed, 'bounds': bounds})
    return 0 if is_passed else 1


def _bounds_text() -> str:
    lines = ['bounds of --accept:']
    for name, bound in BOUNDS.items():
        limit = f'{bound.sign} {bound.limit:g}' if bound.limit is not None else bound.sign
        lines.append(f'  {name} {limit}')
        lines += textwrap.wrap(
            bound.meaning, MAX_WIDTH - 2, initial_indent='    ', subsequent_indent='    '
        )
    return '\n'.join([*lines, ''])


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = []
    for part in words(text):
        try:
            width, height = map(int, part.split('x'))
        except ValueError:
            message = f'expected sizes as 1280x720, got {part!r}'
            raise argparse.ArgumentTypeError(message) from None
        sizes.append((width, height))
    return sizes
