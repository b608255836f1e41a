"""A node whose model a real Triton server runs: what it says and does while the server is gone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_harness import wait_until
from sensor_msgs.msg import Image
from small_models import write_model
from swapping import NODE, OUT, Stream, counts, device_status
from triton_server import TritonServer, needs_triton, write_served
from vision_msgs.msg import LabelInfo

from seg_perception.imaging import view_frame
from seg_perception.ros import qos
from seg_perception.ros.messages import image_to_frame, stamp_to_ns

pytest.importorskip('tritonclient.grpc', reason='tritonclient (extra triton) is not installed')
pytestmark = [needs_triton, pytest.mark.slow]

LONG_S = 90.0
CLASSES = ('background', 'floor', 'chair')
OF_SMALL = {'"logits"': '"scores"'}


@pytest.fixture
def server(tmp_path):
    """A server that knows ``far``, which finds floor (1) everywhere."""
    server = TritonServer(tmp_path / 'triton')
    card = write_model(tmp_path, 'far', CLASSES, 'floor')
    server.add(write_served(card, tmp_path / 'entry'), 'far', OF_SMALL)
    yield server
    server.kill()


@pytest.fixture
def near(tmp_path):
    """A local model that finds chair (2) everywhere."""
    return write_model(tmp_path, 'near', CLASSES, 'chair')


def values_of(status):
    return {value.key: value.value for value in status.values}


def test_a_fallback_says_that_it_is_one(server, near, ros, spawn):
    server.start()
    address = server.address('far')
    spawn(
        'node',
        {
            'model': address,
            'fallback_model': str(near),
            'server_timeout_s': 20.0,  # one that is killed refuses at once
            'num_threads': 1,
            'diagnostics_period_s': 0.2,
        },
        ttl_s=400.0,
    ).wait_for_log('loaded in', LONG_S)
    wait_until(lambda: ros.state(NODE) == 'active', LONG_S, 'an active node')
    labels = ros.collect(f'{OUT}/labels', Image, 10)
    latched = qos.latched()
    latched.depth = 20
    infos = ros.collect(f'{OUT}/label_info', LabelInfo, latched)
    status = ros.collect(f'{OUT}/status', DiagnosticStatus, qos.heartbeat(0.5))
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    stream = Stream(ros, period_s=0.1)

    def says(level, source):
        def is_said(messages):
            if not messages:
                return False
            device = device_status(messages[-1])
            return device.level == level and values_of(device)['labels_from'] == source

        diagnostics.wait_until(is_said, LONG_S)
        status.wait_until(
            lambda all_: all_ and values_of(all_[-1])['labels_from'] == source, LONG_S
        )
        return device_status(diagnostics[-1])

    says(DiagnosticStatus.OK, address)
    labels.wait_for(len(labels) + 2, LONG_S)
    server.kill()
    device = says(DiagnosticStatus.WARN, 'near')
    assert 'labels are from the fallback near: ' in device.message
    assert values_of(device)['server'].startswith('gone for')
    server.start()
    says(DiagnosticStatus.OK, address)
    labels.wait_for(len(labels) + 2, LONG_S)
    stream.stop()

    told = [info.header.frame_id for info in infos]
    assert [source for source, _ in itertools.groupby(told)] == [address, 'near', address]
    sources = sorted((stamp_to_ns(i.header.stamp), i.header.frame_id) for i in infos)
    for message in labels:  # whoever made them, the table in force says so
        [label] = np.unique(view_frame(image_to_frame(message)))
        stamp_ns = stamp_to_ns(message.header.stamp)
        in_force = [source for since_ns, source in sources if since_ns <= stamp_ns][-1]
        assert int(label) == {address: 1, 'near': 2}[in_force]
    assert {int(np.unique(view_frame(image_to_frame(m)))[0]) for m in labels} == {1, 2}
    assert counts(diagnostics[-1])['dropped_server'] == 0


def test_without_a_fallback_frames_are_dropped_and_counted(server, ros, spawn):
    """Also at the start: a robot that is awake before its server goes on trying."""
    address = server.address('far')
    process = spawn(
        'node',
        {
            'model': address,
            'server_timeout_s': 5.0,
            'restart_delay_s': 0.5,
            'num_threads': 1,
            'diagnostics_period_s': 0.2,
        },
        ttl_s=400.0,
    )
    process.wait_for_log('configures anew in', LONG_S)
    diagnostics = ros.collect('/diagnostics', DiagnosticArray)
    diagnostics.wait_until(
        lambda messages: (
            messages and 'the server does not answer' in device_status(messages[-1]).message
        ),
        LONG_S,
    )
    server.start()
    process.wait_for_log('loaded in', LONG_S)
    wait_until(lambda: ros.state(NODE) == 'active', LONG_S, 'an active node')
    labels = ros.collect(f'{OUT}/labels', Image, 10)
    status = ros.collect(f'{OUT}/status', DiagnosticStatus, qos.heartbeat(0.5))
    stream = Stream(ros, period_s=0.1)
    labels.wait_for(3, LONG_S)
    server.kill()
    status.wait_until(
        lambda messages: (
            messages
            and messages[-1].level == DiagnosticStatus.ERROR
            and values_of(messages[-1])['state'] == 'failing'
            and 'server has not answered in time' in messages[-1].message
        ),
        LONG_S,
    )
    diagnostics.wait_until(lambda messages: counts(messages[-1])['dropped_server'] > 2, LONG_S)
    num_before = len(labels)
    server.start()
    labels.wait_for(num_before + 3, LONG_S)
    stream.stop()
    diagnostics.wait_until(lambda messages: counts(messages[-1])['pending'] == 0, LONG_S)
    now = counts(diagnostics[-1])
    dropped = sum(value for key, value in now.items() if key.startswith('dropped_'))
    assert now['received'] == now['published'] + dropped
    assert values_of(device_status(diagnostics[-1]))['model_reloads'] == '0'
