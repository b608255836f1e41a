"""Which kind of source a name means, and what is said when it means none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.sources import open_source
from seg_perception.sources.stills import StillsSource
from seg_perception.sources.video import VideoSource


@pytest.fixture
def folder(tmp_path):
    """Pictures b.png (colour), a.png (grey) and c.png (16-bit), and a file that is none."""
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / 'b.png'), rng.integers(0, 255, (4, 6, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'a.png'), rng.integers(0, 255, (3, 5), np.uint8))
    cv2.imwrite(str(tmp_path / 'c.png'), rng.integers(0, 65535, (2, 7), np.uint16))
    (tmp_path / 'notes.txt').write_text('not a picture')
    return tmp_path


def test_folder_in_order_of_names_each_as_it_is(folder):
    source = open_source(str(folder))
    for _ in range(2):  # Every pass starts anew.
        items = list(source.frames())
        assert [item.name for item in items] == ['a.png', 'b.png', 'c.png']
        assert [item.frame.encoding for item in items] == ['mono8', 'bgr8', 'mono16']
        assert [(i.frame.height, i.frame.width) for i in items] == [(3, 5), (4, 6), (2, 7)]
    expected = cv2.imread(str(folder / 'b.png'))
    assert bytes(items[1].frame.data) == expected.tobytes()
    assert items[1].frame.step == 18


@pytest.mark.parametrize(('pattern', 'names'), [('[ab].png', ['a', 'b']), ('b.png', ['b'])])
def test_glob_and_single_file(folder, pattern, names):
    source = open_source(str(folder / pattern))
    assert isinstance(source, StillsSource)
    assert [item.name for item in source.frames()] == [f'{name}.png' for name in names]


def test_video_keeps_pictures_and_times(tmp_path):
    path = tmp_path / 'video.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5.0, (64, 48))
    for level in (20, 120, 220):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    source = open_source(str(path))
    assert isinstance(source, VideoSource)
    for _ in range(2):
        items = list(source.frames())
        assert [item.offset_s for item in items] == pytest.approx([0.0, 0.2, 0.4])
        levels = [np.frombuffer(item.frame.data, np.uint8).mean() for item in items]
        assert levels == pytest.approx([20, 120, 220], abs=3)
    source.close()


@pytest.mark.parametrize(
    ('name', 'error', 'message'),
    [
        ('', ConfigurationError, 'expected a source: demo'),
        ('missing.mp4', ConfigurationError, r"no such source: 'missing.mp4' \(.*does not exist\)"),
        ('missing.png', ConfigurationError, 'in missing.png, found none'),
        ('missing.mcap', ConfigurationError, 'missing.mcap does not exist'),
        ('*.nothing', ConfigurationError, 'found none'),
        ('webcam:left', ConfigurationError, r'webcam:<number>, e\.g\. webcam:0'),
        ('webcam:999', ConfigurationError, 'expected a webcam 999, cannot open it'),
    ],
)
def test_names_that_mean_nothing(tmp_path, monkeypatch, name, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        open_source(name)


@pytest.mark.parametrize('name', ['video.mp4', 'picture.jpg'])
def test_files_that_are_not_what_they_are_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b'neither a picture nor a video')
    with pytest.raises(InputError, match=name):
        list(open_source(str(path)).frames())


def test_empty_folder(tmp_path):
    with pytest.raises(ConfigurationError, match=r'expected images .* found none'):
        open_source(str(tmp_path))
