"""The same recording over a real Ray cluster that the test starts and stops."""

from __future__ import annotations

import json

import psutil
import pytest
from bags import messages, read_bag, write_bag, write_color_model
from photographs import astronaut

from seg_perception.cli.main import main


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # Ray's own, of the libraries that it brings
def test_a_cluster_gives_the_same_bytes_and_leaves_no_process(tmp_path, capsys):
    pytest.importorskip('ray', reason="ray (extra 'ray') is not installed")
    model = str(write_color_model(tmp_path))
    bag = write_bag(tmp_path / 'drive', messages(astronaut(512, 512), 200))
    arguments = ['bag', str(bag), '--model', model, '--json']
    assert main([*arguments, '-o', str(tmp_path / 'here'), '--jobs', '1']) == 0
    here = json.loads(capsys.readouterr().out)
    assert main([*arguments, '-o', str(tmp_path / 'there'), '--ray', 'local', '--jobs', '2']) == 0
    there = json.loads(capsys.readouterr().out)
    assert read_bag(tmp_path / 'there') == read_bag(tmp_path / 'here')
    assert {**there, 'out': ''} == {**here, 'out': ''}
    left = [p for p in psutil.Process().children(recursive=True) if 'ray' in p.name().lower()]
    _, alive = psutil.wait_procs(left, timeout=30)
    assert alive == []


def test_says_where_there_is_no_cluster(tmp_path, capsys):
    pytest.importorskip('ray', reason="ray (extra 'ray') is not installed")
    model = str(write_color_model(tmp_path))
    bag = write_bag(tmp_path / 'drive', messages(astronaut(512, 512), 2))
    arguments = ['bag', str(bag), '-o', str(tmp_path / 'out'), '--model', model]
    assert main([*arguments, '--ray', '127.0.0.1:1']) == 1
    assert '--ray 127.0.0.1:1: no cluster there' in capsys.readouterr().err
