"""Three commands from images to a model: train, evaluate, export."""

from __future__ import annotations

import argparse

import pytest
import scenes
import torch

pytest.importorskip('kornia', reason='kornia is not installed')
pytest.importorskip('matplotlib', reason='matplotlib is not installed')
pytest.importorskip('tqdm', reason='tqdm is not installed')

from seg_perception.cli import evaluate, export, train
from seg_perception.errors import ConfigurationError


def run(command, *arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    parsed = parser.parse_args([command.__name__.rpartition('.')[2], *map(str, arguments)])
    threads = torch.get_num_threads()
    try:
        return parsed.run(parsed)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize('command', [train, evaluate, export])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as ended:
        run(command, '--help')
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 900


def test_train_evaluate_export(tmp_path, capsys):
    root = scenes.write_dataset(tmp_path / 'data', 4, 2)
    config = scenes.write_config(tmp_path / 'c.yaml', root)
    small = ['--set', 'training.epochs=2', '--device', 'cpu']
    assert run(train, config, '--out', tmp_path / 'run', *small) == 0
    shown = capsys.readouterr()
    assert 'finished after 2 steps' in shown.out
    assert 'all weights start at random' in shown.err
    assert (tmp_path / 'run/report/report.md').is_file()
    assert run(train, config, '--out', tmp_path / 'run', '--resume', '--quiet', *small) == 0
    shown = capsys.readouterr()
    assert 'finished after 2 steps' in shown.out
    assert shown.err == ''
    out = tmp_path / 'report'
    assert run(evaluate, tmp_path / 'run', config, '--out', out, '--device', 'cpu') == 0
    assert '2 images: mean IoU 0.' in capsys.readouterr().out
    assert (out / 'curves.png').is_file()
    with pytest.raises(ConfigurationError, match='--part: expected one of train, val'):
        run(evaluate, tmp_path / 'run', config, '--part', 'test')
    assert run(export, tmp_path / 'run', '-o', tmp_path / 'model') == 0
    assert '100.00 % of the labels agree' in capsys.readouterr().out
    assert (tmp_path / 'model/card.yaml').is_file()
