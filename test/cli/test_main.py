"""The command line: its help, its errors, its exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from seg_perception.cli.main import COMMANDS, build_parser, main


def test_help_and_no_arguments_name_every_command_once(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['--help'])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == text
    for title, modules in COMMANDS.items():
        assert f'{title}:' in text
        for module in modules:
            name = module.__name__.rpartition('.')[2].replace('_', '-')
            assert text.count(f'\n  {name}  ') == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['--version'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f'seg-perception {version("seg_perception")}\n'


@pytest.mark.parametrize(
    ('arguments', 'message', 'prog'),
    [
        (['evalute'], "unknown command 'evalute': did you mean evaluate? (", ''),
        (['xyz'], "unknown command 'xyz' (expected one of demo", ''),
        (
            ['models', 'list', '--jsno'],
            'unexpected argument --jsno: did you mean --json?',
            ' models list',
        ),
        (['demo', '--sec', '3'], 'unexpected argument --sec', ' demo'),
        (
            ['demo', '--seconds', 'soon'],
            "argument --seconds: expected a number, got 'soon'",
            ' demo',
        ),
        (
            ['demo', '--seconds', 'nan'],
            "argument --seconds: expected a number, got 'nan'",
            ' demo',
        ),
        (
            ['soak', '--seed', '1.5'],
            "argument --seed: expected a whole number, got '1.5'",
            ' soak',
        ),
        (
            ['params', '--format', 'yml'],
            "argument --format: unknown value 'yml': did you mean yaml?",
            ' params',
        ),
        (['evaluate'], 'the following arguments are required: model, dataset', ' evaluate'),
    ],
)
def test_wrong_arguments_end_with_2_and_say_what_was_meant(arguments, message, prog, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith(f'error: {message}')
    assert second == f"try 'seg-perception{prog} --help'"
    assert not out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--seconds', '0'], 'error: expected a duration above 0 s, got 0'),
        (['--rate', '-1'], 'error: expected a rate of 0 Hz or more, got -1'),
    ],
)
def test_values_that_cannot_work_end_with_1_and_a_line(arguments, message, capsys):
    assert main(['demo', *arguments]) == 1
    assert capsys.readouterr().err == f'{message}\n'


def test_demo_without_ros_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert main(['demo', '--out', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: rclpy is needed to run the nodes')
    assert 'seg_perception[ros]' in error
    assert not (tmp_path / 'out').exists()


def test_demo_defaults():
    arguments = build_parser().parse_args(['demo'])
    assert (arguments.seconds, arguments.rate, arguments.source) == (None, 10.0, 'demo')
    assert arguments.view is None  # then DemoOptions says how long
