"""Whole jobs with the real default model: what is written, what goes wrong, what is done again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from photographs import astronaut

from seg_perception.batch.facts import result_facts
from seg_perception.batch.inputs import find_inputs
from seg_perception.batch.job import JobOptions, run_job
from seg_perception.batch.manifest import STATE_FOLDER, ResultFiles
from seg_perception.errors import ConfigurationError
from seg_perception.imaging.picture_files import decode_index_mask
from seg_perception.pipeline import Segmenter

SIZE_HW = (96, 128)
PERSON = 15


@pytest.fixture(scope='module')
def segmenter():
    # As large as the pictures: quick.
    with Segmenter(input_size_hw=(129, 129), num_threads=1) as segmenter:
        yield segmenter


def write_photograph(path, shift=0, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.roll(astronaut(**size), shift, axis=1)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def write_video(path, num_frames=9, size_hw=SIZE_HW):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size_hw
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (width, height))
    for i in range(num_frames):
        video.write(np.ascontiguousarray(np.roll(astronaut(height, width), 3 * i, 1)[..., ::-1]))
    video.release()
    return path


def run(segmenter, folder, *words, stdin=b'', choices=('overlay', 'labels', 'sheet'), **options):
    results = ResultFiles()
    found = find_inputs(
        [str(word) for word in words],
        read_stdin=lambda: stdin,
        is_result=results.__contains__,
    )
    options = JobOptions(folder=folder, choices=choices, **options)
    return run_job(
        segmenter, result_facts(segmenter, class_names=options.class_names), found, options
    )


def files(folder):
    """Content of all files that are results, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and STATE_FOLDER not in path.parts
    }


def test_a_folder_gives_overlays_labels_and_a_sheet(segmenter, tmp_path, capsys):
    write_photograph(tmp_path / 'in/a.png')
    write_photograph(tmp_path / 'in/sub/b.jpg', shift=20)
    write_video(tmp_path / 'in/clip.avi')
    (tmp_path / 'in/broken.jpg').write_bytes((tmp_path / 'in/sub/b.jpg').read_bytes()[:900])
    (tmp_path / 'in/text.png').write_text('no image')
    out = tmp_path / 'out'
    summary = run(segmenter, out, tmp_path / 'in', tmp_path / 'gone.jpg')
    made = files(out)
    assert set(made) == {
        'classes.csv',
        'contact_sheet.jpg',
        'in/a.labels.png',
        'in/a.overlay.jpg',
        'in/sub/b.labels.png',
        'in/sub/b.overlay.jpg',
        'in/clip.overlay.mp4',
        *(f'in/clip.labels/{i:06d}.png' for i in range(9)),
    }
    # The labels are those of the model, without a loss.
    [expected] = segmenter.segment([astronaut()], confidence=False)
    labels = decode_index_mask(made['in/a.labels.png'], 'a', max_pixels=2**20)
    assert np.array_equal(labels, expected.labels_YX)
    assert 0.2 < (labels == PERSON).mean() < 0.8
    # The video is as long, as large and as quick.
    video = cv2.VideoCapture(str(out / 'in/clip.overlay.mp4'))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1])
    assert (len(pictures), pictures[0].shape) == (9, (*SIZE_HW, 3))
    assert video.get(cv2.CAP_PROP_FPS) == 10
    first = decode_index_mask(made['in/clip.labels/000000.png'], '0', max_pixels=2**20)
    assert (first == labels).mean() > 0.97  # MJPEG is not lossless
    # Every class of the model is in the table.
    table = list(csv.DictReader(made['classes.csv'].decode().splitlines()))
    assert [row['name'] for row in table] == [*segmenter.classes.names, 'unlabeled']
    assert table[PERSON]['id'] == str(PERSON)
    # Three inputs have results, three are named.
    assert (summary.num_inputs, summary.num_pictures) == (3, 11)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(summary.problems) == 3
    assert errors[0] == f'failed: {tmp_path}/gone.jpg: there is no such file or folder'
    assert any('broken.jpg: truncated JPEG' in line for line in errors)
    shares = {share.name: share.fraction for share in summary.classes}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares['person'] > 0.2
    json.dumps(summary.document())


def test_only_what_is_missing_is_made_and_the_rest_left_alone(segmenter, tmp_path, capsys):
    for name in 'abcd':
        write_photograph(tmp_path / f'in/{name}.png', shift=ord(name))
    out = tmp_path / 'out'
    assert run(segmenter, out, tmp_path / 'in').num_pictures == 4
    before = files(out)
    times = {path: path.stat().st_mtime_ns for path in (out / 'in').iterdir()}
    summary = run(segmenter, out, tmp_path / 'in')
    assert (summary.num_pictures, summary.num_done_before) == (0, 4)
    assert {path: path.stat().st_mtime_ns for path in (out / 'in').iterdir()} == times
    # One input is changed, one result lost: two are made anew, the same as if all were.
    write_photograph(tmp_path / 'in/a.png', shift=50)
    (out / 'in/b.labels.png').unlink()
    summary = run(segmenter, out, tmp_path / 'in')
    assert (summary.num_pictures, summary.num_done_before) == (2, 2)
    assert set(capsys.readouterr().err.splitlines()) == {
        '1 made anew: input changed',
        '1 made anew: outputs missing',
    }
    after = files(out)
    assert {name for name in after if after[name] != before[name]} == {
        'contact_sheet.jpg',
        'in/a.labels.png',
        'in/a.overlay.jpg',
    }
    # What is asked for in addition is made.
    assert run(segmenter, out, tmp_path / 'in', choices=('confidence',)).num_pictures == 4
    assert (out / 'in/a.confidence.png').is_file()


