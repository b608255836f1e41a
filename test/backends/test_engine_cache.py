"""Entries are made once, checked before use, and never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from seg_perception.backends.engine_cache import EngineCache

FACTS = {'weights': 'abc', 'dtype': 'float32'}


class Maker:
    def __init__(self, fails: bool = False) -> None:
        self.num_calls = 0
        self.fails = fails

    def __call__(self, folder: Path) -> dict[str, object]:
        self.num_calls += 1
        (folder / 'sub').mkdir()
        (folder / 'sub' / 'model.bin').write_bytes(b'model %d' % self.num_calls)
        if self.fails:
            raise ValueError('cannot be made')
        return {'batch_fixed': None, 'turn': self.num_calls}


def test_an_entry_is_made_once_per_facts(tmp_path: Path) -> None:
    cache, make = EngineCache(tmp_path), Maker()
    assert cache.find('net', FACTS) is None
    first = cache.entry('net', FACTS, make)
    again = EngineCache(tmp_path).entry('net', dict(reversed(FACTS.items())), make)
    assert make.num_calls == 1
    assert (first.remark, again.remark) == ('made now', 'kept')
    assert again.folder == first.folder
    assert again.notes == {'batch_fixed': None, 'turn': 1}
    assert (again.folder / 'sub' / 'model.bin').read_bytes() == b'model 1'
    assert cache.entry('net', {**FACTS, 'dtype': 'float16'}, make).folder != first.folder
    assert make.num_calls == 2
    cache.forget(first)
    assert cache.find('net', FACTS) is None


@pytest.mark.parametrize('damage', ['altered', 'truncated', 'missing', 'no facts', 'other facts'])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: str) -> None:
    cache, make = EngineCache(tmp_path), Maker()
    folder = cache.entry('net', FACTS, make).folder
    file, facts = folder / 'sub' / 'model.bin', folder / 'entry.json'
    if damage == 'altered':
        file.write_bytes(b'other 1')
    elif damage == 'truncated':
        file.write_bytes(b'')
    elif damage == 'missing':
        file.unlink()
    elif damage == 'no facts':
        facts.unlink()
    else:
        facts.write_text(json.dumps(['no mapping']))
    assert cache.find('net', FACTS) is None
    assert cache.entry('net', FACTS, make).notes['turn'] == 2
    assert (folder / 'sub' / 'model.bin').read_bytes() == b'model 2'


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    with pytest.raises(ValueError, match='cannot be made'):
        cache.entry('net', FACTS, Maker(fails=True))
    assert list(cache.root.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    # a file where the folder should be: also root, whom permissions do not stop, cannot write
    (tmp_path / 'engines').write_text('in the way')
    cache, make = EngineCache(tmp_path), Maker()
    entry = cache.entry('net', FACTS, make)
    assert 'not kept' in entry.remark
    assert str(tmp_path / 'engines') in entry.remark
    assert (entry.folder / 'sub' / 'model.bin').read_bytes() == b'model 1'
    assert tmp_path not in entry.folder.parents


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_read_only_folder_is_done_without(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert 'not kept' in EngineCache(tmp_path).entry('net', FACTS, Maker()).remark
    finally:
        tmp_path.chmod(0o700)


def test_two_at_once_end_with_one_whole_entry(tmp_path: Path) -> None:
    cache, quick = EngineCache(tmp_path), Maker()

    def slow(folder: Path) -> dict[str, object]:
        cache.entry('net', FACTS, quick)  # another process finishes meanwhile
        return Maker()(folder) | {'turn': 7}

    cache.entry('net', FACTS, slow)
    assert [path.name[0] for path in cache.root.iterdir()] == ['n']
    kept = cache.find('net', FACTS)
    assert kept is not None
    assert (kept.folder / 'sub' / 'model.bin').is_file()
