"""Swaps that meet transitions and the end of the process, and what many of them leave behind."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from ros_harness import wait_until
from sensor_msgs.msg import Image
from swapping import DEADLINE_S, NODE, OUT, Stream, swap, write_models
from vision_msgs.msg import LabelInfo

from seg_perception.models import DEFAULT_MODEL
from seg_perception.ros import qos


def test_lifecycle_during_a_load(spawn, ros, tmp_path):
    """A load that takes seconds meets every transition and the end of the process."""
    models = write_models(tmp_path)
    node = spawn('node', {'model': str(models['indoor']), 'num_threads': 1})
    node.wait_for_log('loaded in', DEADLINE_S)
    wait_until(lambda: ros.state(NODE) == 'active', DEADLINE_S, 'an active node')
    slow = {'model': DEFAULT_MODEL, 'input_size_wh': [1200, 1200]}

    def begin():
        assert ros.set_params_atomically(NODE, **slow).successful
        node.wait_for_log(f'loading {DEFAULT_MODEL} beside indoor')

    begin()
    assert ros.transition(NODE, 'deactivate')
    node.wait_for_log(f'{DEFAULT_MODEL} took over', DEADLINE_S)  # an inactive node swaps too
    assert ros.transition(NODE, 'activate')
    swap(ros, model=str(models['indoor']), input_size_wh=[0, 0])
    log = node.log
    begin()
    assert ros.transition(NODE, 'deactivate')
    assert ros.transition(NODE, 'cleanup')
    assert ros.get_params(NODE, 'model') == [DEFAULT_MODEL]  # what the next configure loads
    ros.set_params_atomically(NODE, model=str(models['outdoor']), input_size_wh=[0, 0])
    assert ros.transition(NODE, 'configure', DEADLINE_S)
    assert ros.transition(NODE, 'activate')
    info = ros.collect(f'{OUT}/label_info', LabelInfo, qos.latched()).wait_for(1)[0]
    assert 'road' in [c.class_name for c in info.class_map]
    assert 'took over' not in node.log[len(log) :]
    assert ros.set_params_atomically(NODE, **slow).successful
    assert node.stop(signal.SIGINT) == 0
    assert 'Traceback' not in node.log


@pytest.mark.slow
def test_the_memory_of_old_models_is_freed(spawn, ros):
    """Twenty models of 8 MB and more, one after the other."""
    params = {'input_size_wh': [64, 64], 'num_threads': 1, 'diagnostics_period_s': 0.1}
    node = spawn('node', params, ttl_s=300.0)
    node.wait_for_log('loaded in', DEADLINE_S)
    wait_until(lambda: ros.state(NODE) == 'active', DEADLINE_S, 'an active node')
    ros.collect(f'{OUT}/labels', Image, 10)
    stream = Stream(ros, 0.1)

    def resident_mb():
        status = Path(f'/proc/{node.popen.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s*(\d+)', status).group(1)) / 1024

    for index in range(20):
        swap(ros, input_size_wh=[64 + 32 * (index % 2), 64])
        if index == 5:
            settled_mb = resident_mb()
    stream.stop()
    assert resident_mb() - settled_mb < 14 * 8 / 3
