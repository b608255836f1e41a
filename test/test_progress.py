"""Progress as people see it: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from seg_perception.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch):
    pytest.importorskip('tqdm', reason="tqdm (extra 'train') is not installed")
    monkeypatch.setattr(sys, 'stderr', Terminal())
    with ProgressBar('segment', total=10, done=4) as bar:
        assert sys.stderr.getvalue() == ''
        bar.add()
        bar.say('bad.jpg: is no image')
        bar.reach(10)
    text = sys.stderr.getvalue()
    assert '10/10' in text
    assert 'image/s' in text
    assert '<' in text  # tqdm's sign between time taken and time left
    assert 'bad.jpg: is no image\n' in text


def test_what_is_no_terminal_gets_words_only(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    with ProgressBar('segment', total=2) as bar:
        bar.add(2)
        bar.say('bad.jpg: is no image')
    assert sys.stderr.getvalue() == 'bad.jpg: is no image\n'
    assert bar.done == 2


def test_without_tqdm_there_are_lines(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Terminal())
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    with ProgressBar('weights', unit='B') as bar:
        bar.reach(1_000_000, 4_000_000)
        bar.reach(4_000_000)
    [line] = sys.stderr.getvalue().splitlines()
    assert line.startswith('weights: 4 of 4 MB, ')
    assert line.endswith(' MB/s')
