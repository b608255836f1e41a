"""Videos and live streams: what a real decoder makes of them, and when recordings end."""

from __future__ import annotations

import http.server
import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest
from photographs import astronaut

from seg_perception.batch.facts import result_facts
from seg_perception.batch.frame_store import FrameStore
from seg_perception.batch.inputs import find_inputs
from seg_perception.batch.job import JobOptions, run_job
from seg_perception.batch.outputs import encode_jpeg
from seg_perception.batch.videos import spread
from seg_perception.pipeline import Segmenter
from seg_perception.structures import ObjectInstance, Objects, Segmentation


@pytest.fixture(scope='module')
def segmenter():
    with Segmenter(input_size_hw=(129, 129), num_threads=1) as segmenter:
        yield segmenter


@pytest.fixture
def camera():
    """The address of a network camera: JPEG images over HTTP, 20 a second, without end."""
    is_over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=image')
            self.end_headers()
            i = 0
            try:
                while not is_over.wait(0.05):
                    jpeg = encode_jpeg(np.roll(astronaut(), 3 * i, 1))
                    head = f'--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}'
                    self.wfile.write(f'{head}\r\n\r\n'.encode() + jpeg + b'\r\n')
                    i += 1
            except OSError:
                pass  # nobody looks any more

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/front.mjpg'
    is_over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def run(segmenter, folder, word, **options):
    found = find_inputs([str(word)], read_stdin=bytes)
    options = {'choices': ('overlay', 'labels'), **options}
    return run_job(segmenter, result_facts(segmenter), found, JobOptions(folder=folder, **options))


def pictures_of(path):
    video = cv2.VideoCapture(str(path))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1])
    return pictures, video.get(cv2.CAP_PROP_FPS)


def press_ctrl_c(after_s):
    """So long after the recording began: before, it would end the tests."""

    def is_recording():
        return signal.getsignal(signal.SIGINT) is not signal.default_int_handler

    deadline_s = time.monotonic() + 60.0
    while not is_recording() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(after_s)
    if is_recording():
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize('ended_by', ['time', 'Ctrl-C'])
def test_a_stream_is_recorded_at_its_pace_until_it_is_ended(
    segmenter, camera, tmp_path, capsys, ended_by
):
    seconds = 2.0
    start_s = time.monotonic()
    if ended_by == 'Ctrl-C':
        threading.Thread(target=press_ctrl_c, args=(seconds,)).start()
    summary = run(
        segmenter, tmp_path, camera, live_seconds=seconds if ended_by == 'time' else None
    )
    lasted_s = time.monotonic() - start_s
    assert not summary.problems
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    [path] = tmp_path.glob('*.overlay.mp4')
    assert path.name.startswith('127.0.0.1_')
    pictures, rate_hz = pictures_of(path)
    # It plays about as long as it was recorded, however many pictures the model managed.
    assert 0 < len(pictures) / rate_hz < lasted_s + 1.0
    assert summary.num_pictures == len(list(tmp_path.glob('*.labels/*.png'))) >= 1
    assert 'recording, Ctrl-C ends it' in capsys.readouterr().err
    # Another recording is another file, and has a picture however short it is.
    time.sleep(1.0)
    assert run(segmenter, tmp_path, camera, live_seconds=0.0).num_pictures == 1
    assert len(list(tmp_path.glob('*.overlay.mp4'))) == 2


@pytest.mark.parametrize('codec', ['mpeg4', 'vp9'])
def test_overlay_videos_of_odd_sizes(segmenter, tmp_path, codec):
    path = tmp_path / 'odd.avi'
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'FFV1'), 12.5, (101, 75))
    image = astronaut(75, 101)
    for _ in range(3):
        video.write(np.ascontiguousarray(image[..., ::-1]))
    video.release()
    [read], _ = pictures_of(path)[0][:1], None
    run(segmenter, tmp_path / 'out', path, codec=codec)
    pictures, rate_hz = pictures_of(tmp_path / 'out/odd.overlay.mp4')
    assert (len(pictures), rate_hz) == (3, 12.5)
    assert pictures[0].shape[0] in (74, 75)
    assert pictures[0].shape[1] in (100, 101)
    labels = cv2.imread(str(tmp_path / 'out/odd.labels/000002.png'))
    assert labels.shape == read.shape
    # Another codec is another video; nothing else is made anew without need.
    again = run(segmenter, tmp_path / 'out', path, codec=codec)
    assert again.num_done_before == 1


def test_videos_that_are_none(segmenter, tmp_path, capfd):
    (tmp_path / 'text.mp4').write_text('no video')
    summary = run(segmenter, tmp_path / 'out', tmp_path / 'text.mp4')
    [problem] = summary.problems
    assert 'cannot be opened as one' in problem.message
    assert list((tmp_path / 'out').glob('*')) == [tmp_path / 'out/.seg-perception']


def test_tiles_stand_for_equal_parts():
    assert spread(4, 8) == [1, 3, 5, 7]
    assert spread(4, 3) == [0, 1, 2]
    assert spread(4, None) == [0]
    assert spread(0, 10) == []


def test_a_store_of_frames_gives_them_back_as_far_as_they_are_whole(segmenter, tmp_path):
    [result] = segmenter.segment([astronaut()])
    items = (ObjectInstance(1, 15, 0.5, (0, 0, 4, 4), 16, (1.5, 1.5)),)
    objects = Objects(np.zeros((96, 128), np.uint16), items)
    with_objects = Segmentation(
        result.labels_YX, result.confidence_YX, result.classes, {}, objects=objects
    )
    path = tmp_path / 'frames'
    with FrameStore(path, segmenter.classes) as store:
        store.append(result)
        store.append(with_objects)
    whole = path.read_bytes()
    for cut in (len(whole), len(whole) - 1, len(whole) // 2 + 1, 3):
        path.write_bytes(whole[:cut])
        with FrameStore(path, segmenter.classes) as store:
            loaded = list(store.segmentations())
            assert len(loaded) == len(store) == (2 if cut == len(whole) else int(cut > 3))
        for segmentation in loaded:
            assert np.array_equal(segmentation.labels_YX, result.labels_YX)
            assert np.array_equal(segmentation.confidence_YX, result.confidence_YX)
    assert path.read_bytes() == b''
    damaged = bytearray(whole)
    damaged[20] ^= 1
    path.write_bytes(bytes(damaged))
    with FrameStore(path, segmenter.classes) as store:
        assert len(store) == 0
        store.append(with_objects)
        [back] = store.segmentations()
    assert back.objects.items == items
