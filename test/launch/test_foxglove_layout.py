"""The Foxglove layout against what the node really publishes; Foxglove itself is not needed."""

from __future__ import annotations

import json
import re

import pytest
from ros_harness import ROOT, wait_until
from small_models import write_model

PANEL_TYPES = {
    'Image': {'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'},
    '3D': {
        'sensor_msgs/msg/PointCloud2',
        'visualization_msgs/msg/MarkerArray',
        'nav_msgs/msg/OccupancyGrid',
    },
    'DiagnosticStatusPanel': {'diagnostic_msgs/msg/DiagnosticArray'},
}
"""Message types that Foxglove's panels can show (docs.foxglove.dev/docs/visualization/panels)."""

CURVE = re.compile(
    r'/diagnostics\.status\[:\]\{name=="([^"]+)"\}\.values\[:\]\{key=="(\w+)"\}\.value'
)


@pytest.fixture(scope='module')
def layout():
    return json.loads((ROOT / 'config/foxglove.json').read_text(encoding='utf-8'))


def leaves(node):
    """The panels of a layout's tree."""
    if isinstance(node, str):
        return [node]
    assert node['direction'] in ('row', 'column')
    assert 0 < node['splitPercentage'] < 100
    return [*leaves(node['first']), *leaves(node['second'])]


def topics_of(panel, config):
    kind = panel.partition('!')[0]
    if kind == 'Image':
        return [config['imageMode']['imageTopic']]
    if kind == '3D':
        return list(config['topics'])
    if kind == 'DiagnosticStatusPanel':
        return [config['topicToRender']]
    return []


def paths_of(panel, config):
    """Message paths as topic, and the rest."""
    kind = panel.partition('!')[0]
    if kind == 'RawMessages':
        return [config['topicPath']]
    return [path['value'] for path in config.get('paths', ())]


def test_every_panel_is_placed_once(layout):
    # What "Import from file…" reads; unknown keys would be dropped, missing ones refused.
    assert {'configById', 'globalVariables', 'userNodes', 'layout'} <= layout.keys()
    panels = leaves(layout['layout'])
    assert len(set(panels)) == len(panels)
    assert set(panels) == layout['configById'].keys()
    assert {panel.partition('!')[0] for panel in panels} == {*PANEL_TYPES, 'Plot', 'RawMessages'}


@pytest.mark.ros
def test_the_running_node_offers_all_of_it(layout, ros, spawn, tmp_path):
    from diagnostic_msgs.msg import DiagnosticArray

    model = str(write_model(tmp_path, 'floors', ('background', 'floor'), 'floor'))
    spawn(
        'node',
        {
            'model': model,
            'drivable_classes': ['floor'],
            'camera.image_topic': '/camera/image_raw',
            'camera.depth_topic': '/camera/depth',
        },
    )
    configs = layout['configById']
    topics = {t for panel, config in configs.items() for t in topics_of(panel, config)}
    topics |= {
        config['imageMode'].get('calibrationTopic')
        for config in configs.values()
        if config.get('imageMode')
    } - {None}
    paths = [path for panel, config in configs.items() for path in paths_of(panel, config)]
    topics |= {re.match(r'[\w/]+', path)[0] for path in paths}
    wait_until(lambda: all(map(ros.node.count_publishers, topics)), 90.0, 'publishers')
    types = {
        topic: {info.topic_type for info in ros.node.get_publishers_info_by_topic(topic)}
        for topic in topics
    }
    for panel, config in configs.items():
        for topic in topics_of(panel, config):
            assert types[topic] <= PANEL_TYPES[panel.partition('!')[0]], (panel, topic)
    assert types['/camera/segmentation/camera_info'] == {'sensor_msgs/msg/CameraInfo'}
    assert types['/camera/segmentation/objects'] == {'vision_msgs/msg/Detection2DArray'}

    # The curves' paths lead to one number each, written as text, which Foxglove plots.
    said = ros.collect('/diagnostics', DiagnosticArray)
    statuses = {
        status.name: status for message in said.wait_for(2, 30.0) for status in message.status
    }
    for path in paths:
        if not path.startswith('/diagnostics'):
            continue
        name, key = re.fullmatch(
            r'/diagnostics\.status\[:\]\{name=="([^"]+)"\}\.values\[:\]\{key=="(\w+)"\}\.value',
            path,
        ).groups()
        [value] = [pair.value for pair in statuses[name].values if pair.key == key]
        float(value)  # may be nan, as nobody listens and nothing is published
    panel = configs['DiagnosticStatusPanel!camera']
    assert statuses[panel['selectedName']].hardware_id == panel['selectedHardwareId']