def test_another_model_or_option_is_noticed(segmenter, tmp_path):
    photo = write_photograph(tmp_path / 'photo.png')
    out = tmp_path / 'out'
    run(segmenter, out, photo)
    before = files(out)
    with pytest.raises(ConfigurationError, match=r'made otherwise \(classes: none → person\)'):
        run(segmenter, out, photo, class_names=('person',))
    assert files(out) == before
    segmenter.confidence_threshold = 0.9
    try:
        with pytest.raises(ConfigurationError, match=r'confidence threshold: 0.0 → 0.9'):
            run(segmenter, out, photo)
        # Another input of the same folder is nobody's loss.
        run(segmenter, out, write_photograph(tmp_path / 'other.png', shift=10))
        assert run(segmenter, out, photo, redo=True).num_pictures == 1
    finally:
        segmenter.confidence_threshold = 0.0
    labels = cv2.imread(str(out / 'photo.labels.png'), cv2.IMREAD_UNCHANGED)
    assert not np.array_equal(labels, before['photo.labels.png'])


def test_nothing_is_written_over_that_is_not_ours(segmenter, tmp_path):
    photo = write_photograph(tmp_path / 'photo.png')
    drawn = tmp_path / 'photo.labels.png'  # by hand, for days
    drawn.write_bytes(b'precious')
    for redo in (False, True):
        with pytest.raises(ConfigurationError, match='was not written by seg-perception segment'):
            run(segmenter, tmp_path, photo, redo=redo)
    assert drawn.read_bytes() == b'precious'
    drawn.unlink()
    # An input that is called like a result.
    overlay = write_photograph(tmp_path / 'in/photo.overlay.jpg')
    with pytest.raises(ConfigurationError, match='is an input: choose another folder'):
        run(segmenter, tmp_path / 'in', photo, overlay)
    # Another file of the same name, in another job.
    run(segmenter, tmp_path / 'out', photo)
    other = write_photograph(tmp_path / 'elsewhere/photo.png', shift=30)
    with pytest.raises(ConfigurationError, match='results of other files of the same name'):
        run(segmenter, tmp_path / 'out', other)
    # The same file somewhere else is the same.
    moved = tmp_path / 'moved/photo.png'
    moved.parent.mkdir()
    shutil.move(photo, moved)
    assert run(segmenter, tmp_path / 'out', moved).num_done_before == 1


def test_classes_can_be_chosen(segmenter, tmp_path):
    photo = write_photograph(tmp_path / 'photo.png')
    with pytest.raises(ConfigurationError, match="no class 'persn'"):
        run(segmenter, tmp_path / 'out', photo, class_names=('persn',))
    run(segmenter, tmp_path / 'cat', photo, class_names=('cat',), choices=('labels',))
    run(segmenter, tmp_path / 'person', photo, class_names=('person',), choices=('labels',))
    labels = cv2.imread(str(tmp_path / 'person/photo.labels.png'))
    assert len(np.unique(labels.reshape(-1, 3), axis=0)) == 2
    assert not cv2.imread(str(tmp_path / 'cat/photo.labels.png')).any()
    with pytest.raises(ConfigurationError, match='instances needs objects and'):
        run(segmenter, tmp_path / 'out', photo, choices=('instances',))


