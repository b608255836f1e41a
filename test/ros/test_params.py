"""The node's one table of parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from seg_perception.errors import ConfigurationError
from seg_perception.ros import params, params_text, params_values
from seg_perception.ros.model_swap import with_swapped
from seg_perception.ros.options import rows

pytestmark = pytest.mark.distro

ROOT = Path(__file__).resolve().parents[2]
NOW = params.Parameters(camera={'camera': params.CameraParameters()})


def test_the_shipped_file_says_what_the_table_says():
    shipped = (ROOT / 'config' / 'segmentation.yaml').read_text()
    assert shipped == params_text.to_yaml(), 'seg-perception params > config/segmentation.yaml'


def test_the_shipped_file_holds_the_defaults():
    values = yaml.safe_load(params_text.to_yaml())['/**']['ros__parameters']
    group = values.pop('camera')
    as_lists = {
        name: list(default) if isinstance(default, tuple) else default
        for name, default, _ in rows(params.Parameters)
    }
    assert values == as_lists
    assert group['image_topic'] == 'camera/image_raw'
    assert set(group) == {name for name, _, _ in rows(params.CameraParameters)}


def test_every_parameter_is_described():
    for table in (params.Parameters, params.CameraParameters):
        for name, default, meaning in rows(table):
            assert meaning.description.endswith('.'), name
            if isinstance(default, float):
                assert meaning.maximum is not None, f'{name} has no range'


def test_live_changes():
    changes = {'confidence_threshold': 0.5, 'camera.weight': 2.0, 'use_sim_time': True}
    after = params_values.changed(NOW, changes, is_loaded=True)
    assert after.confidence_threshold == 0.5
    assert after.camera['camera'].weight == 2.0
    assert NOW.confidence_threshold == 0.0


def test_swapped_changes():
    changes = {'model': 'other', 'mask_classes': ['cat'], 'overlay_opacity': 0.1}
    after = params_values.changed(NOW, changes, is_loaded=True)
    assert (after.model, after.mask_classes, after.overlay_opacity) == ('other', ('cat',), 0.1)
    # what is live holds at once, what is swapped when the swap is made
    before = with_swapped(after, NOW)
    assert (before.model, before.mask_classes) == (NOW.model, NOW.mask_classes)
    assert before.overlay_opacity == 0.1


@pytest.mark.parametrize('name', ['trust_model_code', 'camera.image_topic', 'output_size_wh'])
def test_what_needs_a_configure_is_refused_while_loaded(name):
    value = {'output_size_wh': [1, 1], 'trust_model_code': True}.get(name, 'x')
    with pytest.raises(ConfigurationError, match=f'parameter {name} takes effect when'):
        params_values.changed(NOW, {name: value}, is_loaded=True)
    assert params_values.changed(NOW, {name: value}, is_loaded=False) != NOW


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'confidence_threshold': 2.0}, 'confidence_threshold: expected 0 to 1, got 2'),
        ({'precision': 'int4'}, "precision: expected one of auto, .*int8, got 'int4'"),
        ({'output_size_wh': (640, 0)}, r'output_size_wh: expected \[width, height\]'),
        ({'output_size_wh': (640,)}, 'output_size_wh: expected 2 whole numbers'),
        ({'mask_classes': 'person'}, "mask_classes: expected a list of texts, got 'person'"),
        ({'cameras': ('a', 'a')}, 'cameras: expected unique, non-empty names'),
        ({'camera.transport': 'h264'}, 'camera.transport: expected one of raw, compressed'),
    ],
)
def test_values_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        params_values.changed(NOW, changes, is_loaded=False)


def test_whole_numbers_are_numbers():
    assert params_values.changed(NOW, {'camera.max_rate_hz': 5}, is_loaded=True).camera[
        'camera'
    ].max_rate_hz == pytest.approx(5.0)


def test_sizes():
    assert NOW.output_size_hw is None
    assert dataclasses.replace(NOW, output_size_wh=(640, 480)).output_size_hw == (480, 640)
