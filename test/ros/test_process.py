"""Nodes as processes: they end at once, however idle, and take all that is theirs with them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.distro

MANAGED = """
import time
from rclpy.lifecycle import LifecycleNode
from seg_perception.ros import process
from seg_perception.ros.process import run_node

process.STOP_DEADLINE_S = 60.0  # what is tested is what it leaves when it has the time

class Idle(LifecycleNode):
    def __init__(self):
        super().__init__('idle')
        self.timer = self.create_timer(0.0, self.say)

    def say(self):
        self.destroy_timer(self.timer)
        print('nothing left to do')

    def destroy_node(self):
        print('destroying')
        time.sleep(0.3)
        super().destroy_node()

run_node(Idle, [])
"""
ENDING = """
import threading
from rclpy.node import Node
from seg_perception.ros.process import run_node

class Ending(Node):
    exit_code = None

    def __init__(self):
        super().__init__('ending')
        threading.Timer(0.2, setattr, (self, 'exit_code', 7)).start()

run_node(Ending, [])
"""


def shared_memory_of(pid):
    """The segments that a process owns: their lock files are open in it alone."""
    links = []
    for path in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            links.append(path.readlink())
    locks = [link for link in links if re.search(r'^/dev/shm/fast\w+_[0-9a-f]{16}_el$', str(link))]
    return [*locks, *(Path(str(lock).removesuffix('_el')) for lock in locks)]


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_an_idle_managed_node_ends_at_a_signal_and_leaves_no_shared_memory(spawn, signum):
    node = spawn.command([sys.executable, '-c', MANAGED], name='idle')
    node.wait_for_log('nothing left to do')
    time.sleep(0.1)
    segments = shared_memory_of(node.popen.pid)
    if not segments:
        pytest.skip('this middleware has no shared memory here')
    assert all(path.exists() for path in segments)
    node.popen.send_signal(signum)
    node.wait_for_log('destroying')
    # A second one must not kill it.
    assert node.stop(signal.SIGINT) == 0
    assert [path for path in segments if path.exists()] == []
    assert 'Traceback' not in node.log


def test_a_node_that_says_it_is_done_ends(spawn):
    node = spawn.command([sys.executable, '-c', ENDING], name='ending', expect_exit=7)
    assert node.wait() == 7


STARTER = """
import os, sys
from pathlib import Path
from ros_harness import Process
child = Process('child', ['sleep', '60'], Path('log').absolute(), os.environ, 60.0)
print(child.popen.pid, flush=True)
os._exit(0)
"""


def test_what_tests_start_ends_with_them_even_if_they_are_killed(tmp_path):
    starter = subprocess.run(
        [sys.executable, '-c', STARTER],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        timeout=30.0,
    )
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(starter.stdout)).wait(10.0)
