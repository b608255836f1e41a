"""A model that fails for real, in the real node: see `fault_model` for how it is made to."""

from __future__ import annotations

import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fault_model import harmless, marked, write_fault_model
from ros_harness import wait_until
from sensor_msgs.msg import Image

from seg_perception.ros import qos
from seg_perception.ros.messages import array_to_image, make_header

NODE = 'segmentation'
INPUT = '/camera/image_raw'
OUT = '/camera/segmentation'


class Bench:
    """A camera, a listener, and what the node says of itself."""

    def __init__(self, ros):
        self.ros = ros
        self.labels = ros.collect(f'{OUT}/labels', Image, qos.output())
        self.diagnostics = ros.collect('/diagnostics', DiagnosticArray)
        self.beats = ros.collect(f'{OUT}/status', DiagnosticStatus, 10)
        self.publisher = ros.publisher(INPUT, Image, qos.sensor_input())

    def send(self, image):
        self.publisher.publish(array_to_image(image, 'rgb8', make_header(time.time_ns(), 'cam')))

    def send_until(self, image, condition, what, timeout_s=30.0):
        def done():
            self.send(image)
            time.sleep(0.05)
            return condition()

        wait_until(done, timeout_s, what)

    def status(self, name):
        for message in reversed(self.diagnostics):
            for status in message.status:
                if status.name == f'{NODE}: {name}':
                    return status
        return None

    def counts(self):
        return {v.key: float(v.value) for v in self.status('camera').values}

    def reloads(self):
        return int({v.key: v.value for v in self.status('device').values}['model_reloads'])

    def works(self):
        """Sends harmless images until labels come again."""
        num_labels = len(self.labels)
        self.send_until(harmless(), lambda: len(self.labels) > num_labels, 'labels')


@pytest.fixture
def start(spawn, ros, tmp_path):
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    pytest.importorskip('onnx', reason='onnx is not installed')

    def start(*, expect_exit=0, **params):
        params = {
            'model': str(write_fault_model(tmp_path)),
            'num_threads': 1,
            'diagnostics_period_s': 0.2,
            'status_period_s': 0.1,
            'max_frame_age_s': 5.0,
            **params,
        }
        process = spawn('node', params, expect_exit=expect_exit)
        process.wait_for_log('loaded in', 60.0)
        return process, Bench(ros)

    return start


def test_a_model_that_hangs_is_left_and_loaded_anew_and_lost_when_it_hangs_again(start, ros):
    node, bench = start(model_timeout_s=1.0, restart_delay_s=0.0)
    bench.works()
    bench.send(marked('hang'))
    node.wait_for_log('the model has worked on one batch for more than 1 s: it is loaded anew')
    bench.works()
    wait_until(lambda: bench.reloads() == 1, 10.0, 'the reload on /diagnostics')
    wait_until(lambda: bench.counts()['dropped_model_error'] == 1, 10.0, 'the frame it hung on')
    # It worked in between, so it may hang again; then twice without a success.
    for _ in range(2):
        bench.send(marked('hang'))
        time.sleep(0.3)
        bench.send(marked('hang'))
    node.wait_for_log('the model is lost')
    ros.wait_for_state(NODE, 'unconfigured')
    wait_until(
        lambda: 'hangs again after it was loaded anew' in bench.status('device').message,
        10.0,
        'the reason on /diagnostics',
    )
    assert bench.status('device').level == DiagnosticStatus.ERROR
    # Those that hang burn a core each for ever: the process has to end by itself all the same.


def test_a_hanging_model_ends_the_process_where_that_is_wanted(start):
    node, bench = start(model_timeout_s=0.6, exit_on_fault=True, expect_exit=70)
    bench.works()
    deadline_s = time.monotonic() + 30.0
    while node.is_running() and time.monotonic() < deadline_s:
        bench.send(marked('hang'))
        time.sleep(0.1)
    assert node.wait() == 70
    assert 'the model is lost' in node.log


def test_ten_failures_load_the_model_anew_and_ten_more_start_the_node_anew(start, ros):
    node, bench = start(restart_delay_s=0.3, max_model_failures=3)
    bench.works()
    bench.send_until(
        marked('raise'), lambda: 'configures anew in 0.3 s' in node.log, 'the node to give up'
    )
    assert '3 calls in a row failed, the last one with' in node.log
    assert 'after it was loaded anew' in node.log
    bench.works()
    ros.wait_for_state(NODE, 'active')
    wait_until(
        lambda: bench.status('device').level == DiagnosticStatus.OK, 20.0, 'a device that is well'
    )


def test_a_latency_budget_is_kept_by_doing_less_and_labels_keep_their_size(spawn, ros):
    node = spawn(
        'node',
        {'input_size_wh': [512, 512], 'num_threads': 1, 'diagnostics_period_s': 0.2},
    )
    node.wait_for_log('loaded in', 60.0)
    bench = Bench(ros)
    image = harmless((240, 320))
    full = []

    def has_full():
        full[:] = [bench.counts()] if bench.status('camera') else []
        return full and full[0]['published'] > 5

    bench.send_until(image, has_full, 'frames at full size', 60.0)
    budget_ms = 0.6 * full[0]['stage_infer_p50_ms']
    [result] = ros.set_params(NODE, latency_budget_ms=budget_ms)
    assert result.successful
    bench.send_until(
        image,
        lambda: 'less is done to keep latency_budget_ms' in bench.status('device').message,
        'less to be done',
        60.0,
    )
    assert bench.status('device').level == DiagnosticStatus.WARN
    wait_until(lambda: 'exceed the budget' in node.log, 10.0, 'a line in the log')
    num_labels = len(bench.labels)
    bench.send_until(image, lambda: len(bench.labels) > num_labels, 'labels')
    assert (bench.labels[-1].height, bench.labels[-1].width) == (240, 320)
    ros.set_params(NODE, latency_budget_ms=0.0)
    bench.send_until(
        image, lambda: bench.status('device').level == DiagnosticStatus.OK, 'everything', 60.0
    )
