"""Model cards: what is right is read as written, what is wrong is named."""

from __future__ import annotations

import copy
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_perception.errors import ModelCardError
from seg_perception.models.card import MAX_CLASSES, WeightsSource, card_from_mapping, load_card

CARD: dict[str, Any] = {
    'name': 'unet.two',
    'summary': 'a card for tests',
    'architecture': 'unet',
    'weights': {'uri': 'w.safetensors'},
    'input': {
        'size_hw': [240, 320],
        'resize': 'fit',
        'mean_rgb': [123.5, 116, 103],
        'std_rgb': [58, 57, 57.5],
    },
    'classes': {'names': ['floor', 'person']},
    'licence': 'Apache-2.0',
    'source': 'https://example.org',
}


def edited(path: str, value: object) -> dict[str, Any]:
    """The card with one field set, or removed where the value is ``...``."""
    card = copy.deepcopy(CARD)
    *parents, last = path.split('.')
    part = card
    for key in parents:
        part = part.setdefault(key, {})
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return card


def test_minimal_card_has_the_documented_defaults(tmp_path: Path) -> None:
    path = tmp_path / 'unet.two.yaml'
    path.write_text(yaml.safe_dump(CARD))
    card = load_card(path)
    assert card.path == path
    assert card.base_dir == tmp_path
    assert card.weights.format == 'safetensors'
    assert card.input.size_hw == (240, 320)
    assert card.input.mean_rgb == (123.5, 116.0, 103.0)
    assert (card.input.multiple_of, card.input.channel_order) == (1, 'rgb')
    assert (card.output.kind, card.output.align_corners) == ('logits', False)
    assert not card.output.gives_objects
    assert card.input.pad_rgb is None
    assert card.classes.names == ('floor', 'person')
    assert len(card.classes.colors_rgb) == 2


def test_every_field_arrives(tmp_path: Path) -> None:
    path = tmp_path / 'full.yaml'
    path.write_text(f"""
name: net-1.0
summary: all fields
architecture: deeplab
architecture_options: {{output_stride: 8}}
weights:
  uri: https://example.org/w.bin
  sha256: {'AB' * 32}
  sha256_prefix: abababab
  size_bytes: 12
  format: torch
  key_map: {{module.: ''}}
  drop_prefixes: [aux.]
input: {{size_hw: [32, 64], resize: letterbox, multiple_of: 8, mean_rgb: [1, 2, 3],
        std_rgb: [4, 5, 6], channel_order: bgr}}
output: {{kind: probabilities, align_corners: true}}
classes: {{names: ["no", b], colors_rgb: [[0, 1, 2], [255, 254, 253]]}}
licence: MIT
source: somewhere
measurements: {{mIoU: 0.5, cpu: {{ms: 12}}}}
""")
    card = load_card(path)
    assert card.architecture_options == {'output_stride': 8}
    assert card.weights == WeightsSource(
        'https://example.org/w.bin',
        'ab' * 32,
        'abababab',
        12,
        'torch',
        {'module.': ''},
        ('aux.',),
    )
    assert card.weights.is_remote
    assert card.input.multiple_of == 8
    assert card.input.channel_order == 'bgr'
    assert card.output.align_corners
    assert card.classes.colors_rgb == ((0, 1, 2), (255, 254, 253))
    assert card.measurements['cpu'] == {'ms': 12}


def test_a_card_of_a_model_that_gives_objects() -> None:
    options = {'task': 'panoptic', 'score_threshold': 0.7, 'thing_classes': ['person']}
    document = edited('output', {'kind': 'queries', 'options': options | {'mask_hw': [384, 384]}})
    document['input'] |= {'resize': 'letterbox', 'pad_rgb': [114, 114, 114]}
    card = card_from_mapping(document)
    assert card.output.gives_objects
    assert card.output.options.thing_classes == ('person',)
    assert (card.output.options.mask_hw, card.output.options.max_objects) == ((384, 384), 100)
    assert card.input.pad_rgb == (114.0, 114.0, 114.0)
    document['input']['resize'] = 'fit'
    with pytest.raises(ModelCardError, match='fit does not pad'):
        card_from_mapping(document)


