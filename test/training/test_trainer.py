from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scenes
import torch

pytest.importorskip('kornia', reason='kornia is not installed')

import seg_perception
from seg_perception.errors import ConfigurationError, SegPerceptionError
from seg_perception.models import DEFAULT_MODEL, resolve
from seg_perception.models.state_dicts import load_state_dict
from seg_perception.pipeline import Segmenter
from seg_perception.structures import ClassTable
from seg_perception.training.checkpoint import load_checkpoint
from seg_perception.training.config import config_from_mapping, load_config
from seg_perception.training.datasets import dataset_configs, open_dataset
from seg_perception.training.evaluation import evaluate
from seg_perception.training.initial_weights import make_start
from seg_perception.training.optimization import MovingAverage, build_optimizer
from seg_perception.training.run_log import LOG_FILE, read_log
from seg_perception.training.trainer import CHECKPOINT_FILE, train

SCRIPT = """
import sys
from seg_perception.training.config import load_config
from seg_perception.training.trainer import train
train(load_config(sys.argv[1]), sys.argv[2], device='cpu')
"""


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_small_unet_learns_the_scenes(finished_run):
    _, result = finished_run
    assert result.best_mean_iou > 0.9
    assert result.num_steps == 60
    assert result.card.output.temperature != 1.0


def test_the_figure_is_what_the_robot_gets(finished_run):
    config_path, result = finished_run
    config = load_config(config_path)
    dataset = open_dataset(dataset_configs(config.document)['val'])
    with Segmenter(result.run_dir, device='cpu') as segmenter:
        evaluation = evaluate(segmenter, dataset)
    assert evaluation.mean_iou == result.best_mean_iou


def test_a_finished_run_is_not_run_again(finished_run):
    config_path, result = finished_run
    weights = Path(result.card.base_dir / result.card.weights.uri)
    before = weights.stat().st_mtime_ns
    again = train(load_config(config_path), result.run_dir, device='cpu', resume='must')
    assert again.card == result.card
    assert weights.stat().st_mtime_ns == before


def test_another_configuration_does_not_resume(finished_run, tmp_path):
    config_path, result = finished_run
    changed = load_config(config_path, ['optimizer.lr=0.5'])
    with pytest.raises(ConfigurationError, match=r'optimizer\.lr'):
        train(changed, result.run_dir, device='cpu')
    config = load_config(config_path)
    with pytest.raises(ConfigurationError, match='expected no earlier run'):
        train(config, result.run_dir, device='cpu', resume='never')
    with pytest.raises(ConfigurationError, match='found none'):
        train(config, tmp_path / 'new', device='cpu', resume='must')


