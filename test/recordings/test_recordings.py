"""Whole recordings through the command, reopened with the libraries that other tools use."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from bags import (
    FRONT,
    INTRINSICS,
    LAG_NS,
    PERIOD_NS,
    REAR,
    START_NS,
    STORE,
    messages,
    read_bag,
    view,
    write_bag,
    write_color_model,
    write_split_bag,
)
from photographs import astronaut
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from seg_perception.batch.manifest import DoneList
from seg_perception.cli.main import main
from seg_perception.pipeline import Segmenter
from seg_perception.recordings.cameras import CameraTopic
from seg_perception.recordings.statistics import draw_shares
from seg_perception.structures import ClassTable

OURS = ('labels', 'confidence', 'camera_info', 'objects')
NUM = 150


@pytest.fixture(scope='module')
def photo():
    return astronaut(512, 512)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('recordings')


@pytest.fixture(scope='module')
def model(folder):
    return str(write_color_model(folder))


@pytest.fixture(scope='module')
def recorded(photo):
    return list(messages(photo, NUM))


@pytest.fixture(scope='module')
def bag(folder, recorded):
    return write_bag(folder / 'drive', recorded)


@pytest.fixture(scope='module')
def labeled(folder, bag, model):
    """The recording with labels, made by one process at one go."""
    out = folder / 'labeled'
    assert main(['bag', str(bag), '-o', str(out), '--model', model, '--jobs', '1']) == 0
    return out


def process(*arguments):
    command = [sys.executable, '-m', 'seg_perception.cli.main', 'bag', *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def originals(found):
    return [message for message in found if '/segmentation/' not in message[0]]


def as_recorded(recorded):
    return [(topic, kind, log_ns, data) for topic, kind, log_ns, data in recorded]


def test_everything_recorded_is_there_and_labels_beside_it(labeled, recorded, photo, model):
    found = read_bag(labeled)
    assert originals(found) == as_recorded(recorded)
    assert [log_ns for _, _, log_ns, _ in found] == sorted(log_ns for _, _, log_ns, _ in found)
    by_topic: dict[str, list[tuple[int, object]]] = {}
    with AnyReader([labeled]) as reader:
        assert STORE.hash_rihs01('sensor_msgs/msg/Image') in {c.digest for c in reader.connections}
        for connection, log_ns, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            by_topic.setdefault(connection.topic, []).append((log_ns, message))
    assert {topic for topic in by_topic if '/segmentation/' in topic} == {
        *(f'/front/segmentation/{name}' for name in (*OURS, 'label_info')),
        # nobody recorded the calibration of the rear camera
        *(f'/rear/segmentation/{n}' for n in ('labels', 'confidence', 'objects', 'label_info')),
    }
    for camera, step in (('front', 1), ('rear', 2)):
        for name in OURS:
            said = by_topic.get(f'/{camera}/segmentation/{name}', [])
            if (camera, name) == ('rear', 'camera_info'):
                assert said == []
                continue
            stamps_ns = [START_NS + i * PERIOD_NS for i in range(0, NUM, step)]
            lag_ns = LAG_NS + (2000 if camera == 'rear' else 0)
            assert [log_ns for log_ns, _ in said] == [s + lag_ns for s in stamps_ns]
            headers = [message.header for _, message in said]
            assert [h.stamp.sec * 10**9 + h.stamp.nanosec for h in headers] == stamps_ns
            assert {h.frame_id for h in headers} == {f'{camera}_optical'}
    with Segmenter(model, num_threads=1) as segmenter:
        for i in (0, 63, 64, NUM - 1):
            [expected] = segmenter.segment([view(photo, i)])
            label = by_topic['/front/segmentation/labels'][i][1]
            confidence = by_topic['/front/segmentation/confidence'][i][1]
            assert (label.encoding, label.width, label.height) == ('mono8', 160, 120)
            np.testing.assert_array_equal(label.data.reshape(120, 160), expected.labels_YX)
            np.testing.assert_array_equal(
                confidence.data.reshape(120, 160), expected.confidence_YX
            )
        assert len(set(label.data)) > 2  # the model tells things apart
    info = by_topic['/front/segmentation/camera_info'][0][1]
    assert (info.width, info.k.tolist()) == (160, list(INTRINSICS.k))
    [(log_ns, table)] = by_topic['/front/segmentation/label_info']
    assert log_ns == START_NS + LAG_NS
    assert [entry.class_name for entry in table.class_map][:2] == ['background', 'red']
    detections = by_topic['/front/segmentation/objects'][0][1].detections
    assert {d.results[0].hypothesis.class_id for d in detections} <= {
        'red',
        'green',
        'blue',
        'light',
    }
    assert detections


def test_the_mcap_library_reads_it_without_ros(labeled):
    pytest.importorskip('mcap_ros2', reason="mcap-ros2-support (extra 'test') is not installed")
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    [path] = labeled.glob('*.mcap')
    num, num_objects = {}, 0
    with path.open('rb') as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            num[channel.topic] = num.get(channel.topic, 0) + 1
            if channel.topic.endswith('/objects'):
                assert schema.name == 'vision_msgs/msg/Detection2DArray'
                num_objects += len(decoded.detections)
                assert decoded.header.stamp.sec * 10**9 <= message.log_time
            if channel.topic.endswith('/label_info'):
                assert 'durability: transient_local' in channel.metadata['offered_qos_profiles']
            elif '/segmentation/' in channel.topic:
                assert 'reliability: reliable' in channel.metadata['offered_qos_profiles']
        counted = reader.get_summary().statistics.message_count
    assert num['/front/segmentation/labels'] == num[FRONT] == NUM
    assert num['/rear/segmentation/labels'] == num[REAR] == NUM // 2
    assert num_objects > NUM
    assert counted == sum(num.values())


@pytest.mark.parametrize(
    ('storage', 'compression', 'num_files'),
    [
        (StoragePlugin.SQLITE3, CompressionMode.FILE, 2),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE, 1),
        (StoragePlugin.MCAP, CompressionMode.STORAGE, 3),
    ],
)
def test_however_it_was_recorded_the_messages_are_the_same(
    tmp_path, recorded, labeled, model, storage, compression, num_files
):
    bag = write_split_bag(
        tmp_path / 'other', recorded, num_files, storage=storage, compression=compression
    )
    out = tmp_path / 'out'
    arguments = ['bag', str(bag), '-o', str(out), '--model', model, '--jobs', '1']
    assert main([*arguments, '--storage', 'sqlite3']) == 0
    assert len(list(out.glob('*.db3'))) == num_files
    assert read_bag(out) == read_bag(labeled)


@pytest.mark.slow
def test_killed_half_way_it_goes_on_and_the_bytes_are_the_same(tmp_path, photo, model, capsys):
    """Begun by several processes, ended by one."""
    num = 600
    bag = write_bag(tmp_path / 'drive', messages(photo, num))
    whole = tmp_path / 'whole'
    assert main(['bag', str(bag), '-o', str(whole), '--model', model, '--jobs', '1']) == 0
    capsys.readouterr()
    out = tmp_path / 'out'
    journal = tmp_path / 'out.partial' / '.seg-perception' / 'done.jsonl'
    running = process(bag, '-o', out, '--model', model, '--jobs', '2')
    deadline = time.monotonic() + 120
    while not (journal.is_file() and '"done": "slice' in journal.read_text()):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = subprocess.run(
        ['ps', '-o', 'pid=', '--ppid', str(running.pid)], capture_output=True, text=True
    ).stdout.split()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not out.exists()
    num_done = journal.read_text().count('"done": "slice')
    assert 1 <= num_done < 15
    deadline = time.monotonic() + 30
    while any(os.path.exists(f'/proc/{pid}') for pid in children):  # nobody stays behind
        assert time.monotonic() < deadline
        time.sleep(0.05)

    arguments = ['bag', str(bag), '-o', str(out), '--model', model, '--jobs', '1', '--json']
    assert main([*arguments, '--outputs', 'labels']) == 1
    assert 'begun with something else (outputs: ' in capsys.readouterr().err

    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['num_tasks_done_before'] >= num_done
    assert report['topics'][FRONT] == {'images': num, 'segmented': num}
    assert read_bag(out) == read_bag(whole)
    assert {p.name for p in tmp_path.iterdir()} == {'drive', 'whole', 'out'}


def test_what_is_damaged_is_named_and_counted_and_the_rest_is_done(
    tmp_path, recorded, labeled, model, capsys
):
    bad = list(recorded)
    which = [i for i, (topic, *_) in enumerate(bad) if topic == REAR]
    topic, kind, log_ns, data = bad[which[10]]
    bad[which[10]] = topic, kind, log_ns, data[: len(data) // 2]  # half a message
    bag = write_split_bag(tmp_path / 'drive', bad, 3)
    cut = bag / 'part_1.mcap'
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    out = tmp_path / 'out'
    assert main(['bag', str(bag), '-o', str(out), '--model', model, '--jobs', '1', '--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report['is_complete']
    [damage] = report['damage']
    assert 'part_1.mcap cannot be read' in damage
    assert 'mcap recover' in damage
    [fault] = report['faults']
    assert (fault['topic'], fault['log_time_ns']) == (REAR, log_ns)
    expected = [m for m in read_bag(labeled) if m[0] == FRONT]
    found = [m for m in read_bag(out) if m[0] == FRONT]
    assert set(found) < set(expected)
    num_front = report['topics'][FRONT]['segmented']
    assert (
        num_front
        == len(found)
        == len([m for m in read_bag(out) if 'front/segmentation/labels' in m[0]])
    )

    alone = tmp_path / 'alone.mcap'
    alone.write_bytes(cut.read_bytes())
    assert main(['bag', str(alone), '-o', str(tmp_path / 'x'), '--model', model]) == 1
    assert 'alone.mcap cannot be read' in capsys.readouterr().err


def test_a_part_of_it_every_half_second(tmp_path, bag, model, labeled):
    out = tmp_path / 'out'
    part = ['--start', '2', '--end', str((START_NS + 10 * 10**9) / 1e9), '--every', '0.5']
    arguments = ['bag', str(bag), '-o', str(out), '--model', model, '--topics', '/fr*']
    more = ['--outputs', 'labels', 'masks/red', 'overlay', '--jobs', '2']
    assert main([*arguments, *part, *more]) == 0
    low_ns, high_ns = START_NS + LAG_NS + 2 * 10**9, START_NS + 10 * 10**9
    inside = [m for m in read_bag(labeled) if low_ns <= m[2] < high_ns]
    found = read_bag(out)
    assert originals(found) == originals(inside)
    labels = [m for m in found if m[0] == '/front/segmentation/labels']
    assert [m[2] for m in labels] == [low_ns + i * 500_000_000 for i in range(16)]
    assert set(labels) < set(inside)
    assert len([m for m in found if m[0] == '/front/segmentation/masks/red']) == 16
    assert len([m for m in found if m[0] == '/front/segmentation/overlay']) == 16


def test_statistics_add_up(tmp_path, bag, model, labeled):
    pytest.importorskip('pyarrow', reason="pyarrow (extra 'stats') is not installed")
    pytest.importorskip('matplotlib', reason="matplotlib (extra 'stats') is not installed")
    from pyarrow import parquet

    tables = {}
    for suffix in ('csv', 'parquet'):
        out, file = tmp_path / suffix, tmp_path / f'shares.{suffix}'
        arguments = ['bag', str(bag), '-o', str(out), '--model', model, '--no-originals']
        assert main([*arguments, '--jobs', '1', '--stats', str(file)]) == 0
        assert originals(read_bag(out)) == []
        assert cv2.imread(str(file.with_suffix('.png'))).std() > 10
    with (tmp_path / 'shares.csv').open(newline='') as stream:
        tables['csv'] = list(csv.DictReader(stream))
    tables['parquet'] = parquet.read_table(tmp_path / 'shares.parquet').to_pylist()
    assert [{k: str(v) for k, v in row.items()} for row in tables['parquet']] == tables['csv']
    counted: dict[tuple[str, int], dict[int, int]] = {}
    for row in tables['parquet']:
        image = counted.setdefault((row['topic'], row['log_time_ns']), {})
        image[row['class_id']] = row['pixels']
        assert row['share'] == pytest.approx(row['pixels'] / (160 * 120), abs=1e-6)
    assert len(counted) == NUM + NUM // 2
    with AnyReader([labeled]) as reader:
        connections = [c for c in reader.connections if c.topic == '/front/segmentation/labels']
        for connection, log_ns, data in reader.messages(connections):
            message = reader.deserialize(data, connection.msgtype)
            ids, nums = np.unique(message.data, return_counts=True)
            expected = dict(zip(ids.tolist(), nums.tolist(), strict=True))
            assert counted[FRONT, log_ns] == expected


def test_the_picture_shows_what_is_not_background(tmp_path):
    """Two hundredths of the pixels fill it, wherever background takes the rest."""
    pytest.importorskip('matplotlib', reason="matplotlib (extra 'stats') is not installed")
    classes = ClassTable(('background', 'red'), ((0, 0, 0), (255, 0, 0)))
    cameras = [CameraTopic(FRONT, False, '/front/segmentation')]
    frames = [(0, i, i, {'0': 900, '1': 20, '255': 80}) for i in range(10)]
    draw_shares(tmp_path / 'some.png', frames, cameras, classes, (0, 10))
    frames = [(0, i, i, {'0': 900, '255': 100}) for i in range(10)]
    draw_shares(tmp_path / 'none.png', frames, cameras, classes, (0, 10))
    shares = []
    for name in ('some', 'none'):
        picture_bgr = cv2.imread(str(tmp_path / f'{name}.png'))
        shares.append((picture_bgr == (0, 0, 255)).all(axis=-1).mean())
    assert shares[0] > 0.4
    assert shares[1] == 0


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['{bag}', '-o', '{bag}'], 'drive is there already'),
        (['{bag}', '-o', '{tmp}/x.mcap'], 'expected the name of a folder'),
        (['{bag}'], 'expected the folder of the new recording'),
        (['{bag}', '-o', '{tmp}/x', '--topics', '/left'], "got '/left'; it has:\n  /front"),
        (['{bag}', '-o', '{tmp}/x', '--outputs', 'lables'], 'got lables'),
        (['{bag}', '-o', '{tmp}/x', '--outputs', 'masks/dog'], "no class 'dog'"),
        (['{bag}', '-o', '{tmp}/x', '--start', '90'], 'which takes 14.900 s'),
        (['{bag}', '-o', '{tmp}/x', '--stats', 'x.xlsx'], 'ends with .csv or .parquet'),
        (['{bag}', '-o', '{tmp}/x', '--engine', 'auto'], 'because auto measures'),
        (['{labeled}', '-o', '{tmp}/x'], 'the recording has /front/segmentation/camera_info, '),
        (['{tmp}/no', '-o', '{tmp}/x'], 'does not exist'),
        (['{tmp}', '-o', '{tmp}/x'], 'has no metadata.yaml'),
    ],
)
def test_says_what_cannot_be(tmp_path, bag, labeled, model, capsys, arguments, text):
    filled = [a.format(bag=bag, tmp=tmp_path, labeled=labeled) for a in arguments]
    assert main(['bag', *filled, '--model', model, '--jobs', '1']) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('redo', [[], ['--redo']])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, bag, model, capsys, redo):
    mine = tmp_path / 'out.partial' / 'mine.txt'
    mine.parent.mkdir()
    mine.write_text('kept')
    assert main(['bag', str(bag), '-o', str(tmp_path / 'out'), '--model', model, *redo]) == 1
    assert 'expected what an interrupted run left' in capsys.readouterr().err
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == [mine]


def test_work_of_a_run_that_goes_on_is_not_begun_anew(tmp_path, bag, model, capsys):
    work = tmp_path / 'out.partial'
    with DoneList(work, {'another': 'run'}):
        (work / 'half').write_text('done')
        arguments = ['bag', str(bag), '-o', str(tmp_path / 'out'), '--model', model, '--redo']
        assert main(arguments) == 1
    assert (work / 'half').read_text() == 'done'
    assert 'another' in capsys.readouterr().err


def test_a_full_disk_is_said_and_the_work_goes_on_afterwards(tmp_path, bag, model, labeled):
    out = tmp_path / 'out'
    limit = 1_000_000  # bytes a file may have

    def confine():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, '-m', 'seg_perception.cli.main', 'bag', bag, '-o', out]
    command += ['--model', model, '--jobs', '1']
    full = subprocess.run(command, preexec_fn=confine, capture_output=True, text=True)
    assert full.returncode == 1, full.stderr
    assert 'cannot be written: File too large' in full.stderr
    assert 'GB are free' in full.stderr
    assert not out.exists()
    assert main([str(word) for word in command[3:]]) == 0
    assert read_bag(out) == read_bag(labeled)


def test_lists_what_there_is(bag, capsys):
    assert main(['bag', str(bag), '--list', '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(t['name'], t['num_images'], t['is_camera']) for t in document['topics']] == [
        (FRONT, NUM, True),
        (REAR, NUM // 2, True),
    ]
