"""The RViz config against what the nodes publish; needs neither RViz nor ROS."""

from __future__ import annotations

import pytest
import yaml
from ros_harness import ROOT

RVIZ_FILES = sorted((ROOT / 'config').glob('*.rviz'))


def displays(path):
    config = yaml.safe_load(path.read_text())
    return {
        display['Topic']['Value']: display
        for display in config['Visualization Manager']['Displays']
    }


@pytest.mark.parametrize('path', RVIZ_FILES, ids=lambda path: path.name)
def test_topics_are_those_of_the_nodes(path):
    pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')
    from seg_perception.ros.outputs import output_table
    from seg_perception.structures import ClassTable

    classes = ClassTable(('background', 'person'))
    outputs = output_table(classes, ('*',), label_info_sync=False)
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


def test_shows_camera_overlay_and_labels():
    shown = displays(ROOT / 'config/segmentation.rviz')
    for topic in ('image_raw', 'segmentation/overlay', 'segmentation/labels'):
        assert shown[f'/camera/{topic}']['Enabled'] is True


def test_fixed_frame_is_the_image_sources():
    config = yaml.safe_load((ROOT / 'config/segmentation.rviz').read_text())
    fixed_frame = config['Visualization Manager']['Global Options']['Fixed Frame']
    source = (ROOT / 'seg_perception/ros/image_source.py').read_text()
    assert f"FRAME_ID = '{fixed_frame}'" in source
