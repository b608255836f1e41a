"""Shared memory of killed processes is removed, that of living ones is not."""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from ros_harness import wait_until

from seg_perception.ros.shared_memory import SHARED_MEMORY, remove_orphans

pytestmark = pytest.mark.distro

PARTICIPANT = """
import time, rclpy
rclpy.init()
node = rclpy.create_node('participant')
print('here', flush=True)
time.sleep(60)
"""


def files(folder, name, *, num_bytes=8192, age_s=100.0):
    segment, lock = folder / name, folder / f'{name}_el'
    segment.write_bytes(b'x' * num_bytes)
    lock.touch()
    for path in (segment, lock):
        os.utime(path, (time.time() - age_s,) * 2)
    return segment, lock


def test_only_old_segments_that_nobody_holds_are_removed(tmp_path):
    dead = files(tmp_path, 'fastrtps_0123456789abcdef')
    young = files(tmp_path, 'fastrtps_0123456789abcde0', age_s=1.0)
    held = files(tmp_path, 'fastdds_0123456789abcde1')
    others = files(tmp_path, 'fastrtps_port7400')
    lone = tmp_path / 'fastrtps_0123456789abcde2_el'  # its segment is gone already
    lone.touch()
    os.utime(lone, (0, 0))
    with held[1].open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_orphans(tmp_path) == (2, 8192)
        assert remove_orphans(tmp_path) == (0, 0)
    left = set(tmp_path.iterdir())
    assert left == {*young, *held, *others}
    assert not set(dead) & left
    assert remove_orphans(tmp_path / 'missing') == (0, 0)


def owned_by(pid):
    """Segments whose lock files a process has open."""
    found = set()
    for path in Path(f'/proc/{pid}/fd').iterdir():
        try:
            link = str(path.readlink())
        except FileNotFoundError:  # closed since it was listed
            continue
        if re.fullmatch(rf'{SHARED_MEMORY}/fast\w+_[0-9a-f]{{16}}_el', link):
            found.add(Path(link.removesuffix('_el')))
    return found


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
def test_a_killed_participant_leaves_what_a_living_one_keeps(spawn):
    dead, living = (
        spawn.command(
            [sys.executable, '-c', PARTICIPANT],
            name='participant',
            # Apart: those who hear each other hold each other's memory.
            env={'ROS_DOMAIN_ID': str(domain_id)},
            expect_exit=None,
        )
        for domain_id in random.SystemRandom().sample(range(100, 231), 2)
    )
    for process in (dead, living):
        process.wait_for_log('here')
    of_dead, of_living = (owned_by(process.popen.pid) for process in (dead, living))
    if not of_dead:
        pytest.skip('this middleware has no shared memory here')
    dead.popen.send_signal(signal.SIGKILL)
    dead.popen.wait(10.0)
    assert all(path.exists() for path in of_dead), 'nobody else takes it away'

    def is_gone():
        remove_orphans(min_age_s=0.5)
        return not any(path.exists() for path in of_dead)

    wait_until(is_gone, 10.0, 'the memory of the dead')
    assert all(path.exists() for path in of_living)
