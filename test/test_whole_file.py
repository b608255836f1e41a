"""Files that are always whole."""

from __future__ import annotations

import os

import pytest

from seg_perception.errors import OutputError
from seg_perception.whole_file import write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'f'
    write_whole(path, b'old')

    def fail(*arguments):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OutputError, match='disk full'):
        write_whole(path, b'new')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]
