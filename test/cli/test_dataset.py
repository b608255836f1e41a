"""``seg-perception dataset check``: what it is given and how it ends."""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import pytest
import yaml
from photographs import astronaut

from seg_perception.cli import dataset
from seg_perception.errors import ConfigurationError


def run(*arguments):
    parser = argparse.ArgumentParser()
    dataset.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(['dataset', 'check', *map(str, arguments)])
    return parsed.run(parsed)


@pytest.fixture
def root(tmp_path):
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    assert cv2.imwrite(str(tmp_path / 'images/a.png'), astronaut(24, 32))
    assert cv2.imwrite(str(tmp_path / 'masks/a.png'), np.eye(24, 32, dtype=np.uint8))
    return tmp_path


def test_good_dataset_ends_with_0(root, capsys):
    assert run('--layout', 'folders', '--root', root, '--classes', 'floor,tray') == 0
    output = capsys.readouterr()
    assert '0 error(s)' in output.out
    assert output.err == ''  # progress is for terminals


def test_broken_dataset_ends_with_1_and_json_says_why(root, capsys):
    (root / 'masks/a.png').write_text('no mask', encoding='utf-8')
    given = ('--layout', 'folders', '--root', root, '--classes', 'floor,tray', '--json')
    assert run(*given) == 1
    document = json.loads(capsys.readouterr().out)
    assert document['ok'] is False
    assert [f['kind'] for f in document['findings']] == ['unreadable']


def test_classes_from_a_file_and_further_keys(root, capsys):
    (root / 'masks').rename(root / 'labels')
    (root / 'names.txt').write_text('floor\ntray\n', encoding='utf-8')
    given = ('--layout', 'folders', '--root', root, '--classes', root / 'names.txt')
    assert run(*given, '--set', 'masks=labels') == 0


def test_configuration_of_a_training(root, capsys):
    part = {'layout': 'folders', 'root': '.', 'classes': ['floor', 'tray']}
    path = root / 'run.yaml'
    path.write_text(yaml.safe_dump({'name': 'run', 'data': {**part, 'train': {}, 'val': {}}}))
    assert run(path, '--json') == 1  # the same image in both
    document = json.loads(capsys.readouterr().out)
    assert [f['kind'] for f in document['findings'] if f['severity'] == 'error'] == ['leak']
    with pytest.raises(ConfigurationError, match=r'dataset.layout: expected one of .*foldres'):
        run(path, '--set', 'data.layout=foldres')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'expected a configuration file, or --layout and --root'),
        (['--layout', 'voc'], 'expected a configuration file, or --layout and --root'),
        (['x.yaml', '--layout', 'voc'], 'got both x.yaml and --layout'),
        (['gone.yaml'], 'gone.yaml: cannot be read'),
    ],
)
def test_unclear_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        run(*arguments)
