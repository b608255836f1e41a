from __future__ import annotations

from pathlib import Path

import pytest
import scenes
import torch
import yaml

from seg_perception.errors import ConfigurationError
from seg_perception.structures import ClassTable
from seg_perception.training.config import config_from_mapping, load_config
from seg_perception.training.initial_weights import make_start
from seg_perception.training.losses import build_loss
from seg_perception.training.schedules import build_schedule


@pytest.fixture
def document(tmp_path):
    return scenes.config_document(tmp_path)


def test_a_whole_configuration_is_read(document):
    config = config_from_mapping(document)
    assert config.optimizer.lr == 0.01
    assert config.augmentation.crop_hw == (64, 64)
    assert config.input.mean_rgb is None
    assert config.model.architecture_options['num_stages'] == 2
    assert config.training.seed == 0


@pytest.mark.parametrize(
    ('section', 'field', 'value', 'message'),
    [
        ('optimizer', 'learning_rate', 1.0, r'optimizer\.learning_rate: expected one of'),
        ('optimizer', 'lr', 'fast', r'optimizer\.lr: expected a number, got fast'),
        ('optimizer', 'lr', -1.0, r'optimizer\.lr: expected a positive number, got -1'),
        ('optimizer', 'lr', float('nan'), r'optimizer\.lr: expected a positive number'),
        ('optimizer', 'name', 'adamm', r"optimizer\.name: expected .*'adamw'\?"),
        ('training', 'epochs', 0, r'training\.epochs: expected 1 or more, got 0'),
        ('training', 'batch_size', 10**400, r'training\.batch_size: expected 1 to 1e\+18'),
        ('training', 'epochs', None, r'training\.epochs: expected a value'),
        ('training', 'freeze_norm', 'yes', r'training\.freeze_norm: expected true or false'),
        ('augmentation', 'scale', [2.0, 1.0], r'augmentation\.scale: expected \[low, high\]'),
        ('augmentation', 'scale', [1.0], r'augmentation\.scale: expected 2 numbers'),
        ('augmentation', 'crop_hw', [0, 5], r'augmentation\.crop_hw: expected two sides'),
        ('model', 'architecture', None, 'model: expected init .* got .neither'),
        ('model', 'weights', 'a.pth', r'model\.weights: expected init'),
        ('data', 'val', None, None),
    ],
)
def test_what_cannot_be_is_told(document, section, field, value, message):
    document[section][field] = value
    if value is None:
        del document[section][field]
    if message is None:
        message = 'data: expected the parts train and val'
    with pytest.raises(ConfigurationError, match=message):
        config_from_mapping(document)


def test_an_unknown_section_is_an_error(document):
    document['augmentations'] = {}
    with pytest.raises(ConfigurationError, match=r"augmentations: .* did you mean 'augmentation'"):
        config_from_mapping(document)


def test_overrides_and_exponents(document, tmp_path):
    path = tmp_path / 'c.yaml'
    path.write_text(yaml.safe_dump(document))
    config = load_config(path, ['optimizer.lr=3e-4', 'training.epochs=2', 'augmentation.flip=0'])
    assert (config.optimizer.lr, config.training.epochs, config.augmentation.flip) == (3e-4, 2, 0)
    assert config.base_dir == tmp_path
    for wrong in ('optimizer', 'optimizer.lr.x=1', 'optimizer.lr=[', '=3'):
        with pytest.raises(ConfigurationError):
            load_config(path, [wrong])


@pytest.mark.parametrize('text', ['- a', 'a: [', 'a: 1\na: 2', ''])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    path = tmp_path / 'c.yaml'
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r'c\.yaml'):
        load_config(path)
    with pytest.raises(ConfigurationError, match='cannot be read'):
        load_config(tmp_path / 'missing.yaml')


CONFIGS = Path(__file__).parents[2] / 'config/training'


@pytest.mark.parametrize('name', sorted(path.name for path in CONFIGS.glob('*.yaml')))
def test_shipped_configurations_are_whole(name):
    config = load_config(CONFIGS / name)
    assert config.name == name.removesuffix('.yaml')
    build_loss(config.loss, num_classes=11, ignore_id=255, class_weights=[1.0] * 11)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    build_schedule(config.schedule, optimizer, 1000)
    classes = ClassTable(tuple(f'class {i}' for i in range(11)))
    if 'ade' not in name:  # its weights are not in the package
        start = make_start(config, classes)
        assert start.card.input.size_hw == config.input.size_hw


def test_there_are_configurations_of_the_three_networks():
    names = {path.stem for path in CONFIGS.glob('*.yaml')}
    assert {'camvid_fast', 'unet_camvid', 'segnet_camvid', 'deeplabv3plus_camvid'} <= names
