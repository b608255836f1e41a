"""What the pages tell people to type is checked, and on the pages that people follow it is run.

Run for real, in a scratch copy of the checkout with the environment of ``scripts/test``: every
command and all Python of README.md, the quick start and the cookbook. What cannot be run there
(`documented.NOT_HERE`, and comments in the pages) is listed with its reason, and checked all the
same: shell syntax, arguments of our commands and launch files, parameters, services, topics,
files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import documented
import pytest
from documented import ROOT, Block, blocks

PAGES = [
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')),
    ROOT / 'benchmarks' / 'README.md',
    *sorted((ROOT / 'docs').rglob('*.md')),
]
FOLLOWED = [
    ROOT / 'README.md',
    ROOT / 'docs' / 'quick_start.md',
    *(
        ROOT / 'docs' / f'{name}.md'
        for name in (
            'segmenting_files',
            'objects',
            'grasping',
            'navigation',
            'prompting',
            'training',
        )
    ),
    *sorted((ROOT / 'docs' / 'cookbook').glob('*.md')),
]
"""Pages whose commands are run; what the others say is checked only."""
ONCE = ('./scripts/', 'pip install', 'seg-perception doctor')
"""Beginnings of commands that are run once, though several pages have them."""
COMMAND_S = 240.0
"""How long one block may take on a busy machine."""


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_what_a_page_says_can_be_typed(page):
    found = []
    for block in blocks(page):
        if block.is_shell:
            commands = block.commands()
            done = subprocess.run(
                ['bash', '-n'], input='\n'.join(commands), text=True, capture_output=True
            )
            found += [f'{block.where}: {line}' for line in done.stderr.splitlines()]
            found += [
                f'{block.where}: {c}' for one in commands for c in documented.complaints(one)
            ]
        elif block.is_python:
            found += [f'{block.where}: {c}' for c in documented.import_complaints(block.text)]
        elif block.language == 'yaml':
            complaints = documented.parameter_file_complaints(block.text)
            found += [f'{block.where}: {c}' for c in complaints]
        elif block.language == 'dockerfile':
            assert block.text.startswith('FROM '), block.where
    assert found == []


@pytest.mark.parametrize(
    ('command', 'complaint'),
    [
        ('ros2 launch seg_perception gone.launch.py', 'no such launch file'),
        ('ros2 launch seg_perception rgbd.launch.py imag:=/x', 'no argument imag'),
        ('ros2 launch seg_perception rgbd.launch.py \\\n  engin:=auto', 'no argument engin'),
        ('ros2 run seg_perception segmentation', 'no such executable'),
        ('ros2 run seg_perception monitor_node --ros-args -p duration:=3.0', 'no parameter'),
        ('ros2 run seg_perception monitor_node --ros-args -p duration_s:=long', 'a number'),
        ('ros2 run seg_perception segmentation_node --ros-args -p front.weigth:=2.0', 'weigth'),
        ('ros2 param set /segmentation max_pixels 5', 'cannot be changed'),
        ('ros2 param set /segmentation overlay_opacity 7.0', '0 to 1'),
        ('ros2 service call /segmentation/segmnt std_srvs/srv/Trigger', 'no such service'),
        ('ros2 service call /segmentation/enable std_srvs/srv/Trigger', 'SetBool'),
        ('ros2 topic echo /front/segmentation/label', 'no such output'),
        ('FOO=1 seg-perception demo --no-such 3', '--no-such'),
        ('rviz2 -d config/gone.rviz', 'no such file'),
        ('ls $(ros2 pkg prefix --share seg_perception)/config/gone.rviz', 'nothing installs'),
    ],
)
def test_what_is_wrong_is_found(command, complaint):
    assert complaint in '; '.join(documented.complaints(command))


def test_wrong_files_and_code_are_found():
    wrong = (
        '/**:\n  ros__parameters:\n    cameras: [front]\n    front: {weigth: 2.0}\n    mask: 1\n'
    )
    assert len(documented.parameter_file_complaints(wrong)) == 2
    assert documented.import_complaints('from seg_perception import Segmentor')
    assert documented.import_complaints('def (:')


def test_blocks_are_found_with_their_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(documented, 'ROOT', tmp_path)
    page = tmp_path / 'page.md'
    page.write_text(
        'Text\n\n    echo "a\n    b" && \\\n      true\n\n    # remark\n    ls\n\n'
        '<!-- not run: why -->\n```python\nx = 1\n```\n\n<!-- output -->\n\n    3 frames\n\n'
        'and\n\n    $ ls\n    file\n\n'
        "Text\n\n    cat >a <<'END'\n    # x\n\n    b: 'c\n    END\n    ls\n"
    )
    first, second, third, fourth, fifth = blocks(page)
    assert first.commands() == ['echo "a\nb" && \\\n  true', 'ls']
    assert (second.is_python, second.reason) == (True, 'why')
    assert not third.is_shell
    assert fourth.commands() == ['ls']
    assert fifth.commands() == ["cat >a <<'END'\n# x\n\nb: 'c\nEND", 'ls']


@pytest.fixture
def scratch(tmp_path):
    """A copy of the checkout's files with what the pages take for granted, and its environment."""
    if os.environ.get('ROS_DISTRO', 'jazzy') != 'jazzy':
        pytest.skip('the pages speak of the environment for Jazzy')
    folder = tmp_path / 'checkout'
    kept_out = shutil.ignore_patterns(
        '.venv', '.git', 'out', 'site', '__pycache__', '.*_cache', '.hypothesis'
    )
    shutil.copytree(ROOT, folder, ignore=kept_out, symlinks=True)
    (folder / '.venv').mkdir()
    (folder / '.venv' / 'jazzy').symlink_to(sys.prefix)
    make_examples(folder)
    return folder


