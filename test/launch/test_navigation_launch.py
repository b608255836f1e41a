"""The launch files for Nav2 and nvblox, run by the real ``ros2 launch``.

Nav2's packages are stood in for by executables that write down what they were started with.
"""

from __future__ import annotations

import itertools
import os
import signal

import numpy as np
import pytest
import yaml
from ros_harness import wait_until

from seg_perception.cli.main import main

pytest.importorskip('ros2launch', reason='ros2launch is not installed (it comes with ROS 2)')
pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')

LOADING_S = 90.0
"""How long a node may take until its model is loaded, on a busy machine."""
STAND_INS = {
    'nav2_costmap_2d': 'nav2_costmap_2d',
    'nav2_lifecycle_manager': 'lifecycle_manager',
    'semantic_segmentation_layer': None,
}

pytestmark = pytest.mark.ros


@pytest.fixture
def nav2(tmp_path, monkeypatch):
    """A prefix with stand-ins for Nav2; the folder that they write into."""
    prefix, written = tmp_path / 'nav2', tmp_path / 'written'
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    written.mkdir()
    for package, executable in STAND_INS.items():
        (index / package).touch()
        if executable:
            path = prefix / 'lib' / package / executable
            path.parent.mkdir(parents=True)
            # Written elsewhere first: what is there is complete.
            path.write_text(
                f'#!/bin/sh\nprintf "%s\\n" "$@" >"{written}/.{executable}"\n'
                f'mv "{written}/.{executable}" "{written}/{executable}"\nexec sleep 60\n'
            )
            path.chmod(0o755)
    paths = os.pathsep.join([str(prefix), os.environ['AMENT_PREFIX_PATH']])
    monkeypatch.setenv('AMENT_PREFIX_PATH', paths)
    return written


@pytest.fixture
def costmap_file(tmp_path, capsys):
    path = tmp_path / 'nav2.yaml'
    given = ['--model', 'deeplabv3_mobilenetv2.voc21', '--drivable', 'background']
    assert main(['nav2-config', *given, '--danger', 'person', '--output', str(path)]) == 0
    return path


def launch(spawn, name, *arguments, **kwargs):
    command = ['ros2', 'launch', 'seg_perception', f'{name}.launch.py', *arguments]
    return spawn.command(command, name=name, **kwargs)


def arguments_of(written, executable):
    wait_until((written / executable).is_file, 30.0, executable)
    return (written / executable).read_text().splitlines()


def parameters_in(arguments):
    """What the parameter files of a command line say, later ones over earlier ones."""
    merged = {}
    for option, path in itertools.pairwise(arguments):
        if option == '--params-file':
            with open(path, encoding='utf-8') as file:
                # launch_ros writes tuples, with a tag that ROS 2's own parser ignores.
                for values in yaml.full_load(file).values():
                    merged |= values.get('ros__parameters', {})
    return merged


def test_nav2_costmap_gets_the_generated_file(ros, spawn, installed, nav2, costmap_file):
    running = launch(
        spawn,
        'nav2_semantic',
        f'costmap:={costmap_file}',
        'depth:=/camera/depth/image_raw',
        'image:=/camera/image_raw',
        'autostart:=false',
        'use_sim_time:=true',
        expect_exit=None,  # the stand-ins end as sleep does
    )
    costmap = arguments_of(nav2, 'nav2_costmap_2d')
    # Node and namespace are the keys of the file.
    assert {'__node:=costmap', '__ns:=/costmap'} <= set(costmap)
    assert list(yaml.safe_load(costmap_file.read_text())) == ['costmap']
    assert costmap[costmap.index('--params-file') + 1] == str(costmap_file)
    assert parameters_in(costmap)['use_sim_time'] is True
    manager = parameters_in(arguments_of(nav2, 'lifecycle_manager'))
    assert manager == {
        'node_names': ('costmap/costmap',),
        'autostart': True,
        'bond_timeout': 0.0,
        'use_sim_time': True,
    }
    wait_until(
        lambda: ('segmentation', '/') in ros.node.get_node_names_and_namespaces(),
        LOADING_S,
        'the segmentation node',
    )
    running.popen.send_signal(signal.SIGINT)
    running.wait()


@pytest.mark.parametrize('missing', STAND_INS)
def test_missing_package_is_named(missing, spawn, installed, nav2, costmap_file):
    index = nav2.parent / 'nav2/share/ament_index/resource_index/packages'
    (index / missing).unlink()
    running = launch(
        spawn, 'nav2_semantic', f'costmap:={costmap_file}', 'depth:=/depth', expect_exit=1
    )
    assert running.wait() == 1
    assert f'{missing} is not installed; it comes from ' in running.log
    assert 'process started' not in running.log


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['costmap:=/no/such.yaml', 'depth:=/depth'], 'costmap: no such file: /no/such.yaml'),
        (['costmap:={file}'], 'depth: expected the topic of the depth images'),
        (['depth:=/depth'], "missing required argument 'costmap'"),
    ],
)
def test_what_cannot_work_is_explained(arguments, message, spawn, installed, nav2, costmap_file):
    given = [argument.format(file=costmap_file) for argument in arguments]
    running = launch(spawn, 'nav2_semantic', *given, expect_exit=1)
    assert running.wait() == 1
    assert message in running.log
    assert 'process started' not in running.log


def test_nvblox_finds_mask_and_camera_info_under_its_names(ros, spawn, installed):
    from sensor_msgs.msg import CameraInfo, Image

    from seg_perception.ros import qos
    from seg_perception.ros.messages import array_to_image, make_header

    running = launch(
        spawn,
        'nvblox',
        'image:=/robot/color/image_raw',
        'mask_class:=diningtable',
        ttl_s=LOADING_S + 60.0,
    )
    masks = ros.collect('/camera_0/mask/image', Image)
    infos = ros.collect('/camera_0/mask/camera_info', CameraInfo)
    ros.wait_for_state('/segmentation', 'active', timeout_s=LOADING_S)
    camera_info = ros.publisher('/robot/color/camera_info', CameraInfo, qos.sensor_input())
    images = ros.publisher('/robot/color/image_raw', Image, qos.sensor_input())
    info = CameraInfo(width=64, height=48)
    info.k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
    info.p = [50.0, 0.0, 31.5, 0.0, 0.0, 50.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    picture = np.zeros((48, 64, 3), np.uint8)

    def pair_arrived():
        header = make_header(1_000_000_000 + len(masks), 'camera')
        info.header = header
        camera_info.publish(info)
        images.publish(array_to_image(picture, 'bgr8', header))
        return {stamp(m) for m in masks} & {stamp(i) for i in infos}

    def stamp(message):
        return message.header.stamp.sec, message.header.stamp.nanosec

    wait_until(lambda: pair_arrived(), 30.0, 'mask and camera_info of one stamp')
    mask = masks[-1]
    assert (mask.encoding, mask.width, mask.height, mask.step) == ('mono8', 64, 48, 64)
    assert set(mask.data) <= {0, 255}
    assert (infos[-1].width, infos[-1].height) == (64, 48)
    assert infos[-1].k.tolist() == info.k.tolist()
    running.popen.send_signal(signal.SIGINT)
    running.wait()
    assert 'process has finished cleanly' in running.log
