"""Swaps that fail at their last step, or are cancelled: all or nothing, and the node goes on."""

from __future__ import annotations

import dataclasses
import gc
import sys
import threading

import torch
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import TransitionEvent
from ros_harness import wait_until
from sensor_msgs.msg import Image
from small_models import write_model
from swapping import (
    DEADLINE_S,
    INPUT,
    NODE,
    OUT,
    Stream,
    counts,
    device_status,
    swap,
    write_models,
)

from seg_perception.models import DEFAULT_MODEL
from seg_perception.pipeline import Segmenter
from seg_perception.ros.model_swap import ModelSwap
from seg_perception.ros.mount import Transforms
from seg_perception.ros.params import Parameters

WITHOUT_A_TABLE = """
from seg_perception.ros import node, outputs

exchange = outputs.CameraOutputs.exchange

def fail_once(self, *args):
    outputs.CameraOutputs.exchange = exchange
    self._node.destroy_publisher(self._label_info)  # its handle is gone: publishing raises
    exchange(self, *args)

outputs.CameraOutputs.exchange = fail_once
node.main()
"""


def test_an_exchange_that_raises_loses_no_frame_uncounted_and_the_node_recovers(
    spawn, ros, tmp_path
):
    models = write_models(tmp_path)
    parameters = {
        'model': models['indoor'],
        'num_threads': 1,
        'restart_delay_s': 3.0,
        'diagnostics_period_s': 0.1,
        f'qos_overrides.{INPUT}.subscription.reliability': 'reliable',
        f'qos_overrides.{INPUT}.subscription.depth': 100,
    }
    args = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    node = spawn.command([sys.executable, '-c', WITHOUT_A_TABLE, '--ros-args', *args], name='node')
    node.wait_for_log('loaded in', DEADLINE_S)
    # First, so that the node knows of it when it has labels for the one below.
    transitions = ros.collect(f'/{NODE}/transition_event', TransitionEvent)
    labels = ros.collect(f'{OUT}/labels', Image, 100)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    stream = Stream(ros)
    labels.wait_for(5)
    assert ros.set_params_atomically(NODE, model=str(models['outdoor'])).successful
    node.wait_for_log('the model is lost: an exchange of models failed', DEADLINE_S)
    # Both pass: 3 s later it configures anew.
    transitions.wait_until(
        lambda events: any(event.goal_state.label == 'unconfigured' for event in events)
    )
    diagnostics.wait_until(
        lambda messages: any(
            'an exchange of models failed' in device_status(message).message
            for message in messages
        )
    )
    for message in diagnostics:
        if any(status.name == f'{NODE}: camera' for status in message.status):
            now = counts(message)
            dropped = sum(value for key, value in now.items() if key.startswith('dropped_'))
            assert now['received'] == now['published'] + dropped + now['pending']
    num_labels = len(labels)
    node.wait_for_log('configures anew in 3 s')
    wait_until(lambda: ros.state(NODE) == 'active', DEADLINE_S, 'an active node')
    labels.wait_for(num_labels + 3, DEADLINE_S)
    stream.stop()
    assert ros.get_params(NODE, 'model') == [str(models['outdoor'])]
    assert 'Exception in thread' not in node.log


def test_a_change_that_one_camera_cannot_make_is_made_by_none(spawn, ros, tmp_path):
    """The name of one class is as long as a topic's may be, but for the longer camera's."""
    far = 'far' * 20
    name = 'x' * 170
    model = write_model(tmp_path, 'long', ('background', 'floor', name), 'floor')
    node = spawn(
        'node',
        {'model': str(model), 'num_threads': 1, 'cameras': ['near', far]},
        ttl_s=300.0,
    )
    node.wait_for_log('loaded in', DEADLINE_S)
    [refused] = ros.set_params(NODE, mask_classes=['floor', name])
    assert not refused.successful
    assert 'topic name' in refused.reason
    assert ros.get_params(NODE, 'mask_classes') == [['']]
    for token in ('floor', name):
        wait_until(
            lambda t=token: not ros.node.count_publishers(f'/near/segmentation/masks/{t}'),
            DEADLINE_S,
            f'no publisher of {token}',
        )
    swap(ros, mask_classes=['floor'])
    for camera in ('near', far):
        wait_until(
            lambda c=camera: ros.node.count_publishers(f'/{c}/segmentation/masks/floor') == 1,
            DEADLINE_S,
            'a new topic',
        )


def num_weights():
    """Numbers in networks of torch that this process holds."""
    gc.collect()
    return sum(o.numel() for o in gc.get_objects() if type(o) is torch.nn.Parameter)


def test_the_next_configure_waits_for_a_load_that_was_cancelled(ros, tmp_path, monkeypatch):
    """The first is a small network of onnxruntime, the cancelled one of torch."""
    models = write_models(tmp_path)
    indoor = dataclasses.replace(Parameters(), model=str(models['indoor']), num_threads=1)
    swap = ModelSwap(ros.node, {}, Transforms(ros.node), indoor)
    before = num_weights()
    swap.load(indoor)
    is_loaded, may_end = threading.Event(), threading.Event()
    warm_up = Segmenter.warm_up

    def warm_up_later(segmenter):
        is_loaded.set()
        assert may_end.wait(DEADLINE_S)
        warm_up(segmenter)

    monkeypatch.setattr(Segmenter, 'warm_up', warm_up_later)
    swap.change({'model': DEFAULT_MODEL, 'input_size_wh': [1200, 1200]})
    [loading] = [thread for thread in threading.enumerate() if thread.name == 'model_load']
    assert is_loaded.wait(DEADLINE_S)
    assert num_weights() > before
    swap.close()
    assert loading.is_alive()
    may_end.set()
    swap.load(indoor)
    assert num_weights() == before
    loading.join(DEADLINE_S)
    assert swap.segmenter.card.name == 'indoor'
    swap.close()
