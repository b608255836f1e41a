"""``seg-perception bench``: its help and its errors; the measuring is tested in ros/test_bench."""

from __future__ import annotations

import sys

import pytest
import torch

from seg_perception.benchmarks.acceptance import BOUNDS
from seg_perception.benchmarks.cases import OUTPUTS
from seg_perception.cli.main import main


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['bench', '--help'])
    assert ended.value.code == 0
    text = ' '.join(capsys.readouterr().out.split())
    for phrase in (
        "the model's bare forward loop, the limit",
        'plain node the same as tutorials write it',
        'frames / (seconds - camera CPU seconds / cores)',
        'seg-perception bench --accept node_cpu_vs_plain,memory_growth_mib',
        'name value bound PASS|FAIL',
    ):
        assert phrase in text
    for name in (*OUTPUTS, *BOUNDS):
        assert name in text


@pytest.mark.parametrize(
    'arguments', [['--size', 'large'], ['--size', '640'], ['--cameras', ','], ['--threads', 'two']]
)
def test_arguments_that_cannot_be_read_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['bench', *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--outputs', 'everything'], 'error: expected outputs among labels, '),
        (['--seconds', '0'], 'error: expected rounds of at least 1, seconds and rate above 0'),
        (['--accept', 'speed'], 'error: expected bounds among node_cpu_vs_plain, '),
        (['--compare', 'gone.json', 'gone.json'], 'error: gone.json: expected a report'),
    ],
)
def test_values_that_cannot_work_end_with_1_and_a_line(arguments, message, capsys):
    assert main(['bench', *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count('\n') == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_a_gpu_is_asked_for_where_there_is_none(capsys):
    assert main(['bench', '--gpu']) == 1
    assert capsys.readouterr() == ('', 'error: expected a CUDA device, torch sees none\n')


def test_bench_without_ros_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert main(['bench']) == 1
    assert capsys.readouterr().err.startswith('error: rclpy is needed to run the nodes')