def test_kinds_of_images(segmenter, tmp_path):
    image = astronaut()
    bgr = image[..., ::-1]
    kinds = {
        'alpha.png': np.dstack([bgr, np.full(SIZE_HW, 90, np.uint8)]),
        'deep.png': bgr.astype(np.uint16) * 257,
        'deep.tiff': bgr.astype(np.uint16) * 257,
        'grey.png': cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY),
        'plain.bmp': bgr,
        'plain.webp': bgr,
    }
    for name, pixels in kinds.items():
        (tmp_path / 'in').mkdir(exist_ok=True)
        assert cv2.imwrite(str(tmp_path / 'in' / name), pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])
    jpeg = cv2.imencode('.jpg', cv2.rotate(bgr, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    (tmp_path / 'in/turned.jpg').write_bytes(jpeg[:2] + segment + jpeg[2:])
    large = tmp_path / 'in/large.png'
    cv2.imwrite(str(large), np.zeros((400, 500), np.uint8))
    summary = run(segmenter, tmp_path / 'out', tmp_path / 'in', max_pixels=400 * 499)
    assert [problem.name for problem in summary.problems] == [str(large)]
    assert '199600' in summary.problems[0].message
    assert summary.num_turned == 1

    def labels(name):
        data = (tmp_path / f'out/in/{name}.labels.png').read_bytes()
        return decode_index_mask(data, name, max_pixels=2**20)

    for name in ('alpha', 'deep.png', 'deep.tiff', 'plain.bmp', 'plain.webp'):
        assert np.array_equal(labels(name), labels('plain.bmp')), name
    assert labels('grey').shape == SIZE_HW
    assert (labels('turned') == labels('plain.bmp')).mean() > 0.97


def test_standard_input_is_an_image(segmenter, tmp_path):
    photo = write_photograph(tmp_path / 'photo.png')
    run(segmenter, tmp_path / 'out', photo, '-', stdin=photo.read_bytes())
    made = files(tmp_path / 'out')
    assert made['stdin.labels.png'] == made['photo.labels.png']


def test_batches_and_threads_do_not_change_a_byte(segmenter, tmp_path):
    for i in range(5):
        write_photograph(tmp_path / f'in/{i}.png', shift=9 * i, height=96 + 32 * (i % 2))
    write_video(tmp_path / 'in/v.avi', num_frames=5)
    choices = ('overlay', 'overlay-png', 'labels', 'confidence', 'coco', 'sheet')
    for name, num_workers in (('alone', 0), ('beside', 3)):
        run(
            segmenter, tmp_path / name, tmp_path / 'in',
            choices=choices, num_workers=num_workers, batch_size=2,
        )  # fmt: skip
    assert files(tmp_path / 'alone') == files(tmp_path / 'beside')
    assert len(files(tmp_path / 'alone')) == 5 * 4 + 1 + 3 * 5 + 4


@pytest.mark.slow
def test_a_job_killed_twice_goes_on_and_ends_with_the_same_bytes(tmp_path):
    for i in range(30):
        write_photograph(tmp_path / f'in/{i:02d}.png', shift=3 * i)
    write_video(tmp_path / 'in/v.avi', num_frames=60)
    folder = tmp_path / 'killed'
    command = [
        sys.executable, '-m', 'seg_perception.cli.main', 'segment', 'in', '--num-threads', '1',
        '--batch-size', '2', '--outputs', 'overlay,labels,coco,sheet', '--out', 'killed', '--json',
    ]  # fmt: skip
    for is_far_enough in (lambda: num_done(folder) >= 6, lambda: num_frames_kept(folder) >= 10):
        kill_when(is_far_enough, command, tmp_path)
        num_photographs = num_done(folder)
        num_frames = num_frames_kept(folder)
        kept = {path: path.stat().st_mtime_ns for path in (folder / 'in').glob('0[01].*')}
    assert (num_photographs, len(kept)) == (30, 4)
    assert 10 <= num_frames < 60
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    assert summary['num_done_before'] == 30
    assert summary['num_pictures_now'] == 60 - num_frames // 2 * 2
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert list((folder / STATE_FOLDER / 'frames').iterdir()) == []
    with Segmenter(num_threads=1) as segmenter:
        run(
            segmenter, tmp_path / 'whole', tmp_path / 'in',
            choices=('overlay', 'labels', 'coco', 'sheet'), batch_size=2,
        )  # fmt: skip
    assert files(folder) == files(tmp_path / 'whole')


def kill_when(is_far_enough, command, folder):
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 120
            while process.poll() is None and not is_far_enough():
                assert time.monotonic() < deadline
                time.sleep(0.002)
            assert process.poll() is None, process.stderr.read()
        finally:
            process.send_signal(signal.SIGKILL)


def num_done(folder):
    path = folder / STATE_FOLDER / 'done.jsonl'
    return path.read_bytes().count(b'\n{"done": ') if path.is_file() else 0


def num_frames_kept(folder):
    """Of the video that is not finished: whole records in its file."""
    [data] = [path.read_bytes() for path in (folder / STATE_FOLDER).glob('frames/*')] or [b'']
    num = position = 0
    while position + 8 <= len(data):
        position += 8 + int.from_bytes(data[position : position + 4], 'little')
        num += position <= len(data)
    return num


def test_no_ros_is_needed(tmp_path):
    write_photograph(tmp_path / 'photo.png')
    code = (
        'import sys; sys.modules["rclpy"] = None; '
        'from seg_perception.cli.main import main; sys.exit(main(["segment", "photo.png"]))'
    )
    environment = {k: v for k, v in os.environ.items() if 'ROS' not in k and 'AMENT' not in k}
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, '')
    assert 'results: segmented/\n' in result.stdout
    assert '  photo.overlay.jpg  ' in result.stdout
    assert Path(tmp_path / 'segmented/photo.overlay.jpg').is_file()
