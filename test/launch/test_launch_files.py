"""The launch files, run by the real ``ros2 launch``."""

from __future__ import annotations

import importlib.util
import signal
import time

import pytest
import yaml
from ros_harness import ROOT, TIMEOUT_S, wait_until

pytest.importorskip('launch_ros', reason='launch_ros is not installed (it comes with ROS 2)')
pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')

LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
LOADING_S = 90.0
"""How long a node may take until its model is loaded, on a busy machine."""

pytestmark = pytest.mark.ros


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'launch' / f'{name}.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(spawn, name, *arguments, **kwargs):
    pytest.importorskip('ros2launch', reason='ros2launch is not installed (it comes with ROS 2)')
    command = ['ros2', 'launch', 'seg_perception', f'{name}.launch.py', *arguments]
    return spawn.command(command, name=name, **kwargs)


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_described(installed, path):
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    arguments = get_launch_description_from_python_launch_file(str(path)).get_launch_arguments()
    assert arguments
    for argument in arguments:
        assert argument.description.endswith(('.', ']')), argument.name


def test_choices_are_those_of_the_node():
    from seg_perception.ros.options import rows
    from seg_perception.ros.params import CameraParameters, Parameters

    arguments = {
        argument.name: argument
        for argument in load('segmentation').generate_launch_description().get_launch_arguments()
    }
    listed = [(Parameters, 'precision'), (Parameters, 'engine'), (CameraParameters, 'transport')]
    for table, name in listed:
        choices = next(c for n, _, c in rows(table) if n == name).choices
        assert choices
        assert arguments[name].choices == ['', *choices]
    names = {name for name, _, _ in rows(Parameters)} | {'use_sim_time'}
    names |= {f'.{name}' for name, _, _ in rows(CameraParameters)}
    assert set(load('segmentation').PARAMETERS) <= names


def test_segmentation_hands_over_what_was_given(ros, spawn, installed):
    running = launch(
        spawn,
        'segmentation',
        'image:=/front/image_raw',
        'camera_name:=front',
        'namespace:=robot',
        'node_name:=eyes',
        'mask_classes:=person, cat',
        'confidence_threshold:=0.25',
        'max_rate_hz:=5',
        'autostart:=false',
    )
    names = ['cameras', 'front.image_topic', 'front.max_rate_hz', 'mask_classes']
    values = ros.get_params('/robot/eyes', *names, 'confidence_threshold', 'autostart')
    assert values == [['front'], '/front/image_raw', 5.0, ['person', 'cat'], 0.25, False]
    assert ros.state('/robot/eyes') == 'unconfigured'
    running.popen.send_signal(signal.SIGINT)
    running.wait()
    assert 'process has finished cleanly' in running.log


def test_a_killed_node_is_started_again(ros, spawn, installed):
    import psutil

    running = launch(spawn, 'segmentation', 'respawn:=true')
    ros.wait_for_state('/segmentation', 'active', timeout_s=LOADING_S)
    [node] = [
        child
        for child in psutil.Process(running.popen.pid).children(recursive=True)
        if 'segmentation_node' in ' '.join(child.cmdline())
    ]
    node.kill()
    running.wait_for_log('process has died')
    running.wait_for_log('loaded in', LOADING_S)
    wait_until(lambda: running.log.count('loaded in') == 2, LOADING_S, 'a second node')
    running.popen.send_signal(signal.SIGINT)
    running.wait()


def test_segmentation_passes_nothing_that_was_not_given(ros, spawn, installed):
    from seg_perception.ros.options import rows
    from seg_perception.ros.params import CameraParameters, Parameters

    running = launch(spawn, 'segmentation')
    ros.wait_for_state('/segmentation', 'active', timeout_s=LOADING_S)
    for table, prefix in ((Parameters, ''), (CameraParameters, 'camera.')):
        names = [name for name, _, _ in rows(table)]
        values = ros.get_params('/segmentation', *(f'{prefix}{name}' for name in names))
        for (name, default, _), value in zip(rows(table), values, strict=True):
            expected = list(default) if isinstance(default, tuple) else default
            if isinstance(expected, str):
                expected = expected.replace('<camera>', 'camera')
            assert (list(value) if isinstance(default, tuple) else value) == expected, name
    running.popen.send_signal(signal.SIGINT)
    running.wait()
    assert 'process has finished cleanly' in running.log


def test_multi_camera_serves_the_cameras_of_its_file(ros, spawn, installed):
    running = launch(spawn, 'multi_camera')
    ros.wait_for_state('/segmentation', 'active', timeout_s=LOADING_S)
    cameras = yaml.safe_load((ROOT / 'config/multi_camera.yaml').read_text())
    cameras = cameras['/**']['ros__parameters']['cameras']
    assert ros.get_params('/segmentation', 'cameras') == [cameras]
    deadline = time.monotonic() + TIMEOUT_S
    for camera in cameras:
        while not ros.node.count_publishers(f'/{camera}/segmentation/labels'):
            assert time.monotonic() < deadline, camera
            time.sleep(0.1)
    running.popen.send_signal(signal.SIGINT)
    running.wait()
    assert 'process has finished cleanly' in running.log


@pytest.mark.parametrize(
    ('name', 'argument', 'message'),
    [
        ('multi_camera', 'params_file:=/no/such.yaml', 'no such file: /no/such.yaml'),
        ('segmentation', 'max_rate_hz:=5Hz', "expected a number, got '5Hz'"),
        ('demo', 'seconds:=ten', "expected a number, got 'ten'"),
    ],
)
def test_wrong_argument_is_named(spawn, installed, name, argument, message):
    running = launch(spawn, name, argument, expect_exit=1)
    assert running.wait() == 1
    assert f'{argument.partition(":=")[0]}: {message}' in running.log
    # Of a node that was started already, nothing would be said, and nothing would end it.
    assert not running.kill()


def test_nothing_is_started_where_rviz_is_missing(spawn, installed, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(installed))
    running = launch(spawn, 'segmentation', 'rviz:=true', expect_exit=1)
    assert running.wait() == 1
    assert 'rviz: rviz2 is not installed' in running.log
    assert not running.kill()


def test_demo_plays_segments_and_ends(spawn, installed, tmp_path):
    pytest.importorskip('skimage', reason="scikit-image (extra 'demo') is not installed")
    running = launch(
        spawn, 'demo', 'seconds:=2', 'rate:=10', 'overlay:=sheet.png', ttl_s=LOADING_S + 30.0
    )
    assert running.wait(timeout_s=LOADING_S) == 0
    assert 'frames published' in running.log
    assert 'person' in running.log
    assert running.log.count('process has finished cleanly') == 3
    assert (tmp_path / 'sheet.png').is_file()