@pytest.mark.parametrize(
    ('field', 'value', 'expected'),
    [
        ('name', ..., 'name: expected a value'),
        ('name', 'Has Space', 'lower-case'),
        ('name', '../x', 'lower-case'),
        ('licence', None, 'licence: expected a value'),
        ('architecture', ..., 'architecture: expected a network for safetensors weights'),
        ('architectur', 'unet', "did you mean 'architecture'"),
        ('weights', 'w.safetensors', 'weights: expected a mapping'),
        ('weights.uri', '', 'weights.uri'),
        ('weights.uri', 'http://example.org/w.pth', 'use https://'),
        ('weights.uri', 'ftp://example.org/w.pth', 'weights.uri: expected a path'),
        ('weights.uri', 'file:///etc/passwd', 'weights.uri: expected a path'),
        ('weights.uri', 'https://example.org/w.pth', 'weights.sha256: expected a hash'),
        ('weights.uri', 'w.bin', 'weights.format: expected one of'),
        ('weights.format', 'tourch', "'torch'?"),
        ('weights.sha256', 'abc', '64 hex digits'),
        ('weights.sha256', 'z' * 64, '64 hex digits'),
        ('weights.sha256', 12345678, 'put it in quotes'),
        ('weights.sha256_prefix', 'abcdef0', '8 to 64 hex digits'),
        ('weights.size_bytes', 0, 'positive number of bytes'),
        ('weights.size_bytes', '12', 'weights.size_bytes: expected an integer'),
        ('weights.key_map', {'a': 1}, 'weights.key_map.a: expected text'),
        ('weights.drop_prefixes', 'aux.', 'drop_prefixes: expected a list'),
        ('input.size_hw', [240], 'input.size_hw'),
        ('input.size_hw', [0, 320], 'input.size_hw'),
        ('input.size_hw', [240, 100000], 'input.size_hw'),
        ('input.size_hw', [240.0, 320], 'list of integers'),
        ('input.size_hw', [True, True], 'list of integers'),
        ('input.resize', 'crop', 'stretch, letterbox, fit'),
        ('input.multiple_of', 241, 'input.multiple_of'),
        ('input.mean_rgb', [1, 2], 'three finite numbers'),
        ('input.mean_rgb', [1, 2, float('nan')], 'three finite numbers'),
        ('input.mean_rgb', [1, 2, '3'], 'list of numbers'),
        ('input.std_rgb', [1, 0, 1], 'three positive numbers'),
        ('input.std_rgb', ..., 'input.std_rgb: expected a value'),
        ('input.channel_order', 'gbr', 'rgb, bgr'),
        ('input.size', [1, 2], 'input.size: expected one of the fields'),
        ('output.kind', 'instances', 'logits, probabilities, labels'),
        ('output.align_corners', 'yes', 'true or false'),
        ('output.options', {'task': 'instance'}, 'no options for logits'),
        ('output', {'kind': 'queries', 'options': {'masks': 'box'}}, 'output.options.masks'),
        ('output', {'kind': 'queries', 'options': {'task': 'all'}}, 'instance, panoptic'),
        ('output', {'kind': 'queries', 'options': {'score_threshold': 2}}, 'number of 0 to 1'),
        ('output', {'kind': 'queries', 'options': {'max_objects': 0}}, '1 to 65535'),
        ('output', {'kind': 'queries', 'options': {'mask_hw': [0, 3]}}, 'output.options.mask_hw'),
        (
            'output',
            {'kind': 'queries', 'options': {'task': 'panoptic', 'thing_classes': ['x']}},
            'names among classes.names',
        ),
        (
            'output',
            {'kind': 'queries', 'options': {'thing_classes': ['x']}},
            'none for the task semantic',
        ),
        ('input.pad_rgb', [1, 2], 'three finite numbers'),
        ('classes.names', [], 'at least one class'),
        ('classes.names', ['a', 'a'], 'unique'),
        ('classes.names', ['a', False], 'put it in quotes'),
        ('classes.colors_rgb', [[0, 0, 0]], 'expected 2 colours'),
        ('classes.colors_rgb', [[0, 0, 0], [0, 0, 256]], 'classes.colors_rgb[1]'),
        ('classes.colors_rgb', [[0, 0, 0], [0, 0]], 'classes.colors_rgb[1]'),
        ('measurements', [1], 'measurements: expected a mapping'),
        ('output.temperature', 10**400, 'a number that a float can hold'),
        ('input.mean_rgb', [10**400, 0, 0], 'a number that a float can hold'),
    ],
)
def test_a_wrong_field_is_named_with_its_file(
    field: str, value: object, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / 'wrong.yaml'
    path.write_text(yaml.safe_dump(edited(field, value)))
    with pytest.raises(ModelCardError) as caught:
        load_card(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize('field', ['architecture', 'architecture_options'])
def test_a_format_with_its_own_graph_takes_no_architecture(field: str) -> None:
    card = edited('weights.uri', 'model.onnx')
    del card['architecture']
    assert card_from_mapping(card).architecture is None
    card[field] = {'architecture': 'unet', 'architecture_options': {'a': 1}}[field]
    with pytest.raises(ModelCardError, match='come with their own'):
        card_from_mapping(card)


def test_prefix_must_start_the_hash() -> None:
    with pytest.raises(ModelCardError, match='sha256_prefix'):
        WeightsSource('w.pth', sha256='ab' * 32, sha256_prefix='cdcdcdcd')


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'expected a mapping'),
        ('- a\n- b\n', 'expected a mapping'),
        ('name: [unclosed', 'not valid YAML'),
        ('name: a\nname: b\n', 'repeated field'),
        ('name: !!python/object/apply:os.getcwd []\n', 'not valid YAML'),
        ('name: &a [*a]\nweights: *a\n', 'an alias'),
        ('a\x00b', 'not valid YAML'),
    ],
)
def test_a_file_that_is_no_card(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(ModelCardError, match=expected):
        load_card(path)


def test_missing_binary_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(ModelCardError, match='cannot be read'):
        load_card(tmp_path / 'none.yaml')
    binary = tmp_path / 'binary.yaml'
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ModelCardError, match='not valid YAML'):
        load_card(binary)
    huge = tmp_path / 'huge.yaml'
    huge.write_bytes(b' ' * (4 * 1024 * 1024 + 1))
    with pytest.raises(ModelCardError, match='at most'):
        load_card(huge)


def test_aliases_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    lines = ['a: &a [x, x, x, x, x, x, x, x, x, x]']
    lines += [
        f'{b}: &{b} [{", ".join([f"*{a}"] * 10)}]' for a, b in itertools.pairwise('abcdefghi')
    ]
    path = tmp_path / 'card.yaml'
    path.write_text(yaml.safe_dump(CARD) + 'measurements:\n  ' + '\n  '.join(lines))
    with pytest.raises(ModelCardError, match=r'an alias \(\*name\); write the value out'):
        load_card(path)


def test_as_many_classes_as_ids_allow(tmp_path: Path) -> None:
    start_s = time.thread_time()
    names = [f'c{i}' for i in range(MAX_CLASSES)]
    assert len(card_from_mapping({**CARD, 'classes': {'names': names}}).classes) == MAX_CLASSES
    with pytest.raises(ModelCardError, match='at most 65535 classes'):
        card_from_mapping({**CARD, 'classes': {'names': [*names, 'more']}})
    assert time.thread_time() - start_s < 20.0
