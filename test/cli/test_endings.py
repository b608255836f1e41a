"""How commands end: exit codes, explanations, and where a traceback may be seen."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seg_perception.cli.endings import run_command
from seg_perception.errors import ConfigurationError, MissingExtraError


def ended(action, **given):
    """Exit code of a command that does this."""
    return run_command(lambda _: action(), argparse.Namespace(**given))


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize('code', [0, 1])
def test_what_a_command_returns_is_the_exit_code(code, capsys):
    assert ended(lambda: code) == code
    assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize(
    ('action', 'message'),
    [
        (raising(ConfigurationError('rate: expected 1, got 2')), 'rate: expected 1, got 2'),
        (raising(MissingExtraError('tqdm', 'train', 'show')), 'tqdm is needed to show and is not'),
        (Path('/nowhere/at/all').read_text, '/nowhere/at/all: No such file or directory; check'),
        (lambda: os.listdir(__file__), f'{__file__}: Not a directory; a folder is expected'),
        (Path('/').read_text, '/: Is a directory; a file is expected, this is a folder'),
        (
            raising(PermissionError(13, 'Permission denied', 'a')),
            'a: Permission denied; check who',
        ),
        (raising(OSError(28, 'No space left on device', 'a')), 'a: No space left on device; free'),
        (raising(OSError('odd')), 'odd'),
        # A pipe to another process: nothing is wrong with our own output.
        (raising(BrokenPipeError(32, 'Broken pipe')), 'Broken pipe'),
        (
            lambda: __import__('not_installed_here.at_all'),
            'the Python module not_installed_here is',
        ),
        (
            lambda: __import__('seg_perception.left_out'),
            'this installation of seg_perception is not complete, it lacks seg_perception.left_',
        ),
        (
            raising(ModuleNotFoundError(name='cv2')),
            "the Python module cv2 is needed and not installed: pip install 'opencv-python<5'",
        ),
        (
            raising(ModuleNotFoundError(name='some_msgs.msg')),
            'the Python module some_msgs is needed and not installed: sudo apt install ros-',
        ),
        (lambda: b'\xff'.decode(), 'expected text in UTF-8, got something else'),
        (raising(MemoryError()), 'there is not enough memory: close'),
    ],
)
def test_what_users_and_machines_can_cause_ends_with_1_and_one_line(action, message, capsys):
    assert ended(action) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f'error: {message}')
    assert err.count('\n') == 1
    assert out == ''
    assert ended(action, json=True) == 1
    error = json.loads(capsys.readouterr().out)['error']
    assert error['message'].startswith(message)
    assert error['kind']


def test_a_bug_ends_with_70_and_says_how_to_report_it(capsys, monkeypatch):
    assert ended(raising(ValueError('inside')), json=True) == 70
    out, err = capsys.readouterr()
    assert err.startswith('internal error: ValueError: inside\n')
    assert 'seg-perception doctor --bundle report.zip' in err
    assert 'Traceback' not in err
    assert json.loads(out)['error'] == {'kind': 'ValueError', 'message': 'ValueError: inside'}
    assert ended(raising(ValueError('inside')), debug=True) == 70
    assert 'Traceback' in capsys.readouterr().err
    monkeypatch.setenv('SEG_PERCEPTION_DEBUG', '1')
    assert ended(raising(ConfigurationError('explained'))) == 1
    err = capsys.readouterr().err
    assert 'Traceback' in err
    assert err.endswith('error: explained\n')


def test_interruption_ends_with_130(capsys):
    assert ended(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ('', '')


def test_supervisors_end_a_command_as_people_do():
    """It can clean up: as Python has it by itself, the process would be gone."""
    before, cleaned_up = signal.getsignal(signal.SIGTERM), []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30.0)
        finally:
            cleaned_up.append(True)

    assert ended(work) == 130
    assert cleaned_up == [True]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ('command', 'output', 'code', 'message'),
    [
        ('models list', 'full', 1, 'error: No space left on device; free some space'),
        ('models list --json', 'full', 1, 'error: No space left on device; free some space'),
        ('models list', 'unread', 141, ''),
        ('--help', 'unread', 0, ''),
    ],
)
def test_an_output_that_takes_nothing(command, output, code, message):
    if output == 'full':
        stdout = os.open('/dev/full', os.O_WRONLY)
    else:  # the reader has gone before anything is written
        unread, stdout = os.pipe()
        os.close(unread)
    try:
        result = subprocess.run(
            [sys.executable, '-m', 'seg_perception.cli.main', *command.split()],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    finally:
        os.close(stdout)
    assert result.returncode == code
    assert result.stderr.startswith(message)
    assert result.stderr.count('\n') == bool(message)
