"""The pages about the nodes name the topics and services that the running nodes have."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros_harness import wait_until
from vision_msgs.msg import Detection3DArray

pytestmark = pytest.mark.distro

DOCS = Path(__file__).parents[2] / 'docs'
OUTPUTS = '/camera/segmentation/'
# What every node has in ROS 2, and every managed one.
OF_EVERY_NODE = {'/parameter_events', '/rosout'}
OF_A_MANAGED_NODE = OF_EVERY_NODE | {'/segmentation/transition_event'}


def page(node):
    return (DOCS / f'{node}.md').read_text(encoding='utf-8')


def section(text, title):
    """What stands below a heading, up to the next of its rank."""
    return re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', text, re.MULTILINE | re.DOTALL)[1]


def rows(text, title):
    """The cells of the tables of a section, without headings."""
    lines = [line for line in section(text, title).splitlines() if line.startswith('|')]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    rules = {i for i, row in enumerate(cells) if set(row[0]) <= {'-'}}
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def type_of(cell):
    """sensor_msgs/msg/Image for 'sensor_msgs/Image mono8 (…)'."""
    return re.sub(r'^(\w+)/(\w+).*', r'\1/msg/\2', cell)


def documented_outputs():
    """Types by topic, of what the page says is published with outputs of the class person."""
    return {
        OUTPUTS + row[0].strip('`').replace('<class>', 'person'): type_of(row[1])
        for row in rows(page('segmentation_node'), 'Published topics')
        if '_msgs/' in row[1]
    }


def discovered(of_node, names):
    """What ``of_node()`` gives, once it has all the names; they are discovered one by one."""
    wait_until(lambda: of_node().keys() >= set(names), 30.0, f'{sorted(names)}')
    return of_node()


def without(names, types):
    return {name: of for name, of in types.items() if name not in names}


def has_qos(ros, topic, reliability, durability=DurabilityPolicy.VOLATILE):
    """Whether all publishers and subscribers of other nodes use this on a topic."""
    infos = [
        *ros.node.get_publishers_info_by_topic(topic),
        *ros.node.get_subscriptions_info_by_topic(topic),
    ]
    return bool(infos) and all(
        (info.qos_profile.reliability, info.qos_profile.durability) == (reliability, durability)
        for info in infos
    )


def test_the_segmentation_node_is_as_documented(ros, spawn):
    spawn(
        'node',
        {
            'lazy': False,
            'camera.depth_topic': '/camera/depth/image_raw',
            'mask_classes': ['person'],
            'point_classes': ['person'],
            'drivable_classes': ['person'],
            'grasp_target': 'person',
            'label_info_sync': True,
        },
    )
    ros.wait_for_state('segmentation', 'active', 90.0)
    # Depth is received only while an output made from it is listened to.
    ros.collect(f'{OUTPUTS}objects_3d', Detection3DArray)

    outputs = documented_outputs()
    published = discovered(
        lambda: ros.publishers_of('segmentation'), {'/diagnostics', *OF_A_MANAGED_NODE, *outputs}
    )
    assert without({'/diagnostics', *OF_A_MANAGED_NODE}, published) == outputs

    reliable, latched = ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL
    for topic in set(published) - OF_A_MANAGED_NODE:
        is_latched = topic == f'{OUTPUTS}label_info'
        durability = latched if is_latched else DurabilityPolicy.VOLATILE
        assert has_qos(ros, topic, reliable, durability), topic

    here = {
        '`<camera>.image_topic`': '/camera/image_raw',
        '`<camera>.camera_info_topic`': '/camera/camera_info',
        '`<camera>.depth_topic`': '/camera/depth/image_raw',
        '`<camera>.depth_camera_info_topic`': '/camera/depth/camera_info',
    }
    documented = {
        here[row[0]]: type_of(row[1])
        for row in rows(page('segmentation_node'), 'Subscribed topics')
        if row[0] in here
    }
    of_tf = {'/tf', '/tf_static'}  # where tf2_ros is installed
    subscribed = discovered(lambda: ros.subscriptions_of('segmentation'), documented)
    assert without(OF_EVERY_NODE | of_tf, subscribed) == documented
    for topic in documented:
        assert has_qos(ros, topic, ReliabilityPolicy.BEST_EFFORT), topic

    expected = {
        name.strip('`').replace('~', '/segmentation'): service_type.replace('/', '/srv/')
        for name, service_type, _ in rows(page('segmentation_node'), 'Services')[:2]
    }
    services = discovered(lambda: ros.services_of('segmentation'), expected)
    assert expected.items() <= services.items()


def test_the_image_source_is_as_documented(ros, spawn, tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), np.zeros((8, 12), np.uint8))
    spawn('image_source', {'source': str(tmp_path / 'grey.png'), 'transport': 'both'})
    here = {
        '`<topic>`': '/camera/image_raw',
        '`<topic>`/compressed': '/camera/image_raw/compressed',
        'camera_info beside `<topic>`': '/camera/camera_info',
    }
    documented = {
        here[row[0]]: type_of(row[1])
        for row in rows(page('image_source_node'), 'Published topics')
    }
    published = discovered(lambda: ros.publishers_of('image_source'), documented)
    assert without(OF_EVERY_NODE, published) == documented
    assert ros.subscriptions_of('image_source').keys() <= OF_EVERY_NODE
    assert 'None.' in section(page('image_source_node'), 'Subscribed topics')


def test_the_monitor_is_as_documented(ros, spawn, tmp_path):
    spawn('monitor', {'overlay_path': str(tmp_path / 'o.png'), 'wait_s': 0.0}, expect_exit=None)
    here = {'`<image_topic>`': '/camera/image_raw', '`/diagnostics`': '/diagnostics'}
    documented = {
        here.get(row[0]) or f'/camera/{row[0].removesuffix(" beside it")}': type_of(row[1])
        for row in rows(page('monitor_node'), 'Subscribed topics')
    }
    subscribed = discovered(lambda: ros.subscriptions_of('monitor'), documented)
    assert without(OF_EVERY_NODE, subscribed) == documented
    published = discovered(lambda: ros.publishers_of('monitor'), OF_EVERY_NODE)
    assert published.keys() == OF_EVERY_NODE
    assert 'None.' in section(page('monitor_node'), 'Published topics')
