"""The launch files for depth cameras and grasping, run by the real ``ros2 launch``.

RViz is stood in for by an executable that writes down what it was started with.
"""

from __future__ import annotations

import importlib.util
import os
import signal

import pytest
import yaml
from ros_harness import ROOT, wait_until

pytest.importorskip('ros2launch', reason='ros2launch is not installed (it comes with ROS 2)')
pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')

LOADING_S = 90.0
"""How long a node may take until its model is loaded, on a busy machine."""
CAMERA = ('image:=/robot/color/image_raw', 'depth:=/robot/aligned_depth/image_raw')
OUTPUTS = '/robot/color/segmentation'

pytestmark = pytest.mark.ros


@pytest.fixture
def rviz(tmp_path, monkeypatch):
    """A prefix with a stand-in for RViz; the file that it writes its arguments into."""
    prefix, written = tmp_path / 'rviz', tmp_path / 'arguments'
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'rviz2').touch()
    path = prefix / 'lib/rviz2/rviz2'
    path.parent.mkdir(parents=True)
    # Written elsewhere first: what is there is complete.
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >"{written}.part"\n'
        f'mv "{written}.part" "{written}"\nexec sleep 60\n'
    )
    path.chmod(0o755)
    paths = os.pathsep.join([str(prefix), os.environ['AMENT_PREFIX_PATH']])
    monkeypatch.setenv('AMENT_PREFIX_PATH', paths)
    return written


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'launch' / f'{name}.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(spawn, name, *arguments, **kwargs):
    command = ['ros2', 'launch', 'seg_perception', f'{name}.launch.py', *CAMERA, *arguments]
    return spawn.command(command, name=name, ttl_s=LOADING_S + 60.0, **kwargs)


def end(running):
    running.popen.send_signal(signal.SIGINT)
    running.wait()


def test_rviz_shows_the_cameras_topics(ros, spawn, installed, rviz):
    running = launch(
        spawn,
        'rgbd',
        'rviz:=true',
        'fixed_frame:=color_optical',
        'autostart:=false',
        expect_exit=None,  # the stand-in ends as sleep does
    )
    depth = ros.get_params('segmentation', 'camera.image_topic', 'camera.depth_topic')
    assert depth == [argument.split(':=')[1] for argument in CAMERA]
    wait_until(rviz.is_file, 30.0, 'RViz')
    arguments = rviz.read_text().splitlines()
    config = arguments[arguments.index('-d') + 1]
    assert arguments[arguments.index('-f') + 1] == 'color_optical'
    displays = yaml.safe_load((ROOT / 'config/rgbd.rviz').read_text())
    displays = displays['Visualization Manager']['Displays']
    with open(config, encoding='utf-8') as file:
        assert yaml.safe_load(file)['Visualization Manager']['Displays'] == displays
    renamed = dict(a.split(':=') for a in arguments if a.startswith('/camera/'))
    assert renamed.pop('/camera/image_raw') == '/robot/color/image_raw'
    assert set(renamed) | {'/camera/image_raw'} == {
        display['Topic']['Value'] for display in displays if 'Topic' in display
    }
    for topic, name in renamed.items():
        assert name == topic.replace('/camera/segmentation', OUTPUTS)
    end(running)


def test_no_rviz_unless_asked(rviz):
    from launch import LaunchContext
    from launch_ros.actions import Node

    module = load('segmentation')
    context = LaunchContext()
    for argument in module.generate_launch_description().get_launch_arguments():
        argument.execute(context)
    assert len([action for action in module.start(context) if isinstance(action, Node)]) == 1
    context.launch_configurations['rviz'] = 'true'
    assert len([action for action in module.start(context) if isinstance(action, Node)]) == 2


@pytest.mark.parametrize('name', ['rgbd', 'grasping'])
def test_a_missing_depth_topic_is_named(name, spawn, installed):
    command = ['ros2', 'launch', 'seg_perception', f'{name}.launch.py', CAMERA[0]]
    running = spawn.command(command, name=name, expect_exit=1)
    assert running.wait() == 1
    assert "missing required argument 'depth'" in running.log


def test_planner_finds_the_bundle_under_its_names(ros, spawn, installed):
    running = launch(spawn, 'grasping', 'planner:=contact_graspnet', 'target:=17')
    ros.wait_for_state('segmentation', 'active', timeout_s=LOADING_S)
    assert ros.get_params('segmentation', 'grasp_target') == ['17']  # text, as the node declares
    topics = [f'{OUTPUTS}/grasp/{name}' for name in ('points', 'depth', 'camera_info')]
    for topic in ('/seg_masks', *topics):
        wait_until(lambda topic=topic: ros.node.count_publishers(topic), 30.0, topic)
    assert not ros.node.count_publishers(f'{OUTPUTS}/grasp/mask')
    end(running)
    assert 'process has finished cleanly' in running.log


def test_every_planner_renames_outputs_there_are():
    from seg_perception.ros.grasp_outputs import grasp_outputs

    topics = {output.topic for output in grasp_outputs(has_depth=True, has_confidence=True)}
    for names in load('grasping').PLANNERS.values():
        assert set(names) <= topics
