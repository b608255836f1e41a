"""Broken and hostile models: a clear error before the gate opens, and the old one goes on."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_harness import Spawner, wait_until
from safetensors.torch import save_file
from sensor_msgs.msg import Image
from small_models import write_model
from swapping import (
    DEADLINE_S,
    INDOOR,
    NODE,
    OUT,
    Stream,
    device_status,
    swap,
    wait_for_swap,
)

from seg_perception.imaging import view_frame
from seg_perception.models import nets
from seg_perception.ros.messages import image_to_frame


class Payload:
    """Leaves a witness where it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f'touch {self.witness}',)


def write_card(folder, uri, **fields):
    """The card of a network of the package's own."""
    card = {
        'name': 'hostile',
        'summary': 'a U-Net, it says',
        'architecture': 'unet',
        'architecture_options': {'base_channels': 4},
        'weights': {'uri': uri},
        'input': {
            'size_hw': [32, 32],
            'resize': 'stretch',
            'mean_rgb': [0.0] * 3,
            'std_rgb': [255.0] * 3,
        },
        'classes': {'names': list(INDOOR)},
        'licence': 'Apache-2.0',
        'source': 'made by the tests',
        **fields,
    }
    path = folder / 'hostile.yaml'
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path


def write_unet(folder, **fields):
    network = nets.build('unet', len(INDOOR), base_channels=4)
    save_file(network.state_dict(), folder / 'w.safetensors')
    return write_card(folder, 'w.safetensors', **fields)


def malicious_pickle(folder):
    torch.save({'weight': Payload(folder / 'witness')}, folder / 'w.pth')
    return write_card(folder, 'w.pth')


def zip_bomb(folder):
    with zipfile.ZipFile(folder / 'w.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/version', '3')
        archive.writestr('archive/data.pkl', bytes(30_000_000))
    return write_card(folder, 'w.pth')


def truncated(folder):
    card = write_unet(folder)
    whole = (folder / 'w.safetensors').read_bytes()
    (folder / 'w.safetensors').write_bytes(whole[: len(whole) // 2])
    return card


def truncated_onnx(folder):
    card = write_model(folder, 'hostile', INDOOR, 'chair')
    whole = (folder / 'hostile.onnx').read_bytes()
    (folder / 'hostile.onnx').write_bytes(whole[: len(whole) // 2])
    return card


def wrong_hash(folder):
    return write_unet(folder, weights={'uri': 'w.safetensors', 'sha256': 'ab' * 32})


def unknown_operator(folder):
    return write_model(folder, 'hostile', INDOOR, 'chair', fails='unknown operator')


def other_class_count(folder):
    return write_model(folder, 'hostile', INDOOR, 'chair', num_channels=7)


def other_head(folder):
    return write_unet(folder, classes={'names': ['background', 'floor', 'chair', 'more']})


def nan_logits(folder):
    return write_model(folder, 'hostile', INDOOR, 'chair', fails='always')


def more_than_memory(folder):
    return write_unet(folder, architecture_options={'base_channels': 2**20})


def alias_bomb(folder):
    card = write_unet(folder)
    card.write_text(card.read_text() + 'measurements: {a: &a [x, x], b: &b [*a, *a], c: [*b, *b]}')
    return card


def trusted_code_only(folder):
    (folder / 'hostile.pt2').write_bytes(b'PK\x03\x04')
    return write_card(folder, 'hostile.pt2', architecture=None, architecture_options={})


def a_device(folder):
    return write_card(folder, '/dev/zero', weights={'uri': '/dev/zero', 'format': 'safetensors'})


CASES: dict[Callable[[Path], Path], str] = {
    malicious_pickle: 'refused, because a pickle can run code',
    zip_bomb: 'compressed entries: refused',
    truncated: 'is not a whole safetensors file',
    truncated_onnx: 'is not an ONNX model that onnxruntime',
    wrong_hash: f'expected SHA-256 {"ab" * 32}, got ',
    unknown_operator: 'Frobnicate',
    other_class_count: 'expected logits with 3 channels, one per class of the card',
    other_head: '(expected (4,))',
    nan_logits: 'expected numbers, got NaN',
    more_than_memory: 'of another shape',
    alias_bomb: 'an alias (*name); write the value out',
    trusted_code_only: 'trust_model_code=true',
    a_device: '/dev/zero: expected the weights of the card, found no file',
}
"""What writes a model, and what is said of it."""


@pytest.fixture(scope='module')
def indoor(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp('good'), 'indoor', INDOOR, 'floor')


@pytest.fixture(scope='module')
def node(indoor, tmp_path_factory):
    """One node, running ``indoor``, for all cases."""
    spawner = Spawner(tmp_path_factory.mktemp('node'))
    params = {'model': str(indoor), 'num_threads': 1, 'diagnostics_period_s': 0.1}
    process = spawner('node', params, ttl_s=600.0)
    process.wait_for_log('loaded in', DEADLINE_S)
    yield process
    spawner.stop_all()


@pytest.mark.parametrize(('write', 'text'), CASES.items(), ids=[w.__name__ for w in CASES])
def test_it_is_refused_and_the_old_model_goes_on(node, indoor, ros, tmp_path, write, text):
    wait_until(lambda: ros.state(NODE) == 'active', DEADLINE_S, 'an active node')
    swap(ros, model=str(indoor))
    card = write(tmp_path)
    num_logged = len(node.log)
    labels = ros.collect(f'{OUT}/labels', Image, 50)
    stream = Stream(ros, 0.05)
    labels.wait_for(1)

    result = ros.set_params_atomically(NODE, model=str(card))
    if result.successful:  # what is quick to see was; the rest shows while it is loaded
        status = device_status(wait_for_swap(ros))
        assert status.level == DiagnosticStatus.WARN
        assert status.message.startswith(f'cannot swap to {card}, indoor goes on: ')
        assert text in status.message
        assert text in node.log[num_logged:]
    else:
        assert text in result.reason
    assert ros.get_params(NODE, 'model') == [str(indoor)]
    labels.wait_for(len(labels) + 3)
    stream.stop()
    assert {value for m in labels for value in np.unique(view_frame(image_to_frame(m)))} == {1}
    assert not (tmp_path / 'witness').exists()

    # The gate stays shut where it is the first model.
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    assert ros.transition(NODE, 'deactivate')
    assert ros.transition(NODE, 'cleanup')
    assert ros.set_params_atomically(NODE, model=str(card)).successful
    num_logged = len(node.log)
    assert not ros.transition(NODE, 'configure', DEADLINE_S)
    assert ros.state(NODE) == 'unconfigured'
    assert 'cannot configure: ' in node.log[num_logged:]
    assert text in node.log[num_logged:]
    diagnostics.wait_until(
        lambda messages: (
            messages
            and device_status(messages[-1]).level == DiagnosticStatus.ERROR
            and text in device_status(messages[-1]).message
        )
    )
    wait_until(
        lambda: not ros.node.count_publishers(f'{OUT}/labels'), DEADLINE_S, 'an end of the outputs'
    )
    assert not (tmp_path / 'witness').exists()
    assert 'Traceback' not in node.log
    assert ros.set_params_atomically(NODE, model=str(indoor)).successful
    assert ros.transition(NODE, 'configure', DEADLINE_S)
    assert ros.transition(NODE, 'activate')
