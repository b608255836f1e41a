"""``seg-perception segment`` as people and scripts call it."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import cv2
import pytest
from photographs import astronaut

from seg_perception.batch.outputs import CHOICES, DEFAULT_CHOICES
from seg_perception.batch.videos import CODECS
from seg_perception.cli import segment
from seg_perception.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with two photographs."""
    monkeypatch.chdir(tmp_path)
    for name in ('a b.png', 'c.jpg'):
        cv2.imwrite(name, astronaut()[..., ::-1])
    return tmp_path


def give(monkeypatch, data):
    monkeypatch.setattr(sys, 'stdin', SimpleNamespace(buffer=io.BytesIO(data)))


def call(*arguments):
    """Runs the command small and alone."""
    return main(['segment', *arguments, '--input-size', '129', '129', '--num-threads', '1'])


def test_help_names_what_there_is():
    assert tuple(CHOICES) == segment._CHOICES
    assert DEFAULT_CHOICES == segment._DEFAULT_CHOICES
    assert tuple(CODECS) == segment._CODECS


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'expected a PATH'),
        (['a.png', '--null'], '--null: expected --files-from'),
        (['-', '--files-from', '-'], 'either an image'),
        (['a.png', '--outputs', 'label'], "unknown value 'label': did you mean labels?"),
        (['a.png', '--seconds', '0'], 'expected a number above 0'),
        (['a.png', '--classes', ','], 'expected words between commas'),
    ],
)
def test_wrong_arguments_end_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['segment', *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_people_are_told_where_the_results_are(folder, capsys):
    assert call('c.jpg', '--out', 'results') == 0
    output = capsys.readouterr()
    assert output.err == ''
    first, classes, where, *names = output.out.splitlines()
    assert first.startswith('1 picture in ')
    assert classes.startswith('classes: ')
    assert where == 'results: results/'
    assert [name.split()[0] for name in names] == ['c.overlay.jpg', 'c.labels.png']
    assert call('c.jpg', '--out', 'results') == 0
    assert capsys.readouterr().out.startswith('nothing new, 1 input done before, with ')


def test_scripts_get_one_document_and_an_exit_code(folder, monkeypatch, capsys):
    give(monkeypatch, b'a b.png\0gone\0')
    options = ['--files-from', '-', '--null', '--json', '--outputs', 'labels']
    assert call('c.jpg', *options) == 1
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert output.err == 'failed: gone: there is no such file or folder\n'
    assert (document['num_inputs'], document['num_failed']) == (2, 1)
    assert document['failed'] == [{'input': 'gone', 'message': 'there is no such file or folder'}]
    assert document['outputs'] == {'**/*.labels.png': CHOICES['labels']}
    total = sum(c['num_pixels'] for c in document['classes'])
    assert total == 2 * 96 * 128
    assert sum(c['fraction'] for c in document['classes']) == pytest.approx(1.0, abs=1e-5)


def test_an_image_can_be_piped_in(folder, monkeypatch, capsys):
    give(monkeypatch, (folder / 'c.jpg').read_bytes())
    assert call('-') == 0
    assert (folder / 'segmented/stdin.overlay.jpg').is_file()
    give(monkeypatch, b'')
    assert call('-', '--out', 'other') == 1
    assert 'failed: standard input: ' in capsys.readouterr().err


def test_nothing_to_do_is_an_error_before_a_model_is_loaded(folder, capsys):
    (folder / 'empty').mkdir()
    assert call('empty', '--model', 'no_such_model') == 1
    assert 'found none' in capsys.readouterr().err
    assert not (folder / 'segmented').exists()
