"""``seg-perception bag``: a recording in, the same recording with labels out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.cli.completers import model_names
from seg_perception.cli.parsing import add_json_option, complete_with

if TYPE_CHECKING:
    from seg_perception.recordings.opening import Request
    from seg_perception.recordings.plan import Job
    from seg_perception.recordings.run import Account
    from seg_perception.recordings.workers import Workers

DESCRIPTION = """\
Segments the cameras of a recording (rosbag2: a folder, an .mcap or a .db3 file) and writes a new
one: every message of the old one, byte for byte, and beside each image what the live node would
have published, on the same topics, with the same stamps. No ROS is needed.

A job that was stopped or killed goes on where it was when the same command is given again. The
results are the same to the byte however often that happens, and however many processes or
machines do it. Images that cannot be decoded and parts that cannot be read are named and
counted, and the exit code is then 1.
"""

EPILOG = """\
examples:
  seg-perception bag drive/ -o drive_labeled --stats shares.csv
  seg-perception bag drive/ --list
  seg-perception bag drive.mcap -o night --topics '/front/*' --start 60 --end 120 --every 0.5
  seg-perception bag drive/ -o masks --outputs labels masks/person masks/car overlay
  seg-perception bag drive/ -o drive_labeled --ray 10.0.0.1:6379
  seg-perception bag drive/ --estimate
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'bag',
        help='segment a recording (rosbag2) and write a new one with labels',
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument('recording', type=Path, help='a folder, an .mcap or a .db3 file')
    parser.add_argument('-o', '--out', type=Path, help='folder of the new recording')
    _add_selection(parser)
    _add_model(parser)
    _add_results(parser)
    _add_work(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what to segment')
    group.add_argument('--list', action='store_true', help='show the image topics, do nothing')
    group.add_argument(
        '--topics',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help='image topics, * and ? as in the shell (default: all that look like cameras)',
    )
    group.add_argument(
        '--start',
        type=float,
        metavar='SECONDS',
        help='where to begin: behind the first message, or a date in Unix seconds',
    )
    group.add_argument('--end', type=float, metavar='SECONDS', help='where to end, likewise')
    group.add_argument(
        '--every',
        type=float,
        default=0.0,
        metavar='SECONDS',
        help='one image of each camera in so many seconds; 0 for all',
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('the model')
    model = group.add_argument(
        '--model', help="whatever the node's parameter model takes (default: the node's)"
    )
    complete_with(model, model_names)
    group.add_argument('--weights', type=Path, help='a local copy of its weights')
    group.add_argument(
        '--words', nargs='+', default=[], help='what to look for, for models that take words'
    )
    group.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    group.add_argument('--engine', default='native', help='what runs it, as of the node')
    group.add_argument('--precision', default='auto', help='auto, fp32, fp16, bf16 or int8')
    group.add_argument(
        '--confidence-threshold',
        type=float,
        default=0.0,
        metavar='P',
        help='pixels less sure than this probability are unlabelled',
    )
    group.add_argument(
        '--trust-model-code', action='store_true', help='load files that can run code'
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what to write')
    group.add_argument(
        '--outputs',
        nargs='+',
        default=['labels', 'confidence', 'label_info', 'camera_info', 'objects'],
        metavar='NAME',
        help='of labels, confidence, label_info, camera_info, objects, instances, overlay, '
        'masks/CLASS, masks/*',
    )
    group.add_argument(
        '--storage', choices=['mcap', 'sqlite3'], help='of the new recording (default: as it was)'
    )
    group.add_argument(
        '--compress',
        choices=['zstd', 'none'],
        default='zstd',
        help='chunks of MCAP files, which every reader unpacks by itself',
    )
    group.add_argument(
        '--no-originals', action='store_true', help='write only what is ours, to save space'
    )
    group.add_argument(
        '--namespace',
        default='segmentation',
        metavar='NAME',
        help="last part of our topics' namespace",
    )
    group.add_argument(
        '--stats',
        type=Path,
        metavar='FILE',
        help='write a table of classes over time (.csv or .parquet) and a picture beside it',
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('how to do it')
    group.add_argument(
        '-j', '--jobs', type=int, metavar='N', help='processes (default: one per core, 1 on a GPU)'
    )
    group.add_argument(
        '--num-threads',
        type=int,
        default=1,
        metavar='N',
        help='CPU threads of each; another number may change the last bit of a score',
    )
    group.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images the model takes at once; more is quicker on a GPU',
    )
    group.add_argument(
        '--ray',
        metavar='ADDRESS',
        help='do it on a Ray cluster: its address, auto, or local for one on this machine',
    )
    group.add_argument('--redo', action='store_true', help='make everything anew')
    group.add_argument(
        '--estimate',
        action='store_true',
        help='segment a few images and say what all of them, and 10,000 hours, would take',
    )
    group.add_argument('--quiet', action='store_true', help='no progress bar')


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    from seg_perception.cli.output import print_json
    from seg_perception.recordings.opening import list_topics, open_job
    from seg_perception.recordings.reporting import to_document, to_text

    if arguments.list:
        lines, document = list_topics(arguments.recording)
        if arguments.json:
            print_json(document)
        else:
            print('\n'.join(lines))
        return 0
    request = _request(arguments)
    job, remarks = open_job(request)
    print('\n'.join(remarks), file=sys.stderr)
    if arguments.estimate:
        from seg_perception.recordings.estimate import estimate

        measured = estimate(job)
        if arguments.json:
            print_json(measured.to_document())
        else:
            print(measured.to_text())
        return 0
    account = _do(arguments, request, job)
    if arguments.json:
        print_json(to_document(account))
    else:
        print(to_text(account))
    return 0 if account.is_complete else 1


def _request(arguments: argparse.Namespace) -> Request:
    from seg_perception.backends import RunOptions
    from seg_perception.errors import ConfigurationError
    from seg_perception.models import DEFAULT_MODEL
    from seg_perception.recordings.opening import Request
    from seg_perception.recordings.plan import ModelChoice

    if arguments.out is None and not arguments.estimate:
        raise ConfigurationError('-o: expected the folder of the new recording, got none')
    return Request(
        recording=arguments.recording,
        out=arguments.out or Path('estimate'),
        model=ModelChoice(
            arguments.model or DEFAULT_MODEL,
            str(arguments.weights) if arguments.weights else None,
            tuple(arguments.words),
            arguments.confidence_threshold,
            RunOptions(
                device=arguments.device,
                precision=arguments.precision,
                engine=arguments.engine,
                num_threads=arguments.num_threads,
                trust_model_code=arguments.trust_model_code,
            ),
        ),
        topics=arguments.topics,
        outputs=arguments.outputs,
        start_s=arguments.start,
        end_s=arguments.end,
        every_s=arguments.every,
        storage=arguments.storage or '',
        is_compressed=arguments.compress == 'zstd',
        has_originals=not arguments.no_originals,
        namespace=arguments.namespace,
        batch_size=arguments.batch_size,
    )


def _do(arguments: argparse.Namespace, request: Request, job: Job) -> Account:
    from seg_perception.progress import ProgressBar
    from seg_perception.recordings.run import Run
    from seg_perception.recordings.statistics import check_statistics, write_statistics

    if arguments.stats is not None:
        check_statistics(arguments.stats)
    with (
        Run(job, request.out.absolute(), is_anew=arguments.redo) as work,
        ProgressBar(
            job.name,
            total=job.num_images(),
            is_shown=False if arguments.quiet else None,
        ) as bar,
    ):
        account = work.do(lambda: _workers(arguments, job), bar)
        if arguments.stats is not None:
            write_statistics(arguments.stats, job, work.frames)
        work.finish(account)
    return account


def _workers(arguments: argparse.Namespace, job: Job) -> Workers:
    from seg_perception.recordings.opening import default_jobs
    from seg_perception.recordings.workers import InProcess, Processes

    if arguments.ray is not None:
        from seg_perception.recordings.ray_workers import RayWorkers

        return RayWorkers(job, arguments.ray, arguments.jobs)
    num_jobs = arguments.jobs or default_jobs(arguments.device)
    num_workers = min(num_jobs, len(job.slices()))
    return InProcess(job) if num_workers == 1 else Processes(job, num_workers)
