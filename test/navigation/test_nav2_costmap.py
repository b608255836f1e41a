"""The generated costmap file against what Nav2's semantic_segmentation_layer declares."""

from __future__ import annotations

import dataclasses

import pytest
import ros_harness  # noqa: F401  (sets the environment of ROS 2 first)
import yaml

from seg_perception.errors import ConfigurationError
from seg_perception.messages.described import write_label_info
from seg_perception.models import resolve
from seg_perception.navigation import CostmapOptions, costmap_yaml
from seg_perception.structures import ClassTable

ADE = 'deeplabv3plus_mobilenetv2.ade20k31'
LABELS_ONLY = 'deeplab_mobilenet_edgetpu.cityscapes19_uint8'

# Parameters as the plugin declares them (onInitialize in semantic_segmentation_layer.cpp, commit
# 274c713b of branch jazzy) and Costmap2DROS (nav2_costmap_2d, branch jazzy): name to type. A value
# of another type ends the costmap with an exception.
LAYER = {
    'enabled': bool,
    'combination_method': int,
    'observation_sources': str,
    'publish_debug_topics': bool,
    'use_approximate_time_sync': bool,
    'plugin': str,
}
SOURCE = {
    'segmentation_topic': str,
    'confidence_topic': str,
    'labels_topic': str,
    'pointcloud_topic': str,
    'observation_persistence': float,
    'expected_update_rate': float,
    'class_types': list,
    'max_obstacle_distance': float,
    'min_obstacle_distance': float,
    'tile_map_decay_time': float,
    'visualize_tile_map': bool,
    'use_cost_selection': bool,
}
CLASS_TYPE = {
    'classes': list,
    'base_cost': int,
    'max_cost': int,
    'mark_confidence': int,
    'samples_to_max_cost': int,
    'dominant_priority': bool,
}
COSTMAP = {
    'global_frame': str,
    'robot_base_frame': str,
    'rolling_window': bool,
    'track_unknown_space': bool,
    'width': int,
    'height': int,
    'resolution': float,
    'update_frequency': float,
    'publish_frequency': float,
    'plugins': list,
}


def check_types(values, declared):
    assert values.keys() <= declared.keys()
    for name, value in values.items():
        assert type(value) is declared[name], name
        if declared[name] is list:
            assert value, f'{name}: ROS 2 has no type for an empty list'
            assert all(type(item) is str for item in value), name


def check_against_plugin(text, class_names):
    """Reads the file as costmap and plugin do; returns the classes' costs by source and name."""
    [(costmap, node)] = yaml.safe_load(text).items()
    parameters = node[costmap]['ros__parameters']
    [layer_name] = parameters['plugins']
    layer = parameters.pop(layer_name)
    check_types(parameters, COSTMAP)
    assert parameters.keys() == COSTMAP.keys()
    # Without it, cells that nobody marked would be free.
    assert parameters['track_unknown_space'] is True
    assert layer['plugin'] == 'semantic_segmentation_layer::SemanticSegmentationLayer'
    sources = layer['observation_sources'].split()
    check_types({k: v for k, v in layer.items() if k not in sources}, LAYER)
    assert sources
    costs = {}
    for source in sources:
        group = layer[source]
        types = group['class_types']
        check_types({k: v for k, v in group.items() if k not in types}, SOURCE)
        assert group.keys() >= {'segmentation_topic', 'labels_topic', 'pointcloud_topic', *types}
        assert 0 <= group['min_obstacle_distance'] < group['max_obstacle_distance']
        assert parameters['width'] >= 2 * group['max_obstacle_distance']
        for name in types:
            class_type = group[name]
            check_types(class_type, CLASS_TYPE)
            assert class_type.keys() == CLASS_TYPE.keys()
            for cost in ('base_cost', 'max_cost', 'mark_confidence'):
                assert 0 <= class_type[cost] <= 255  # kept in 8 bits
            for class_name in class_type['classes']:
                assert class_name in class_names
                # The plugin keeps the first of two.
                assert (source, class_name) not in costs
                costs[source, class_name] = class_type['base_cost'], class_type['max_cost']
    return costs


def published_names(classes):
    """The class names as the node's LabelInfo has them."""
    pytest.importorskip('vision_msgs', reason='vision_msgs is not installed')
    from rclpy.serialization import deserialize_message
    from vision_msgs.msg import LabelInfo

    label_info = deserialize_message(write_label_info(classes, 0.0, 0, '').tobytes(), LabelInfo)
    return [entry.class_name for entry in label_info.class_map]


def test_file_is_what_the_plugin_declares():
    card = resolve(ADE)
    text = costmap_yaml(card, ['floor', 'road'], ['person'], CostmapOptions())
    costs = check_against_plugin(text, published_names(card.classes))
    # nav2_costmap_2d: 0 is FREE_SPACE, 254 LETHAL_OBSTACLE.
    assert costs == {
        ('camera', 'floor'): (0, 0),
        ('camera', 'road'): (0, 0),
        ('camera', 'person'): (254, 254),
    }
    layer = yaml.safe_load(text)['costmap']['costmap']['ros__parameters'][
        'semantic_segmentation_layer'
    ]
    assert layer['camera']['danger']['dominant_priority'] is True
    assert layer['use_approximate_time_sync'] is False  # the stamps are equal