def test_a_killed_run_ends_as_one_that_was_not(scene_root, tmp_path):
    config_path = scenes.write_config(
        tmp_path / 'c.yaml',
        scene_root,
        training={
            'epochs': 16,
            'batch_size': 3,
            'accumulate': 2,
            'ema_decay': 0.9,
            'checkpoint_every_steps': 3,
            'validate_every': 5,
        },
        schedule={'name': 'one_cycle'},
        optimizer={'name': 'sgd'},
    )
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    result = train(load_config(config_path), whole, device='cpu')
    assert result.num_steps == 32
    checkpoint = killed / CHECKPOINT_FILE
    steps_seen = []
    for _ in range(2):
        child = _start(config_path, killed)
        before = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if checkpoint.is_file() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.15))  # whatever it is doing by then
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, child.stderr.read()
        child.stderr.close()
        steps_seen.append(load_checkpoint(checkpoint)[1]['progress']['step'])
    assert 0 < steps_seen[0] < steps_seen[1] < 32
    resumed = train(load_config(config_path), killed, device='cpu')
    assert resumed.card.output == result.card.output
    for name in (CHECKPOINT_FILE, LOG_FILE, result.card.weights.uri, 'card.yaml'):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def _start(config_path, run_dir):
    package = str(Path(seg_perception.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT, str(config_path), str(run_dir)],
        env=dict(os.environ, PYTHONPATH=package),
        cwd=os.sep,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_early_stop(scene_root, tmp_path):
    path = scenes.write_config(
        tmp_path / 'c.yaml',
        scene_root,
        optimizer={'lr': 1e-12, 'name': 'adamw', 'weight_decay': 0},
        training={'epochs': 50, 'validate_every': 1, 'patience': 2, 'batch_size': 4},
        # Without batch norm and dropout nothing changes, so nothing gets better.
        model={'architecture_options': {'base_channels': 2, 'num_stages': 1, 'batch_norm': False}},
    )
    result = train(load_config(path), tmp_path / 'run', device='cpu')
    assert result.is_stopped_early
    assert (result.num_steps, result.best_step) == (6, 2)
    kinds = [record['kind'] for record in read_log(tmp_path / 'run' / LOG_FILE)]
    assert kinds.count('validation') == 3


def test_a_loss_that_is_no_number_ends_the_run(scene_root, tmp_path):
    path = scenes.write_config(
        tmp_path / 'c.yaml',
        scene_root,
        optimizer={'name': 'sgd', 'lr': 1e30},
        model={'architecture_options': {'base_channels': 2, 'num_stages': 1, 'batch_norm': False}},
    )
    with pytest.raises(SegPerceptionError, match=r'expected a finite loss.*optimizer\.lr'):
        train(load_config(path), tmp_path / 'run', device='cpu')


WORKERS = """
import sys
from pathlib import Path
import scenes
import torch
from seg_perception.training.augment import Augmenter
from seg_perception.training.config import config_from_mapping
from seg_perception.training.datasets import dataset_configs, open_dataset
from seg_perception.training.initial_weights import make_start
from seg_perception.training.samples import TrainingSamples, batches

config = config_from_mapping(scenes.config_document(Path(sys.argv[1])))
dataset = open_dataset(dataset_configs(config.document)['train'])
card = make_start(config, dataset.classes).card
samples = TrainingSamples(
    dataset, Augmenter(config.augmentation, card.input, 255, 7), None, seed=7
)

def load(first, num_batches, num_workers):
    state = torch.get_rng_state()
    loaded = list(
        batches(
            samples,
            first=first,
            num_batches=num_batches,
            batch_size=3,
            num_workers=num_workers,
            is_pinned=False,
        )
    )
    assert torch.equal(torch.get_rng_state(), state)
    return loaded

alone, workers, later = load(0, 5, 0), load(0, 5, 2), load(9, 2, 0)
for ours, theirs in ((alone, workers), (alone[3:], later)):
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
seen = [samples._order[1][i] for i in range(len(dataset))]
assert sorted(seen) == list(range(len(dataset)))
print('the same')
"""


def test_workers_change_nothing_and_any_step_can_be_opened(scene_root):
    """In a process of its own, as training is: workers are forked, and forking this one after
    other tests have run several engines in it has ended it."""
    done = subprocess.run(
        [sys.executable, '-c', WORKERS, str(scene_root)],
        env={**os.environ, 'PYTHONPATH': str(Path(scenes.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'the same\n'


def test_starting_from_a_model_with_other_classes(scene_root):
    document = scenes.config_document(scene_root)
    document['model'] = {'init': DEFAULT_MODEL}
    config = config_from_mapping(document)
    classes = ClassTable(('Car', 'disc', 'background'))
    start = make_start(config, classes)
    origin = resolve(DEFAULT_MODEL)
    state = load_state_dict(
        Path(seg_perception.__file__).parent / 'models/embedded' / f'{DEFAULT_MODEL}.safetensors'
    )
    ours = start.network.state_dict()
    assert torch.equal(ours['aspp0.conv.weight'], state['aspp0.conv.weight'].float())
    theirs = state['classifier.weight'].float()
    assert ours['classifier.weight'].shape[0] == 3
    assert torch.equal(ours['classifier.weight'][0], theirs[origin.classes.id_of('car')])
    assert torch.equal(ours['classifier.weight'][2], theirs[0])
    assert 'classifier.weight' not in start.trained_names
    assert 'aspp0.conv.weight' in start.trained_names
    assert 'classifier.bias' in start.messages[1]
    assert 'except for Car, background' in start.messages[1]
    assert start.card.input.mean_rgb == origin.input.mean_rgb
    assert start.card.output.align_corners
    same = make_start(config, origin.classes)
    assert torch.equal(same.network.state_dict()['classifier.weight'], theirs)
    assert 'classifier.weight' in same.trained_names


def test_starting_from_a_model_of_another_architecture(scene_root):
    document = scenes.config_document(scene_root)
    document['model'] = {'init': DEFAULT_MODEL, 'architecture': 'deeplabv3plus_mobilenetv2'}
    start = make_start(config_from_mapping(document), ClassTable(('car', 'disc')))
    assert 'aspp0.conv.weight' in start.trained_names
    assert not any(name.startswith('decoder') for name in start.trained_names)
    assert 'started at random: decoder' in start.messages[1]
    document['model']['architecture'] = 'unet'
    document['model']['architecture_options'] = {}
    with pytest.raises(SegPerceptionError):
        make_start(config_from_mapping(document), ClassTable(('car', 'disc')))


def test_a_backbone_file_fills_the_backbone_alone(scene_root, tmp_path):
    from safetensors.torch import save_file

    from seg_perception.models import nets

    donor = nets.build('deeplabv3_mobilenetv2', 5)
    save_file({f'net.{k}': v for k, v in donor.backbone.state_dict().items()}, tmp_path / 'b.st')
    (tmp_path / 'b.st').rename(tmp_path / 'b.safetensors')
    document = scenes.config_document(scene_root)
    document['model'] = {
        'architecture': 'deeplabv3_mobilenetv2',
        'backbone': str(tmp_path / 'b.safetensors'),
        'backbone_key_map': {'net.': ''},
    }
    start = make_start(config_from_mapping(document), ClassTable(('a', 'b')))
    ours = start.network.backbone.state_dict()
    assert all(torch.equal(v, ours[k]) for k, v in donor.backbone.state_dict().items())
    assert all(name.startswith('backbone.') for name in start.trained_names)
    assert start.trained_names


def test_rates_and_decay_by_group():
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 1))
    config = dataclasses.replace(
        config_from_mapping(scenes.config_document(Path())).optimizer,
        backbone_lr_factor=0.1,
        weight_decay=0.3,
    )
    optimizer = build_optimizer(config, layer, {'0.weight', '0.bias'})
    found = {
        tuple(p.shape): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert found[4, 3, 3, 3] == (pytest.approx(0.001), 0.3)
    assert found[4,] == (pytest.approx(0.001), 0.0)
    assert found[2, 4, 1, 1] == (0.01, 0.3)
    assert found[2,] == (0.01, 0.0)


def test_moving_average():
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    average = MovingAverage(layer, 0.9)
    expected = 0.0
    for step in range(1, 200):
        layer.weight.data.fill_(float(step))
        average.update(layer, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.state['weight'].item() == pytest.approx(expected, rel=1e-5)
