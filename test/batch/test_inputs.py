"""What words on a command line stand for."""

from __future__ import annotations

import os

import pytest
from photographs import astronaut

from seg_perception.batch.inputs import find_inputs, images_root, printable, read_list
from seg_perception.batch.manifest import STATE_FOLDER, DoneList, ResultFiles
from seg_perception.batch.outputs import encode_jpeg
from seg_perception.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with images and more, which is the working directory."""
    for name in (
        'b.JPG', 'a.png', 'clip.mp4', 'notes.txt', '.hidden.jpg', 'sub/c.tif', '.git/d.jpg',
    ):  # fmt: skip
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'in'


def find(*words, stdin=b'', **options):
    return find_inputs(words, read_stdin=lambda: stdin, **options)


def names(found):
    return [(item.kind, item.name, item.result_name) for item in found.inputs]


def test_a_folder_gives_what_it_has_and_keeps_its_structure(folder):
    assert names(find('in')) == [
        ('photograph', 'in/a.png', 'in/a'),
        ('photograph', 'in/b.JPG', 'in/b'),
        ('video', 'in/clip.mp4', 'in/clip'),
        ('photograph', 'in/sub/c.tif', 'in/sub/c'),
    ]
    os.chdir(folder / 'sub')
    assert names(find('..'))[3] == ('photograph', '../sub/c.tif', 'in/sub/c')


def test_globs_and_files(folder):
    assert names(find('in/**/*.tif')) == [('photograph', 'in/sub/c.tif', 'sub/c')]
    found = find('in/b.JPG', 'in/*', './in/b.JPG')
    assert [name for _, _, name in names(found)] == ['b', 'a', 'clip']
    assert list(found.remarks()) == ['2 left out: found more than once']
    assert images_root(find('in').inputs) == folder


def test_files_of_any_name_are_taken_by_what_they_are(folder):
    (folder / 'photo').write_bytes(encode_jpeg(astronaut()))
    assert names(find('in/photo', 'in/notes.txt')) == [
        ('photograph', 'in/photo', 'photo'),
        ('video', 'in/notes.txt', 'notes'),
    ]


def test_streams_and_standard_input():
    found = find('webcam:0', 'rtsp://user:secret@camera.local:8554/front?x=1', '-', stdin=b'image')
    webcam, stream, stdin = found.inputs
    assert webcam.kind == stream.kind == 'stream'
    assert webcam.result_name.startswith('webcam_0-20')
    assert stream.result_name.startswith('camera.local_8554_front_x_1-20')
    assert (stdin.kind, stdin.result_name, stdin.data) == ('photograph', 'stdin', b'image')


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('in/gone.jpg', 'there is no such file or folder'),
        ('in/*.bmp', 'expected images or videos that match, found none'),
        ('in/.git/..', ''),
        ('empty', 'expected images or videos in this folder, found none'),
        ('/dev/null', 'expected a file or a folder, it is a pipe or a device: an image comes on'),
        ('in/drive.mcap', 'is a recording: seg-perception bag in/drive.mcap'),
    ],
)
def test_what_stands_for_nothing_is_a_problem_and_no_more(folder, word, message):
    (folder.parent / 'empty').mkdir()
    (folder / 'drive.mcap').write_bytes(b'')
    found = find(word, 'in/a.png')
    assert len(found.inputs) >= 1
    assert [p.name for p in found.problems] == [word] * bool(message)
    assert all(p.message.startswith(message) for p in found.problems)


def test_nothing_at_all_is_an_error(folder):
    with pytest.raises(ConfigurationError, match='gone: there is no such file or folder'):
        find('gone').require_any()


def test_results_of_earlier_jobs_are_no_inputs(folder):
    with DoneList(folder, {}) as done:  # results beside the inputs
        done.begin('a', ['a.overlay.jpg', 'clip.labels'])
    for name in ('a.overlay.jpg', 'clip.labels/000000.png', 'other/x.jpg'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b'')
    (folder / 'other' / STATE_FOLDER).mkdir()  # results of another job
    results = ResultFiles()
    found = find('in', is_result=results.__contains__)
    assert [name for _, _, name in names(found)] == ['in/a', 'in/b', 'in/clip', 'in/sub/c']
    assert list(found.remarks()) == ['2 left out: results of earlier jobs']
    found = find('in/a.overlay.jpg', is_result=results.__contains__)
    assert found.inputs == []


def test_lists_of_paths():
    assert read_list(b'a b\r\nc\n\n', is_null_separated=False) == ['a b', 'c']
    assert read_list(b'a\nb\0c\0', is_null_separated=True) == ['a\nb', 'c']
    [name] = read_list(b'caf\xe9.jpg\n', is_null_separated=False)
    assert os.fsencode(name) == b'caf\xe9.jpg'
    assert printable(name) == 'caf\ufffd.jpg'
