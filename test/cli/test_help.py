"""Help that teaches: every command says what it is for, explains its options, and has examples."""

from __future__ import annotations

import argparse
import sys

import pytest

from seg_perception.cli.main import build_parser
from seg_perception.cli.parsing import EXAMPLE, MAX_WIDTH, HelpFormatter, examples_of


def all_parsers(parser, purpose=''):
    """Every parser below and including this one, with the line that its list has for it."""
    yield parser, purpose
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            purposes = {entry.dest: entry.help for entry in action._choices_actions}
            for name, child in action._name_parser_map.items():
                yield from all_parsers(child, purposes.get(name))


PARSERS = list(all_parsers(build_parser()))
COMMANDS = PARSERS[1:]
NAMES = [parser.prog.removeprefix('seg-perception ') for parser, _ in COMMANDS]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')


@pytest.mark.parametrize(('parser', 'purpose'), COMMANDS, ids=NAMES)
def test_a_command_says_what_it_is_for_and_shows_how(parser, purpose):
    assert purpose, 'give help= to add_parser'
    assert purpose[0].islower()
    assert not purpose.endswith('.')
    assert '\n' not in purpose
    assert parser.description, 'give description='
    assert parser.epilog
    assert 'examples:\n' in parser.epilog
    examples = examples_of(parser)
    assert len(examples) >= 2
    name = parser.prog.split()[1:]
    assert all(words[: len(name)] == name for words in examples)


@pytest.mark.parametrize(('parser', 'purpose'), COMMANDS, ids=NAMES)
def test_examples_are_what_the_parser_takes(parser, purpose):
    for words in examples_of(parser):
        # What the shell does with the output is none of the parser's business.
        arguments = words[
            : next((i for i, w in enumerate(words) if w in {'|', '>', '>>'}), len(words))
        ]
        build_parser().parse_args(arguments)


@pytest.mark.parametrize(('parser', 'purpose'), PARSERS, ids=['', *NAMES])
def test_every_option_has_help_and_nothing_is_too_wide(parser, purpose):
    assert parser.formatter_class is HelpFormatter
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        assert action.help, f'{parser.prog} {action.option_strings or action.dest}: give help='
    lines = parser.format_help().splitlines()
    assert [line for line in lines if len(line) >= MAX_WIDTH] == []
    assert not any('None)' in line or 'default: [' in line for line in lines)


def test_the_formatter_wraps_keeps_continues_and_shows_defaults():
    parser = build_parser()
    [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    made = commands.add_parser(
        'paint',
        help='paint walls',
        description='word ' * 30 + '\n\n  kept   as it is\n\nlast',
        epilog='examples:\n' + EXAMPLE + 'paint --color a-rather-long-name-of-a-color --size 3 '
        '--where on-the-wall\n',
    )
    made.add_argument('--color', default='50%', help='of it')
    made.add_argument('--size', type=int, default=3, help='in metres')
    made.add_argument('--where', help='for example here')
    made.add_argument('--dry', action='store_true', help='only look')
    text = made.format_help()
    assert '\n  kept   as it is\n\nlast\n' in text
    assert 'of it (default: 50%)' in text
    assert 'in metres (default: 3)' in text
    assert 'for example here\n' in text
    assert 'only look\n' in text
    assert 'paint --color a-rather-long-name-of-a-color --size 3 \\\n      --where on' in text
    [words] = examples_of(made)
    assert parser.parse_args(words).where == 'on-the-wall'
    assert (
        parser.parse_args(text[text.index('paint --color') :].replace('\\\n', '').split()).size
        == 3
    )


def test_help_is_built_without_what_takes_long_to_import():
    heavy = {'torch', 'numpy', 'cv2', 'rclpy', 'argcomplete', 'yaml'}
    import subprocess

    code = 'import sys; from seg_perception.cli.main import build_parser; '
    code += 'build_parser().format_help(); print(*sys.modules)'
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60
    )
    assert heavy.isdisjoint(result.stdout.split())
