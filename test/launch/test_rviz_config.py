"""The RViz config against what the nodes publish; needs neither RViz nor ROS."""

from __future__ import annotations

import pytest
import yaml
from ros_harness import ROOT

RVIZ_FILES = sorted((ROOT / 'config').glob('*.rviz'))


def load(path):
    return yaml.safe_load(path.read_text())


def displays(path):
    """The displays that show a topic, by topic."""
    shown = load(path)['Visualization Manager']['Displays']
    return {display['Topic']['Value']: display for display in shown if 'Topic' in display}


@pytest.mark.parametrize('path', RVIZ_FILES, ids=lambda path: path.name)
def test_topics_are_those_of_the_nodes(path):
    pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')
    from seg_perception.ros.outputs import output_table
    from seg_perception.ros.params import CameraParameters, Parameters
    from seg_perception.structures import ClassTable

    classes = ClassTable(('background', 'person'))
    # Masks are published on request only: by default their panels would stay empty.
    parameters = Parameters(drivable_classes=('person',))
    camera = CameraParameters(depth_topic='depth')
    outputs = output_table(classes, parameters, camera, has_confidence=True)
    topics = {f'/camera/segmentation/{output.topic}' for output in outputs}
    assert displays(path).keys() <= topics | {'/camera/image_raw'}


@pytest.mark.parametrize('path', RVIZ_FILES, ids=lambda path: path.name)
def test_quality_of_service_matches_the_publishers(path):
    """Cameras may publish best effort, which a reliable subscriber would never hear."""
    for topic, display in displays(path).items():
        is_input = topic == '/camera/image_raw'
        settings = display['Topic']
        assert settings['Reliability Policy'] == ('Best Effort' if is_input else 'Reliable')
        assert settings['Durability Policy'] == 'Volatile'
        assert settings['History Policy'] == 'Keep Last'
        assert settings['Depth'] == 1


def test_shows_what_the_node_publishes_by_default():
    shown = displays(ROOT / 'config/segmentation.rviz')
    names = ('overlay', 'confidence', 'labels')
    assert shown.keys() == {'/camera/image_raw', *(f'/camera/segmentation/{n}' for n in names)}


def test_displays_are_of_the_kind_of_their_topics():
    """The message type of each of RViz's own displays; a wrong one shows nothing."""
    pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')
    from seg_perception.ros.outputs import output_table
    from seg_perception.ros.params import CameraParameters, Parameters
    from seg_perception.structures import ClassTable

    kinds = {'PointCloud2': 'PointCloud2', 'MarkerArray': 'MarkerArray', 'Map': 'OccupancyGrid'}
    outputs = output_table(
        ClassTable(('background', 'floor')),
        Parameters(drivable_classes=('floor',)),
        CameraParameters(depth_topic='depth'),
        has_confidence=True,
    )
    types = {f'/camera/segmentation/{o.topic}': o.message_type.__name__ for o in outputs}
    shown = displays(ROOT / 'config/rgbd.rviz')
    for topic in shown.keys() - {'/camera/image_raw'}:
        package, kind = shown[topic]['Class'].split('/')
        assert package == 'rviz_default_plugins'
        assert kinds.get(kind, kind) == types[topic], topic
    assert {'Image', *kinds} == {display['Class'].split('/')[1] for display in shown.values()}


@pytest.mark.parametrize('path', RVIZ_FILES, ids=lambda path: path.name)
def test_layout_names_every_panel(path):
    """RViz restores a panel's place by its name, as QMainWindow.saveState() wrote it (UTF-16)."""
    config = load(path)
    state = bytes.fromhex(config['Window Geometry']['QMainWindow State'])
    panels = [panel['Name'] for panel in config['Panels']]
    # Images have a panel each, the other displays share the view of space.
    shown = [d for d in displays(path).values() if d['Class'] == 'rviz_default_plugins/Image']
    for name in (*panels, *(display['Name'] for display in shown)):
        assert name.encode('utf-16-be') in state, name
        assert config['Window Geometry'][name] == {'collapsed': False}
    assert all(display['Enabled'] for display in displays(path).values())
    # Left out, RViz 14.1 takes what happens to be in memory.
    for side in ('Left', 'Right'):
        assert config['Window Geometry'][f'Hide {side} Dock'] is False


def test_fixed_frame_is_the_image_sources():
    config = load(ROOT / 'config/segmentation.rviz')
    fixed_frame = config['Visualization Manager']['Global Options']['Fixed Frame']
    source = (ROOT / 'seg_perception/ros/image_source.py').read_text()
    assert f"FRAME_ID = '{fixed_frame}'" in source


def test_fixed_frame_with_depth_is_the_nodes():
    from seg_perception.ros.params import Parameters

    config = load(ROOT / 'config/rgbd.rviz')
    fixed_frame = config['Visualization Manager']['Global Options']['Fixed Frame']
    assert fixed_frame == Parameters().base_frame
