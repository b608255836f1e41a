"""What of a job is done: kept through kills, forgotten when something changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from seg_perception.batch.manifest import STATE_FOLDER, DoneList, file_identity
from seg_perception.errors import ConfigurationError, OutputError

FACTS = {'model': 'a', 'classes': ['cat', 'dog'], 'confidence_threshold': 0.5}


def finish(done, key, source=1, result=None):
    """Writes the item's one file and says so."""
    name = f'{key}.txt'
    done.begin(key, [name])
    (done.folder / name).write_text(f'of {key}')
    done.finish(key, source, [name], result)


def test_an_item_is_done_as_long_as_nothing_about_it_changes(tmp_path):
    with DoneList(tmp_path, FACTS) as done:
        assert done.state('a', 1) == 'new'
        finish(done, 'a', source={'size': 3}, result={'pixels': [1, 2]})
        assert done.state('a', {'size': 3}) == 'done'
    with DoneList(tmp_path, FACTS) as done:
        assert done.state('a', {'size': 3}) == 'done'
        assert done.result('a') == {'pixels': [1, 2]}
        assert done.state('a', {'size': 4}) == 'input changed'
        assert done.differences('a') == []
        (tmp_path / 'a.txt').write_text('cut')
        assert done.state('a', {'size': 3}) == 'outputs missing'
        (tmp_path / 'a.txt').unlink()
        assert done.state('a', {'size': 3}) == 'outputs missing'
        finish(done, 'a', source={'size': 4})
        assert done.state('a', {'size': 4}) == 'done'


def test_other_facts_are_noticed_and_named(tmp_path):
    with DoneList(tmp_path, FACTS) as done:
        finish(done, 'a')
    other = {'model': 'b', 'classes': ['cat'], 'confidence_threshold': 0.5, 'device': 'cuda'}
    with DoneList(tmp_path, other) as done:
        assert done.state('a', 1) == 'made otherwise'
        assert done.differences('a') == [
            'classes: cat, dog → cat',
            'device: none → cuda',
            'model: a → b',
        ]
        assert done.differences('never done') == []
        finish(done, 'a')
        assert done.state('a', 1) == 'done'
    with DoneList(tmp_path, FACTS) as done:
        assert done.state('a', 1) == 'made otherwise'


def test_a_journal_cut_anywhere_keeps_what_is_whole(tmp_path):
    with DoneList(tmp_path, FACTS) as done:
        for key in ('a', 'b'):
            finish(done, key)
    journal = tmp_path / STATE_FOLDER / 'done.jsonl'
    whole = journal.read_bytes()
    end_of_a = whole.index(b'{"begin": "b"')
    for cut in range(len(whole)):
        journal.write_bytes(whole[:cut])
        with DoneList(tmp_path, FACTS) as done:
            assert done.state('a', 1) == ('done' if cut >= end_of_a else 'new')
            assert done.state('b', 1) == 'new'
            finish(done, 'c')
        with DoneList(tmp_path, FACTS) as done:
            assert done.state('c', 1) == 'done'
        assert all(json.loads(line) for line in journal.read_bytes().splitlines())


def test_files_are_owned_from_before_they_are_written(tmp_path):
    with DoneList(tmp_path, FACTS) as done:
        done.begin('a', ['sub/a.png'])
        assert done.owns('sub/a.png')
        assert not done.owns('sub/b.png')
        with pytest.raises(OutputError, match='a: a result is gone'):
            done.finish('a', 1, ['sub/a.png'])
    with DoneList(tmp_path, FACTS) as done:
        assert done.owns('sub/a.png')
        assert done.state('a', 1) == 'new'


def test_one_process_at_a_time_until_it_is_killed(tmp_path):
    code = (
        'import sys, time; from pathlib import Path; '
        'from seg_perception.batch.manifest import DoneList; '
        'd = DoneList(Path(sys.argv[1]), {}); print("open", flush=True); time.sleep(100)'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code, str(tmp_path)], stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b'open\n'
            with pytest.raises(ConfigurationError, match='another job is at work'):
                DoneList(tmp_path, FACTS)
        finally:
            other.send_signal(signal.SIGKILL)
    with DoneList(tmp_path, FACTS) as done:
        assert done.state('a', 1) == 'new'


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='expected a folder for the results, it is a file'):
        DoneList(tmp_path / 'file', FACTS)
    with pytest.raises(OutputError, match='cannot be written'):
        DoneList(tmp_path / 'file/sub', FACTS)


def test_an_input_is_told_from_the_one_before(tmp_path):
    path = tmp_path / 'image'
    path.write_bytes(b'one')
    first = file_identity(path)
    os.utime(path, ns=(time.time_ns(), first['mtime_ns'] + 1))
    assert file_identity(path) != first
