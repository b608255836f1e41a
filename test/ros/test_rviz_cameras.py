"""RViz's files, turned to the cameras that a node is told of."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from seg_perception.ros.rviz_cameras import cameras_config, image_topics, remappings

CONFIG = Path(__file__).resolve().parents[2] / 'config'


@pytest.mark.parametrize(
    ('file', 'overrides', 'namespace', 'topics'),
    [
        ('', {}, '', {'camera': '/camera/image_raw'}),
        ('', {'camera.image_topic': 'color/image'}, 'robot', {'camera': '/robot/color/image'}),
        ('', {'cameras': ['top']}, '/robot', {'top': '/robot/top/image_raw'}),
        (
            '/**: {ros__parameters: {cameras: [a, b], a: {image_topic: /x/image}}}',
            {},
            '',
            {'a': '/x/image', 'b': '/b/image_raw'},
        ),
        (
            'robot: {segmentation: {ros__parameters: {cameras: [a], a.image_topic: /x/image}}}',
            {'a.image_topic': '/y/image'},
            '',
            {'a': '/y/image'},
        ),
    ],
)
def test_cameras_are_those_of_the_node(file, overrides, namespace, topics):
    assert image_topics(yaml.safe_load(file) or {}, overrides, namespace) == topics


@pytest.mark.parametrize('name', ['segmentation', 'rgbd', 'navigation'])
def test_every_camera_topic_of_a_file_is_renamed(name):
    path = CONFIG / f'{name}.rviz'
    assert remappings(path, '/camera/image_raw') == []
    renamed = dict(remappings(path, '/robot/color/image_rect'))
    displays = yaml.safe_load(path.read_text())['Visualization Manager']['Displays']
    shown = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    assert set(renamed) == {topic for topic in shown if topic.startswith('/camera/')}
    assert renamed['/camera/segmentation/overlay'] == '/robot/color/segmentation/overlay'
    assert renamed.get('/camera/image_raw') in (None, '/robot/color/image_rect')
    assert dict(remappings(path, '/image'))['/camera/segmentation/overlay'] == (
        '/segmentation/overlay'
    )


def test_several_cameras_have_a_panel_each():
    path = CONFIG / 'multi_camera.rviz'
    shipped = yaml.safe_load(path.read_text())
    same = yaml.safe_load(
        cameras_config(path, {c: f'/{c}/image_raw' for c in ('left', 'front', 'right')})
    )
    assert same == shipped  # with the places of its panels
    other = yaml.safe_load(cameras_config(path, {'bow': '/bow/image', 'aft_2': '/ns/aft/image'}))
    displays = other['Visualization Manager']['Displays']
    images = {d['Name']: d['Topic']['Value'] for d in displays if d['Class'].endswith('/Image')}
    assert images == {
        'Bow': '/bow/segmentation/overlay',
        'Aft_2': '/ns/aft/segmentation/overlay',
    }
    geometry = other['Window Geometry']
    assert not geometry.keys() & {'Left', 'Front', 'Right'}
    assert {geometry[name]['collapsed'] for name in images} == {False}


@pytest.mark.parametrize(
    ('num_cameras', 'num_a_row'), [(1, [1]), (4, [4]), (5, [3, 2]), (9, [3, 3, 3])]
)
def test_panels_are_laid_out_in_rows(num_cameras, num_a_row):
    names = [f'cam{i}' for i in range(num_cameras)]
    tree = yaml.safe_load(
        cameras_config(CONFIG / 'multi_camera.rviz', {n: f'/{n}/image_raw' for n in names})
    )
    state = bytes.fromhex(tree['Window Geometry']['QMainWindow State'])
    places = [state.index(name.capitalize().encode('utf-16-be')) for name in names]
    assert places == sorted(places)
    rows = [state[i + 2 : i + 6] for i in range(len(state)) if state[i : i + 2] == b'\xfc\x01']
    assert [int.from_bytes(row, 'big') for row in rows] == num_a_row