def test_topics_are_those_of_the_node():
    pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')
    from seg_perception.ros.outputs import output_table
    from seg_perception.ros.params import CameraParameters, Parameters

    card = resolve(ADE)
    options = CostmapOptions(cameras=('/front', '/robot/rear', '/'))
    text = costmap_yaml(card, ['floor'], [], options)
    layer = yaml.safe_load(text)['costmap']['costmap']['ros__parameters'][options.layer_name]
    assert layer['observation_sources'] == 'front robot_rear camera'
    offered = {
        o.topic
        for o in output_table(
            card.classes, Parameters(), CameraParameters(depth_topic='depth'), has_confidence=True
        )
    }
    for source, namespace in (('front', '/front'), ('robot_rear', '/robot/rear'), ('camera', '')):
        topics = {k: v for k, v in layer[source].items() if k.endswith('_topic')}
        assert topics == {
            'segmentation_topic': f'{namespace}/segmentation/labels',
            'confidence_topic': f'{namespace}/segmentation/confidence',
            'labels_topic': f'{namespace}/segmentation/label_info',
            'pointcloud_topic': f'{namespace}/segmentation/points',
        }
    assert {'labels', 'confidence', 'points'} <= offered


def test_model_without_confidence_has_no_topic_to_wait_for():
    card = resolve(LABELS_ONLY)
    text = costmap_yaml(card, ['road'], ['traffic light'], CostmapOptions())
    check_against_plugin(text, card.classes.names)
    assert 'confidence_topic' not in text
    assert 'segmentation_topic' in text


def test_without_dangers():
    card = resolve(ADE)
    costs = check_against_plugin(
        costmap_yaml(card, ['floor'], [], CostmapOptions()), card.classes.names
    )
    assert costs == {('camera', 'floor'): (0, 0)}


def test_comment_names_every_class_that_is_neither():
    card = resolve(ADE)
    text = costmap_yaml(card, ['floor'], ['person'], CostmapOptions())
    comments = ' '.join(line.lstrip('# ') for line in text.splitlines() if line.startswith('#'))
    left_out = comments.split('mark nothing: ')[1].split('.')[0].split(', ')
    assert left_out == [name for name in card.classes.names if name not in ('floor', 'person')]
    every = costmap_yaml(card, card.classes.names[:4], card.classes.names[4:], CostmapOptions())
    assert 'mark nothing: none.' in every
    assert max(map(len, text.splitlines())) < 100


@pytest.mark.ros
def test_parser_of_ros_reads_the_same(tmp_path):
    """Class names that YAML readers take for other things, through ROS 2's own parser."""
    rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed (it comes with ROS 2)')
    names = ('yes', 'n', '1', '1e3', '0x10', '.inf', 'nan', '~', 'null', 'dining table', 'a: b')
    names += ('# no', "it's", 'say "hi"', 'Straße', 'back\\slash', '{x}', '[]')
    card = dataclasses.replace(resolve(ADE), classes=ClassTable(names))
    options = CostmapOptions(
        cameras=('/front', '/rear'),
        max_distance_m=7,
        global_frame='no',
        base_frame='1e3',
        layer_name='ground',
    )
    text = costmap_yaml(card, names[::2], names[1::2], options)
    check_against_plugin(text, names)
    path = tmp_path / 'nav2.yaml'
    path.write_text(text, encoding='utf-8')
    context = rclpy.Context()
    rclpy.init(args=['--ros-args', '--params-file', str(path)], context=context)
    try:
        node = rclpy.create_node(
            'costmap',
            namespace='costmap',
            context=context,
            enable_rosout=False,
            start_parameter_services=False,
            automatically_declare_parameters_from_overrides=True,
        )
        values = {
            name: parameter.value for name, parameter in node.get_parameters_by_prefix('').items()
        }
        node.destroy_node()
    finally:
        context.shutdown()

    def flat(tree, prefix=''):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f'{prefix}{key}.')
            else:
                yield f'{prefix}{key}', value

    for name, value in flat(yaml.safe_load(text)['costmap']['costmap']['ros__parameters']):
        got = values[name]
        assert type(got) is type(value), name
        assert got == value, name
    assert values['ground.front.drivable.classes'] == list(names[::2])
    assert values['width'] == 14


MANY = ClassTable(tuple(f'class {i}' for i in range(256)))


@pytest.mark.parametrize(
    ('classes', 'options', 'message'),
    [
        (MANY, {}, 'at most 255 classes'),
        (None, {'cameras': ('/a/b', '/a_b')}, 'names that differ.*got a_b'),
        (None, {'cameras': ('/enabled',)}, 'names that differ.*got enabled'),
        (None, {'layer_name': 'width'}, "got 'width'"),
    ],
)
def test_what_the_plugin_cannot_take_is_refused(classes, options, message):
    card = resolve(ADE)
    if classes is not None:
        card = dataclasses.replace(card, classes=classes)
    with pytest.raises(ConfigurationError, match=message):
        costmap_yaml(card, card.classes.names[:1], [], CostmapOptions(**options))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'cameras': ()}, 'expected each camera once'),
        ({'cameras': ('/a', '/a')}, 'expected each camera once'),
        ({'cameras': ('front',)}, "as /front for /front/image_raw, got 'front'"),
        ({'cameras': ('/front/',)}, 'expected the namespace of an image topic'),
        ({'costmap': 'a/b'}, "costmap: expected letters, digits and _, got 'a/b'"),
        ({'layer_name': ''}, 'layer name: expected letters'),
        ({'max_distance_m': float('nan')}, 'maximum distance: expected 0.1 to 1000, got nan'),
        ({'max_distance_m': 0}, 'maximum distance: expected 0.1'),
        ({'min_distance_m': 6}, 'minimum distance: expected 0 to 5, got 6'),
        ({'decay_s': -1}, 'decay: expected'),
        ({'resolution_m': 0}, 'resolution: expected'),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        CostmapOptions(**options)
