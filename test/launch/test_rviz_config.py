"""The RViz configs against what the nodes really offer: topics, types, quality of service.

RViz itself is not needed; the last test asks the real node.
"""

from __future__ import annotations

import pytest
import yaml
from ros_harness import ROOT, wait_until
from small_models import write_model

RVIZ_FILES = sorted((ROOT / 'config').glob('*.rviz'))
CAMERA_IMAGES = '/camera/image_raw'
COSTMAP = {'/costmap/costmap': 'nav_msgs/msg/OccupancyGrid'}
"""What nav2_costmap_2d publishes where launch/nav2_semantic.launch.py starts it; latched."""
TYPES = {
    'Image': 'sensor_msgs/msg/Image',
    'PointCloud2': 'sensor_msgs/msg/PointCloud2',
    'MarkerArray': 'visualization_msgs/msg/MarkerArray',
    'Map': 'nav_msgs/msg/OccupancyGrid',
}
"""Message types of RViz's own displays; with a wrong one a display shows nothing."""


def load(path):
    return yaml.safe_load(path.read_text())


def displays(path):
    """The displays that show a topic, by topic."""
    shown = load(path)['Visualization Manager']['Displays']
    return {display['Topic']['Value']: display for display in shown if 'Topic' in display}


def type_of(display):
    package, kind = display['Class'].split('/')
    assert package == 'rviz_default_plugins'
    return TYPES[kind]


def outputs_of(*topics):
    return {f'/camera/segmentation/{topic}' for topic in topics}


@pytest.mark.parametrize(
    ('name', 'topics'),
    [
        # What a camera without depth has by default; masks are published on request only.
        ('segmentation', {CAMERA_IMAGES, *outputs_of('overlay', 'confidence')}),
        (
            'rgbd',
            {CAMERA_IMAGES, *outputs_of('overlay', 'points', 'markers', 'drivable_grid')},
        ),
        (
            'navigation',
            {
                *COSTMAP,
                *outputs_of('overlay', 'drivable', 'drivable_grid', 'points', 'markers'),
            },
        ),
        (
            'multi_camera',
            {f'/{camera}/segmentation/overlay' for camera in ('front', 'left', 'right')},
        ),
    ],
)
def test_shows_what_its_use_needs(name, topics):
    assert displays(ROOT / 'config' / f'{name}.rviz').keys() == topics


def test_every_config_is_known_here():
    names = {path.stem for path in RVIZ_FILES}
    assert names == {'segmentation', 'rgbd', 'navigation', 'multi_camera'}


def test_cameras_are_those_of_the_example():
    cameras = yaml.safe_load((ROOT / 'config/multi_camera.yaml').read_text())
    cameras = cameras['/**']['ros__parameters']['cameras']
    shown = displays(ROOT / 'config/multi_camera.rviz')
    assert sorted(shown) == sorted(f'/{camera}/segmentation/overlay' for camera in cameras)
    assert sorted(d['Name'].lower() for d in shown.values()) == sorted(cameras)


@pytest.mark.parametrize('path', RVIZ_FILES, ids=lambda path: path.name)
def test_quality_of_service_matches_the_publishers(path):
    """Cameras may publish best effort, which a reliable subscriber would never hear."""
    for topic, display in displays(path).items():
        settings = display['Topic']
        reliability = 'Best Effort' if topic == CAMERA_IMAGES else 'Reliable'
        assert settings['Reliability Policy'] == reliability
        # Nav2 sends its whole costmap once, and then only what changes.
        durability = 'Transient Local' if topic in COSTMAP else 'Volatile'
        assert settings['Durability Policy'] == durability
        assert settings['History Policy'] == 'Keep Last'
        assert settings['Depth'] == 1


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


def fixed_frame_of(name):
    config = load(ROOT / 'config' / f'{name}.rviz')
    return config['Visualization Manager']['Global Options']['Fixed Frame']


@pytest.mark.parametrize('name', ['segmentation', 'multi_camera', 'rgbd'])
def test_fixed_frame_is_the_nodes(name):
    from seg_perception.ros.params import Parameters

    # One that TF has: images are shown in any case, but RViz calls a missing frame an error.
    assert fixed_frame_of(name) == Parameters().base_frame


def test_fixed_frame_of_navigation_is_that_of_the_costmap():
    from seg_perception.cli.main import build_parser

    command = ['nav2-config', '--model', 'any', '--drivable', 'floor', '--output', 'nav2.yaml']
    assert fixed_frame_of('navigation') == build_parser().parse_args(command).global_frame


@pytest.mark.ros
def test_the_running_nodes_offer_all_of_it(ros, spawn, tmp_path):
    """Types and QoS of what the node publishes as the launch files start it."""
    from rclpy.qos import (
        DurabilityPolicy,
        HistoryPolicy,
        LivelinessPolicy,
        QoSCompatibility,
        QoSProfile,
        ReliabilityPolicy,
        qos_check_compatible,
    )

    model = str(write_model(tmp_path, 'floors', ('background', 'floor'), 'floor'))
    params_file = str(ROOT / 'config/multi_camera.yaml')
    spawn('node', {'model': model}, args=['--params-file', params_file])
    depth_camera = {'camera.image_topic': CAMERA_IMAGES, 'camera.depth_topic': '/camera/depth'}
    spawn(
        'node',
        {'model': model, 'drivable_classes': ['floor'], **depth_camera},
        remap={'__node': 'with_depth'},
    )
    shown = [(topic, d) for path in RVIZ_FILES for topic, d in displays(path).items()]
    shown = [(topic, d) for topic, d in shown if topic not in (CAMERA_IMAGES, *COSTMAP)]
    wait_until(
        lambda: all(ros.node.count_publishers(topic) for topic, _ in shown), 90.0, 'publishers'
    )
    for topic, display in shown:
        asked = QoSProfile(
            depth=display['Topic']['Depth'],
            history=HistoryPolicy.KEEP_LAST,
            liveliness=LivelinessPolicy.AUTOMATIC,
            reliability=ReliabilityPolicy[
                display['Topic']['Reliability Policy'].upper().replace(' ', '_')
            ],
            durability=DurabilityPolicy[
                display['Topic']['Durability Policy'].upper().replace(' ', '_')
            ],
        )
        for offer in ros.node.get_publishers_info_by_topic(topic):
            assert offer.topic_type == type_of(display), topic
            compatibility, why = qos_check_compatible(offer.qos_profile, asked)
            assert compatibility == QoSCompatibility.OK, f'{topic}: {why}'
