"""A consumer learns from ``status`` whether nothing is there or nobody looks."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fault_model import write_fault_model
from fault_rig import NODE, FaultRig
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile
from ros_harness import wait_until

from seg_perception.ros.messages import stamp_to_ns

pytestmark = pytest.mark.distro

STATUS = '/plain/segmentation/status'


def test_a_consumer_learns_that_nobody_listens_and_that_the_node_died(spawn, ros, tmp_path):
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    pytest.importorskip('onnx', reason='onnx is not installed')
    params = {'model': str(write_fault_model(tmp_path)), 'num_threads': 1, 'cameras': ['plain']}
    node = spawn('node', {**params, 'status_period_s': 0.2}, expect_exit=None)
    node.wait_for_log('loaded in', 60.0)
    early = ros.collect(STATUS, DiagnosticStatus)
    early.wait_until(lambda beats: any(b.values[0].value == 'idle' for b in beats))
    assert early[-1].level == DiagnosticStatus.STALE
    rig = FaultRig.at(ros, node, NODE, ['plain'])
    labels = rig.works()
    last_ns = stamp_to_ns(labels.header.stamp)

    def tells_of_labels(beats):
        told = {value.key: value.value for value in beats[-1].values} if beats else {}
        return told.get('state') == 'active' and int(told['last_stamp_ns']) >= last_ns

    assert rig.beats['plain'].wait_until(tells_of_labels)[-1].level == DiagnosticStatus.OK
    missed = threading.Event()
    late = []
    profile = QoSProfile(depth=1, deadline=Duration(seconds=2.0))
    ros.node.create_subscription(
        DiagnosticStatus,
        STATUS,
        late.append,
        profile,
        event_callbacks=SubscriptionEventCallbacks(deadline=lambda _: missed.set()),
    )
    rig.until(lambda: len(late) > 2, 'beats within a deadline')
    num_beats, start_s = len(late), time.monotonic()
    rig.until(lambda: len(late) >= num_beats + 10, 'beats')
    rate_hz = 10 / (time.monotonic() - start_s)
    assert rate_hz < 7.0, 'five times a second, on a busy machine less'
    node.popen.send_signal(signal.SIGKILL)
    assert missed.wait(15.0), 'no word of the missed deadline'


def test_a_late_joiner_does_not_hear_the_last_word_of_a_dead_node(spawn, ros, tmp_path):
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    pytest.importorskip('onnx', reason='onnx is not installed')
    params = {'model': str(write_fault_model(tmp_path)), 'num_threads': 1, 'cameras': ['plain']}
    node = spawn('node', params)
    node.wait_for_log('loaded in', 60.0)
    beats = ros.collect(STATUS, DiagnosticStatus)
    beats.wait_for(1)
    assert ros.transition(NODE, 'deactivate')
    assert ros.transition(NODE, 'cleanup')
    late = ros.collect(STATUS, DiagnosticStatus)
    wait_until(lambda: not ros.node.count_publishers(STATUS), 20.0, 'the end of the publisher')
    time.sleep(0.5)
    assert not late
