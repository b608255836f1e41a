"""The log of a training run."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.training.run_log import LOG_FILE, RunLog, read_log


def test_cutting_back_removes_later_records(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (10, 20, 30):
        log.write({'kind': 'loss', 'step': step, 'loss': step / 10})
    log.cut_back(20)
    log.write({'kind': 'loss', 'step': 30, 'loss': 9.0})
    assert [record['loss'] for record in read_log(tmp_path / LOG_FILE)] == [1.0, 2.0, 9.0]


def test_tensorboard_shows_a_resumed_run_once(tmp_path: Path) -> None:
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = RunLog(tmp_path, has_tensorboard=True)
    for step in (10, 20, 30):
        first.write({'kind': 'loss', 'step': step, 'loss': 1.0})
    first.close()
    resumed = RunLog(tmp_path, has_tensorboard=True)
    resumed.cut_back(20)
    resumed.write({'kind': 'loss', 'step': 30, 'loss': 2.0})
    resumed.close()
    events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
    assert [(e.step, e.value) for e in events.Scalars('loss/loss')] == [
        (10, 1.0),
        (20, 1.0),
        (30, 2.0),
    ]