@pytest.fixture(scope='module')
def already_run():
    """Commands of `ONCE` that earlier pages have run."""
    return set()


def make_examples(folder: Path) -> None:
    """What a page speaks of as the reader's own: a photograph, a video, a DICOM series."""
    import cv2

    data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    image_bgr = data.astronaut()[..., ::-1]
    cv2.imwrite(str(folder / 'photo.jpg'), image_bgr)
    (folder / 'photos').mkdir()
    for name, picture in (('a.jpg', data.astronaut()), ('b.jpg', data.chelsea())):
        cv2.imwrite(str(folder / 'photos' / name), picture[..., ::-1])
    video = cv2.VideoWriter(
        str(folder / 'my_video.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10.0, (256, 256)
    )
    for _ in range(10):
        video.write(cv2.resize(image_bgr, (256, 256)))
    video.release()
    record(folder / 'my_drive', cv2.resize(image_bgr, (320, 240)))
    make_annotated(folder / 'road20', data.chelsea()[..., ::-1])
    pydicom = pytest.importorskip('pydicom.data', reason='pydicom is not installed')
    (folder / 'series').mkdir()
    shutil.copy(pydicom.get_testdata_file('CT_small.dcm'), folder / 'series')


def make_annotated(folder: Path, image_bgr) -> None:
    """Photographs with a polygon each, as LabelMe writes them."""
    import cv2

    folder.mkdir()
    height, width = image_bgr.shape[:2]
    polygon = {'label': 'road', 'points': [[10, 10], [90, 10], [50, 80]], 'shape_type': 'polygon'}
    for name in ('a', 'b', 'c'):
        cv2.imwrite(str(folder / f'{name}.jpg'), image_bgr)
        annotation = {
            'version': '5.5.0',
            'flags': {},
            'shapes': [{**polygon, 'group_id': None, 'flags': {}}],
            'imagePath': f'{name}.jpg',
            'imageData': None,
            'imageHeight': height,
            'imageWidth': width,
        }
        (folder / f'{name}.json').write_text(json.dumps(annotation))


def record(folder: Path, image_bgr) -> None:
    """A rosbag2 with a second of a camera, written by the rosbags library."""
    rosbag2 = pytest.importorskip('rosbags.rosbag2', reason="rosbags (extra 'bag') is missing")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    height, width = image_bgr.shape[:2]
    with rosbag2.Writer(folder, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        name = 'sensor_msgs/msg/Image'
        connection = writer.add_connection('/front/image_raw', name, typestore=store)
        for index in range(4):
            stamp = types['builtin_interfaces/msg/Time'](sec=1_700_000_000 + index, nanosec=0)
            message = types[name](
                header=types['std_msgs/msg/Header'](stamp=stamp, frame_id='front_optical'),
                height=height,
                width=width,
                encoding='bgr8',
                is_bigendian=0,
                step=3 * width,
                data=image_bgr.reshape(-1),
            )
            data = store.serialize_cdr(message, name)
            writer.write(connection, (1_700_000_000 + index) * 10**9, data)


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        'PATH': f'{sys.prefix}/bin:{os.environ["PATH"]}',
        'HOME': str(folder),
        'SEG_PERCEPTION_CACHE': str(folder / '.cache_of_pages'),
        # pip does all but install: the environment under test stays as it is.
        'PIP_DRY_RUN': '1',
        'PIP_NO_BUILD_ISOLATION': '0',
        'PIP_CONSTRAINT': str(ROOT / 'scripts' / 'constraints.txt'),
        'PIP_QUIET': '1',
        # Python of a page imports the installed package, not the copy it runs in.
        'PYTHONSAFEPATH': '1',
    }


def run(block: Block, lines: list[str], folder: Path) -> str:
    """Runs the lines of a block; what went wrong, empty where nothing did."""
    if block.is_python:
        command = [sys.executable, '-c', block.text]
    else:
        command = ['bash', '-euo', 'pipefail', '-c', '\n'.join(lines)]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=block.seconds or COMMAND_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                output, _ = process.communicate(timeout=30.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                return f'did not end within 30 s of Ctrl-C:\n{output}'
            if block.seconds is None:
                return f'took more than {COMMAND_S:g} s:\n{output}'
            return '' if process.returncode in (0, 130, -signal.SIGINT) else output
    return '' if process.returncode == 0 else f'ended with {process.returncode}:\n{output}'


def parted(block: Block) -> tuple[list[str], dict[str, str]]:
    """The commands of a block that are run, and why the others are not."""
    if block.reason:
        return [], dict.fromkeys(block.commands() or ['(code)'], block.reason)
    reasons = {c: documented.reason_not_here(c) for c in block.commands()}
    return [c for c, why in reasons.items() if not why], {c: w for c, w in reasons.items() if w}


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.timeout(900)
@pytest.mark.parametrize('page', FOLLOWED, ids=name_of)
def test_following_a_page_works(page, scratch, already_run):
    for block in blocks(page):
        lines = [
            line for line in parted(block)[0] if line.split('#')[0].strip() not in already_run
        ]
        already_run.update(line for line in lines if line.startswith(ONCE))
        if lines or (block.is_python and not block.reason):
            shown = '\n'.join(lines) or block.text
            problem = run(block, lines, scratch)
            assert not problem, f'{block.where}:\n{shown}\n----- {problem}'


def test_what_is_not_run_says_why(capsys):
    reasons = Counter()
    for page in FOLLOWED:
        for block in blocks(page):
            if block.is_shell or block.is_python:
                reasons.update(parted(block)[1].values())
    assert all(len(reason) > 10 for reason in reasons)
    with capsys.disabled():
        print('\ndocumented commands that are checked, but not run:')
        for reason, count in reasons.most_common():
            print(f'  {count:3}  {reason}')
