"""The command line: its help, its errors, its exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seg_perception.cli.main import COMMANDS, build_parser, main


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['--help'])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        name = command.__name__.rpartition('.')[2].replace('_', '-')
        assert f'    {name}' in text


@pytest.mark.parametrize('arguments', [[], ['no-such-command'], ['demo', '--seconds', 'soon']])
def test_wrong_arguments_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert 'usage: seg-perception' in capsys.readouterr().err


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


def test_help_loads_neither_torch_nor_ros():
    code = (
        'import sys; from seg_perception.cli.main import build_parser; build_parser(); '
        "sys.exit(bool({'torch', 'rclpy', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_demo_defaults():
    arguments = build_parser().parse_args(['demo'])
    assert (arguments.seconds, arguments.rate, arguments.source) == (20.0, 10.0, 'demo')
