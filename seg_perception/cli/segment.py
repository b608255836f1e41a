"""``seg-perception segment``: photographs, folders, videos and webcams, without ROS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seg_perception.cli.completers import model_names
from seg_perception.cli.parsing import add_json_option, complete_with

_CHOICES = ('overlay', 'overlay-png', 'labels', 'confidence', 'instances', 'coco', 'sheet')
_DEFAULT_CHOICES = ('overlay', 'labels', 'sheet')
_CODECS = ('mpeg4', 'vp9')

_EPILOG = """\
examples:
  seg-perception segment photo.jpg
  seg-perception segment holiday/ clip.mp4 --out results
  seg-perception segment 'shots/**/*.png' --outputs labels,coco --classes person,car
  seg-perception segment webcam:0 --seconds 30
  curl -s https://example.com/a.jpg | seg-perception segment -
  find /data -name '*.jpg' | seg-perception segment --files-from -

Results lie in the folder of --out, called like the inputs and in the same folders; the command
says which at its end. Run it again, and only what is missing, or whose input changed, is made:
after an interruption too, with the same bytes. The same folder with another model or other
options is an error that says what differs; --redo replaces what is there.

Exit codes: 0 done; 1 some inputs have no results (each is named), or an error; 2 wrong arguments.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'segment',
        help='segment photographs, folders, videos or a webcam; needs no ROS',
        description='Segments files and writes overlays for people, label images for programs, '
        'and a contact sheet of all. Needs no ROS.',
        epilog=_EPILOG,
    )
    parser.add_argument(
        'paths',
        nargs='*',
        metavar='PATH',
        help='image, video, folder (searched with its sub-folders), quoted glob, '
        "webcam:<index>, address of a stream (rtsp://...), or '-' for one encoded image on "
        'standard input',
    )
    parser.add_argument(
        '--files-from',
        metavar='FILE',
        help="read further paths from a file, one a line; '-' for standard input",
    )
    parser.add_argument(
        '--null', action='store_true', help='paths of --files-from end with a null byte (print0)'
    )
    parser.add_argument(
        '-o', '--out', type=Path, default=Path('segmented'), help='folder of the results'
    )
    parser.add_argument(
        '--outputs',
        type=_words_of(_CHOICES),
        default=_DEFAULT_CHOICES,
        metavar='NAME,NAME,...',
        help=f'what to make: {", ".join(_CHOICES)}',
    )
    parser.add_argument(
        '--classes',
        type=_words_of(None),
        default=(),
        metavar='NAME,NAME,...',
        help='keep these classes only, and make background of all others',
    )
    _add_model_options(parser)
    parser.add_argument(
        '--video-codec',
        choices=_CODECS,
        default='mpeg4',
        help='of overlay videos: mpeg4 is quick, vp9 plays in browsers',
    )
    parser.add_argument(
        '--seconds',
        type=_positive(float),
        help='end the recording of a webcam or stream after so long; else at Ctrl-C',
    )
    parser.add_argument('--redo', action='store_true', help='make everything anew')
    parser.add_argument('--quiet', action='store_true', help='no progress bar, no remarks')
    add_json_option(parser)
    parser.set_defaults(run=run, parser=parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    complete_with(
        parser.add_argument(
            '--model', help="whatever the node's parameter model takes; else its default"
        ),
        model_names,
    )
    parser.add_argument('--weights', type=Path, help="a local copy of the model's weights")
    parser.add_argument(
        '--words',
        type=_words_of(None),
        default=(),
        metavar='WORD,WORD,...',
        help='what to look for, for models that take words',
    )
    parser.add_argument('--engine', default='native', help='what runs the model, as of the node')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--precision', default='auto', help='auto, fp32, fp16, bf16 or int8')
    parser.add_argument(
        '--num-threads', type=int, default=0, help='CPU threads of the model; 0 for all'
    )
    parser.add_argument(
        '--trust-model-code', action='store_true', help='load model files that can run code'
    )
    parser.add_argument(
        '--input-size',
        type=_positive(int),
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="the network's input in px, instead of the model's own: detail against speed",
    )
    parser.add_argument(
        '--confidence-threshold',
        type=float,
        default=0.0,
        help='pixels less sure than this probability are unlabeled',
    )
    parser.add_argument(
        '--batch-size',
        type=_positive(int),
        default=0,
        help='pictures that go through the model together (default: 1 on a CPU, 8 on a GPU)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        choices=range(33),
        metavar='N',
        default=2,
        help='threads that read, and that write, beside the model; 0 for none',
    )
    parser.add_argument(
        '--max-pixels', type=_positive(int), default=2**28, help='refuse larger photographs'
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns its exit code."""
    if not arguments.paths and arguments.files_from is None:
        arguments.parser.error('expected a PATH: an image, a video, a folder, ...')
    if arguments.null and arguments.files_from is None:
        arguments.parser.error('--null: expected --files-from with it')
    if arguments.files_from == '-' and '-' in arguments.paths:
        arguments.parser.error('standard input is either an image (-) or a list (--files-from -)')

    from seg_perception.batch.facts import result_facts
    from seg_perception.batch.inputs import find_inputs, read_list
    from seg_perception.batch.job import JobOptions, run_job
    from seg_perception.batch.manifest import ResultFiles

    words = list(arguments.paths)
    if arguments.files_from is not None:
        is_stdin = arguments.files_from == '-'
        data = sys.stdin.buffer.read() if is_stdin else Path(arguments.files_from).read_bytes()
        words += read_list(data, is_null_separated=arguments.null)
    results = ResultFiles()
    found = find_inputs(words, read_stdin=sys.stdin.buffer.read, is_result=results.__contains__)
    found.require_any()  # before minutes go into a model

    from seg_perception.pipeline import Segmenter

    size_wh = arguments.input_size
    with Segmenter(
        **({'model': arguments.model} if arguments.model else {}),
        weights_path=arguments.weights,
        input_size_hw=(size_wh[1], size_wh[0]) if size_wh else None,
        confidence_threshold=arguments.confidence_threshold,
        words=arguments.words,
        max_pixels=arguments.max_pixels,
        device=arguments.device,
        engine=arguments.engine,
        precision=arguments.precision,
        num_threads=arguments.num_threads,
        trust_model_code=arguments.trust_model_code,
    ) as segmenter:
        summary = run_job(
            segmenter,
            result_facts(segmenter, arguments.weights, arguments.classes),
            found,
            JobOptions(
                folder=arguments.out,
                choices=arguments.outputs,
                class_names=arguments.classes,
                batch_size=arguments.batch_size,
                num_workers=arguments.workers,
                max_pixels=arguments.max_pixels,
                codec=arguments.video_codec,
                live_seconds=arguments.seconds,
                redo=arguments.redo,
                is_quiet=arguments.quiet,
            ),
        )
    if arguments.json:
        from seg_perception.cli.output import print_json

        print_json(summary.document())
    else:
        print('\n'.join(summary.lines()))
    return 1 if summary.problems else 0


def _words_of(known: Sequence[str] | None) -> Callable[[str], tuple[str, ...]]:
    """Reads words between commas, some of the known ones where there are such."""

    def read(text: str) -> tuple[str, ...]:
        from seg_perception.cli.parsing import did_you_mean

        words = tuple(dict.fromkeys(word.strip() for word in text.split(',') if word.strip()))
        for word in words:
            if known is not None and word not in known:
                raise argparse.ArgumentTypeError(
                    f'unknown value {word!r}{did_you_mean(word, known)} (expected some of '
                    f'{", ".join(known)})'
                )
        if not words:
            raise argparse.ArgumentTypeError(f'expected words between commas, got {text!r}')
        return words

    return read


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        if not 0 < value < float('inf'):
            raise argparse.ArgumentTypeError(f'expected a number above 0, got {text!r}')
        return value

    return read
