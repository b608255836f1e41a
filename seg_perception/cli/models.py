"""``seg-perception models``: what can be had, what it is, getting it and adding to it."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.cli.completers import model_names
from seg_perception.cli.output import print_json
from seg_perception.cli.parsing import OpenCommands, add_json_option, complete_with

if TYPE_CHECKING:
    from seg_perception.zoo.importing import Answers, Question

_MODEL = (
    'a name of the catalog, a card or model file, hf:…, torchvision:… or smp:…, as the parameter '
    'model of the node takes it'
)

_LIST_EPILOG = """\
examples:
  seg-perception models list
  seg-perception models list --measure
  seg-perception models list --json | jq -r '.[].name'
"""

_SHOW_EPILOG = """\
examples:
  seg-perception models show deeplabv3_mobilenetv2.voc21
  seg-perception models show hf:nvidia/segformer-b0-finetuned-ade-512-512
  seg-perception models show deeplabv3_mobilenetv2.voc21 --json | jq .classes.names
"""

_PULL_EPILOG = """\
examples:
  seg-perception models pull mobile_sam
  seg-perception models pull deeplabv3_resnet50.coco_voc21 fcn_resnet50.coco_voc21
"""

_IMPORT_EPILOG = """\
examples:
  seg-perception models import best.onnx
  seg-perception models import floor.onnx --classes floor,wall,door --preprocessing imagenet
  seg-perception models import unet.pth --classes names.txt \\
      --preprocessing unit --size 512 384 --licence MIT

At a terminal, what the file does not say is asked; elsewhere it is named, and nothing is written.
"""

_EPILOG = """\
examples:
  seg-perception models
  seg-perception models show deeplabv3_mobilenetv2.voc21
  seg-perception models pull mobile_sam
  seg-perception models import best.onnx
