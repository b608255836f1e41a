"""``seg-perception models``: what can be had, what it is, getting it and adding to it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_perception.zoo.importing import Answers, Question


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Takes what is no command for the name of a model to show."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(values, Sequence)
        words = list(values)
        if words[0] not in self._name_parser_map:
            words.insert(0, 'show')
        super().__call__(parser, namespace, words, option_string)


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        'models',
        help='list the models that can be had, show, pull or import one',
        description='Without a command it lists the models of the catalog; with a name it shows '
        'that model.',
    )
    _add_list_options(parser)
    parser.set_defaults(run=run_list)
    commands = parser.add_subparsers(
        title='commands', metavar='COMMAND|NAME', required=False, action=_Commands
    )
    commands.choices = None  # names of models are welcome too
    listing = commands.add_parser(
        'list', help='the models of the catalog', argument_default=argparse.SUPPRESS
    )
    _add_list_options(listing)
    listing.set_defaults(run=run_list)
    show = commands.add_parser('show', help='all that is known of a model')
    show.add_argument('name', help='whatever the parameter model takes')
    show.add_argument('--json', action='store_true', help='print JSON')
    show.set_defaults(run=run_show)
    pull = commands.add_parser(
        'pull', help='download the weights of models into the cache, verified'
    )
    pull.add_argument(
        'names', nargs='+', metavar='name', help='whatever the parameter model takes'
    )
    pull.set_defaults(run=run_pull)
    _add_import_parser(commands)


def _add_list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', action='store_true', help='print JSON')
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
    parser.add_argument('--std', nargs=3, type=float, metavar=('R', 'G', 'B'), dest='std_rgb')
    parser.add_argument(
        '--size', nargs=2, type=int, metavar=('WIDTH', 'HEIGHT'), dest='size_wh', help='pixels'
    )
    parser.add_argument('--kind', choices=['logits', 'probabilities', 'labels'])
    parser.add_argument('--licence', '--license', help="SPDX name of the weights' licence")
    parser.add_argument(
        '--resize', default='stretch', choices=['stretch', 'letterbox', 'fit'], help='%(default)s'
    )
    parser.add_argument('--multiple-of', type=int, default=1, help='of sides, with --resize fit')
    parser.add_argument('--channel-order', default='rgb', choices=['rgb', 'bgr'])
    parser.add_argument('--align-corners', action='store_true', help='how logits are upsampled')
    parser.add_argument('--name', help="the card's name")
    parser.add_argument('--summary', help='one line about it')
    parser.add_argument('--source', help='where it is described')
    parser.add_argument(
        '--trust-model-code', action='store_true', help='run files that can run code'
    )
    parser.add_argument('--force', action='store_true', help='replace a card that is there')
    parser.add_argument('--json', action='store_true', help='print the card as JSON')
    parser.set_defaults(run=run_import)


def run_list(arguments: argparse.Namespace) -> int:
    """Prints the list."""
    from seg_perception.zoo.listing import list_entries, list_table
    from seg_perception.zoo.speed import measure_all

    if arguments.measure:
        measure_all(lambda text: print(text, file=sys.stderr))
    entries = list(list_entries())
    if arguments.json:
        _print_json([dataclasses.asdict(entry) for entry in entries])
    else:
        print(list_table(entries))
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Prints one model."""
    from seg_perception.models import resolve
    from seg_perception.zoo.listing import describe, show_lines

    card = resolve(arguments.name)
    if arguments.json:
        _print_json(describe(card))
        return 0
    for key, value in show_lines(card).items():
        print(f'{key}: {value}')
    return 0


def run_pull(arguments: argparse.Namespace) -> int:
    """Downloads models."""
    from seg_perception.models import resolve
    from seg_perception.progress import ProgressBar
    from seg_perception.zoo.location import pull

    for name in arguments.names:
        with ProgressBar(name, unit='B') as bar:
            path = pull(resolve(name), bar.reach)
        print(f'{name}: {path}')
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
        _print_json(describe(written))
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


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
