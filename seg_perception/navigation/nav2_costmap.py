"""The costmap that Nav2's semantic_segmentation_layer builds from this package's topics.

Parameters as declared in github.com/kiwicampus/semantic_segmentation_layer, branches jazzy
(274c713b) and rolling (a70cf6ec), April 2026; see ``docs/navigation.md``.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seg_perception.errors import ConfigurationError
from seg_perception.models import ModelCard
from seg_perception.navigation.drivable import check_names

FREE_COST = 0
LETHAL_COST = 254
"""nav2_costmap_2d's LETHAL_OBSTACLE; 255 would be NO_INFORMATION."""


@dataclass(frozen=True, slots=True)
class CostmapOptions:
    """What the costmap's file says besides the classes.

    Attributes:
        cameras: namespaces of the cameras' image topics, ``/front`` for ``/front/image_raw``.
        min_distance_m: points nearer to the camera than this are left out.
        max_distance_m: points farther away than this are left out; the costmap is twice as wide.
        decay_s: how long an observation counts.
        resolution_m: edge of a cell.
        global_frame: frame the costmap moves through.
        base_frame: the robot's frame.
        costmap: name of the costmap's node and namespace.
        layer_name: name of the layer among the costmap's plugins.

    Raises:
        ConfigurationError: a name ROS does not allow, or a number that cannot work.
    """

    cameras: tuple[str, ...] = ('/camera',)
    min_distance_m: float = 0.3
    max_distance_m: float = 5.0
    decay_s: float = 5.0
    resolution_m: float = 0.05
    global_frame: str = 'odom'
    base_frame: str = 'base_link'
    costmap: str = 'costmap'
    layer_name: str = 'semantic_segmentation_layer'

    def __post_init__(self) -> None:
        for camera in self.cameras:
            if not re.fullmatch(r'(/[A-Za-z_]\w*)+|/', camera, re.ASCII):
                raise ConfigurationError(
                    f'camera: expected the namespace of an image topic, as /front for '
                    f"/front/image_raw, got '{camera}'"
                )
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ConfigurationError(f'camera: expected each camera once, got {self.cameras}')
        for role, name in (('costmap', self.costmap), ('layer name', self.layer_name)):
            if not re.fullmatch(r'[A-Za-z_]\w*', name, re.ASCII):
                raise ConfigurationError(f"{role}: expected letters, digits and _, got '{name}'")
        for role, value, low, high in (
            ('maximum distance', self.max_distance_m, 0.1, 1000),
            ('minimum distance', self.min_distance_m, 0, self.max_distance_m),
            ('decay', self.decay_s, 0.01, 1000),
            ('resolution', self.resolution_m, 0.001, 10),
        ):
            if not low <= value <= high:
                raise ConfigurationError(f'{role}: expected {low:g} to {high:g}, got {value:g}')


def costmap_yaml(
    card: ModelCard, drivable: Sequence[str], danger: Sequence[str], options: CostmapOptions
) -> str:
    """The parameter file of a costmap whose only layer is the plugin.

    Drivable classes are free, dangers are lethal and win over whatever shares a cell with them.
    Other classes and unlabelled pixels mark nothing, and cells nobody marked stay unknown.

    Raises:
        ConfigurationError: the model has no class of a given name or too many classes, a class
            is drivable and a danger, or nothing is drivable.
    """
    classes = card.classes
    check_names(classes, drivable, danger)
    if len(classes) > 255:
        raise ConfigurationError(
            f'expected a model of at most 255 classes, as the plugin reads class ids of 8 bits, '
            f'got {card.name} with {len(classes)}'
        )
    types = {'drivable': _class_type(drivable, FREE_COST, is_dominant=False)}
    if danger:
        types['danger'] = _class_type(danger, LETHAL_COST, is_dominant=True)
    sources = {
        camera.strip('/').replace('/', '_') or 'camera': _source(card, camera, types, options)
        for camera in options.cameras
    }
    width_m = 2 * math.ceil(options.max_distance_m)
    layer = {
        'plugin': 'semantic_segmentation_layer::SemanticSegmentationLayer',
        'enabled': True,
        'combination_method': 1,
        'use_approximate_time_sync': False,
        'observation_sources': ' '.join(sources),
    }
    parameters: dict[str, Any] = {
        'global_frame': options.global_frame,
        'robot_base_frame': options.base_frame,
        'rolling_window': True,
        'track_unknown_space': True,
        'width': width_m,
        'height': width_m,
        'resolution': float(options.resolution_m),
        'update_frequency': 5.0,
        'publish_frequency': 2.0,
        'plugins': [options.layer_name],
    }
    if len(sources) < len(options.cameras) or sources.keys() & layer.keys():
        raise ConfigurationError(
            f"camera: expected names that differ from each other and from the layer's own "
            f'parameters, got {", ".join(sources)}'
        )
    if options.layer_name in parameters:
        raise ConfigurationError(
            f"layer name: expected another than the costmap's own parameters, got "
            f"'{options.layer_name}'"
        )
    parameters[options.layer_name] = layer | sources
    tree = {options.costmap: {options.costmap: {'ros__parameters': parameters}}}
    left_out = [name for name in classes.names if name not in (*drivable, *danger)]
    listed = ', '.join(left_out) or 'none'
    comments = (
        f'Nav2 costmap with semantic_segmentation_layer, for the classes of {card.name}.',
        f'Neither drivable nor a danger, so that they mark nothing: {listed}.',
        'The plugin logs an error for each of them and goes on.',
        'Unlabelled pixels mark nothing either.',
    )
    head = [f'# {line}' for comment in comments for line in textwrap.wrap(comment, 96)]
    return '\n'.join([*head, *_yaml_lines(tree), ''])


def _class_type(names: Sequence[str], cost: int, *, is_dominant: bool) -> dict[str, Any]:
    return {
        'classes': list(dict.fromkeys(names)),
        'base_cost': cost,
        'max_cost': cost,
        'mark_confidence': 0,
        'samples_to_max_cost': 0,
        'dominant_priority': is_dominant,
    }


def _source(
    card: ModelCard, camera: str, types: Mapping[str, Any], options: CostmapOptions
) -> dict[str, Any]:
    namespace = f'{camera.rstrip("/")}/segmentation'
    topics = {'segmentation_topic': f'{namespace}/labels'}
    if card.output.kind != 'labels':  # Else the plugin would wait for it for ever.
        topics['confidence_topic'] = f'{namespace}/confidence'
    return {
        **topics,
        'labels_topic': f'{namespace}/label_info',
        'pointcloud_topic': f'{namespace}/points',
        'min_obstacle_distance': float(options.min_distance_m),
        'max_obstacle_distance': float(options.max_distance_m),
        'tile_map_decay_time': float(options.decay_s),
        'use_cost_selection': True,
        'class_types': list(types),
        **types,
    }


def _yaml_lines(tree: Mapping[str, Any], indent: str = '') -> Iterator[str]:
    """Block mappings of JSON values: texts are quoted, so that no class name is read as a number.

    ROS 2's own parser takes more texts for booleans and numbers than YAML libraries do.
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f'{indent}{key}:'
            yield from _yaml_lines(value, f'{indent}  ')
        else:
            yield f'{indent}{key}: {json.dumps(value, ensure_ascii=False)}'