"""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'models',
        help='list the models that can be had, show, pull or import one',
        description='Without a command it lists the models of the catalog; with a name it shows '
        'that model.',
        epilog=_EPILOG,
    )
    _add_list_options(parser)
    parser.set_defaults(run=run_list)
    commands = parser.add_subparsers(
        title='commands',
        metavar='COMMAND|NAME',
        required=False,
        action=OpenCommands,
        default='show',
    )
    listing = commands.add_parser(
        'list',
        help='the models of the catalog',
        description='Lists the models of the catalog: classes, size, licence, whether their '
        'weights are here, and how quick they are on this machine where that was measured.',
        epilog=_LIST_EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    _add_list_options(listing)
    listing.set_defaults(run=run_list)
    show = commands.add_parser(
        'show',
        help='all that is known of a model',
        description='Shows what a model is, what it takes and gives, which engines run it here, '
        'and where its weights are.',
        epilog=_SHOW_EPILOG,
    )
    complete_with(show.add_argument('name', help=_MODEL), model_names)
    add_json_option(show)
    show.set_defaults(run=run_show)
    pull = commands.add_parser(
        'pull',
        help='download the weights of models into the cache, verified',
        description='Downloads what models need into the cache ($SEG_PERCEPTION_CACHE, else '
        '~/.cache/seg_perception) and checks it, so that a robot needs no network later.',
        epilog=_PULL_EPILOG,
    )
    complete_with(pull.add_argument('names', nargs='+', metavar='name', help=_MODEL), model_names)
    add_json_option(pull)
    pull.set_defaults(run=run_pull)
    _add_import_parser(commands)


def _add_list_options(parser: argparse.ArgumentParser) -> None:
    add_json_option(parser)
    parser.add_argument(
        '--measure',
        action='store_true',
        help='measure the models whose weights are here, and keep the results for later lists',
    )


def _add_import_parser(commands: Any) -> None:
    parser = commands.add_parser(
        'import',
        help='write the card of a model file by looking into it',
        description='Writes the card that the node needs to run a model file: what the file says '
        'is taken from it, what it does not say is asked, or given by these options. The model is '
        'run once before anything is written.',
        epilog=_IMPORT_EPILOG,
    )
    parser.add_argument('file', type=Path, help='a model file, or a transformers or smp folder')
    parser.add_argument(
        '-o', '--out', type=Path, help='the card (default: beside the file, same name, .yaml)'
    )
    parser.add_argument(
        '--classes', metavar='FILE|NAMES', help='a file, one name a line; a,b,c; or "numbered"'
    )
    parser.add_argument(
        '--preprocessing',
        choices=['imagenet', 'unit', 'signed', 'raw'],
        help='what training scaled images to: by the mean and std of ImageNet, to 0..1, to '
        '-1..1, or not at all (0..255)',
    )
    parser.add_argument(
        '--mean',
        nargs=3,
        type=float,
        metavar=('R', 'G', 'B'),
        dest='mean_rgb',
        help='instead, with --std, for pixels of 0 to 255',
    )
    parser.add_argument(
        '--std',
        nargs=3,
        type=float,
        metavar=('R', 'G', 'B'),
        dest='std_rgb',
        help='goes with --mean',
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('WIDTH', 'HEIGHT'),
        dest='size_wh',
        help="of the network's input, in pixels",
    )
    parser.add_argument(
        '--kind', choices=['logits', 'probabilities', 'labels'], help='what the network gives'
    )
    parser.add_argument('--licence', '--license', help="SPDX name of the weights' licence")
    parser.add_argument(
        '--resize',
        default='stretch',
        choices=['stretch', 'letterbox', 'fit'],
        help="how images come to the input's size",
    )
    parser.add_argument(
        '--multiple-of', type=int, default=1, help='of the sides in pixels, with --resize fit'
    )
    parser.add_argument(
        '--channel-order', default='rgb', choices=['rgb', 'bgr'], help='what the network takes'
    )
    parser.add_argument(
        '--align-corners',
        action='store_true',
        help='logits are upsampled with the corners of the grids aligned',
    )
    parser.add_argument('--name', help="the card's name")
    parser.add_argument('--summary', help='one line about it')
    parser.add_argument('--source', help='where it is described')
    parser.add_argument(
        '--trust-model-code', action='store_true', help='run files that can run code'
    )
    parser.add_argument('--force', action='store_true', help='replace a card that is there')
    add_json_option(parser)
    parser.set_defaults(run=run_import)


def run_list(arguments: argparse.Namespace) -> int:
    """Prints the list."""
    from seg_perception.zoo.listing import list_entries, list_table
    from seg_perception.zoo.speed import measure_all

    if arguments.measure:
        measure_all(lambda text: print(text, file=sys.stderr))
    entries = list(list_entries())
    if arguments.json:
        print_json(entries)
    else:
        print(list_table(entries))
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Prints one model."""
    from seg_perception.models import resolve
    from seg_perception.zoo.listing import describe, show_lines

    card = resolve(arguments.name)
    if arguments.json:
        print_json(describe(card))
        return 0
    for key, value in show_lines(card).items():
        print(f'{key}: {value}')
    return 0


def run_pull(arguments: argparse.Namespace) -> int:
    """Downloads models."""
    from seg_perception.models import resolve
    from seg_perception.progress import ProgressBar
    from seg_perception.zoo.location import pull

    pulled = []
    for name in arguments.names:
        with ProgressBar(name, unit='B') as bar:
            pulled.append({'name': name, 'path': pull(resolve(name), bar.reach)})
        if not arguments.json:
            print(f'{name}: {pulled[-1]["path"]}')
    if arguments.json:
        print_json(pulled)
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Writes a card."""
    from seg_perception.zoo.importing import (
        Answers,
        make_card,
        open_questions,
        try_card,
        write_card_file,
    )
    from seg_perception.zoo.inspection import inspect_model
    from seg_perception.zoo.listing import describe

    finding = inspect_model(arguments.file)
    for remark in finding.remarks:
        print(f'{finding.path.name}: {remark}', file=sys.stderr)
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Answers)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    answers = Answers(**values)
    if sys.stdin.isatty():
        answers = _ask(open_questions(finding, answers), answers)
    card = make_card(finding, answers)
    about = try_card(card, trust_model_code=arguments.trust_model_code)
    beside = finding.path / 'card.yaml' if finding.path.is_dir() else None
    out = arguments.out or beside or finding.path.with_suffix('.yaml')
    written = write_card_file(card, out, replace=arguments.force)
    print(f'runs: {about}', file=sys.stderr)
    if arguments.json:
        print_json(describe(written))
    else:
        print(f'card: {written.path}')
    return 0


def _ask(questions: Sequence[Question], answers: Answers) -> Answers:
    for question in questions:
        text = ''
        while not text:
            text = input(f'{question.text}: ').strip()
        answers = question.read(answers, text)
    return answers
