"""``seg-perception nav2-config``: what it is given and how it ends."""

from __future__ import annotations

import pytest
import yaml

from seg_perception.cli.main import build_parser, main
from seg_perception.navigation import CostmapOptions

ADE = 'deeplabv3plus_mobilenetv2.ade20k31'
REQUIRED = ['nav2-config', '--model', ADE, '--drivable', 'floor, road']


def layer_of(text, costmap='costmap', name='semantic_segmentation_layer'):
    return yaml.safe_load(text)[costmap][costmap]['ros__parameters'][name]


def test_prints_the_file(capsys):
    assert main([*REQUIRED, '--danger', 'person,car']) == 0
    output = capsys.readouterr()
    assert output.err == ''
    camera = layer_of(output.out)['camera']
    assert camera['drivable']['classes'] == ['floor', 'road']
    assert camera['danger']['classes'] == ['person', 'car']


def test_every_option_reaches_the_file(tmp_path, capsys):
    path = tmp_path / 'nav2.yaml'
    given = ['--camera', '/front', '--camera', '/rear', '--min-distance', '0.5']
    given += ['--max-distance', '8', '--decay', '2', '--resolution', '0.1']
    given += ['--global-frame', 'map', '--base-frame', 'base_footprint']
    given += ['--costmap', 'local_costmap', '--layer-name', 'ground', '--output', str(path)]
    assert main([*REQUIRED, *given]) == 0
    assert capsys.readouterr().out == ''
    text = path.read_text(encoding='utf-8')
    parameters = yaml.safe_load(text)['local_costmap']['local_costmap']['ros__parameters']
    layer = parameters.pop('ground')
    assert layer['observation_sources'] == 'front rear'
    for source in ('front', 'rear'):
        group = layer[source]
        assert (group['min_obstacle_distance'], group['max_obstacle_distance']) == (0.5, 8.0)
        assert group['tile_map_decay_time'] == 2.0
        assert group['segmentation_topic'] == f'/{source}/segmentation/labels'
    assert parameters['global_frame'] == 'map'
    assert parameters['robot_base_frame'] == 'base_footprint'
    assert (parameters['resolution'], parameters['width']) == (0.1, 16)


def test_defaults_are_those_of_the_options(capsys):
    arguments = build_parser().parse_args(REQUIRED)
    defaults = CostmapOptions()
    assert defaults == CostmapOptions(
        cameras=('/camera',),
        min_distance_m=arguments.min_distance,
        max_distance_m=arguments.max_distance,
        decay_s=arguments.decay,
        resolution_m=arguments.resolution,
        global_frame=arguments.global_frame,
        base_frame=arguments.base_frame,
        costmap=arguments.costmap,
        layer_name=arguments.layer_name,
    )
    assert main(REQUIRED) == 0
    assert layer_of(capsys.readouterr().out)['observation_sources'] == 'camera'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--danger', 'persn'], "danger: no class 'persn', did you mean 'person'?"),
        (['--danger', 'road'], 'got as both: road'),
        (['--drivable', ','], 'drivable: expected at least one class name'),
        (['--model', 'no_such_model'], "model: no 'no_such_model' in the catalog"),
        (['--camera', 'front'], 'camera: expected the namespace of an image topic'),
        (['--max-distance', '-1'], 'maximum distance: expected 0.1 to 1000, got -1'),
        (['--output', '/no/such/folder/nav2.yaml'], 'output: cannot write'),
    ],
)
def test_what_cannot_work_ends_with_1_and_a_line(arguments, message, capsys):
    assert main([*REQUIRED, *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ''
    assert output.err.startswith('error: ')
    assert output.err.count('\n') == 1
    assert message in output.err


def test_help_shows_an_example_and_the_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['nav2-config', '--help'])
    assert ended.value.code == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert '--drivable floor,road --danger person,car' in text.replace('\\ ', '')
    assert 'METRES edge of a cell (default: 0.05)' in text
    assert 'None' not in text
