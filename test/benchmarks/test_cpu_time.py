"""CPU time of other processes is told more finely than in ticks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from seg_perception.benchmarks.cpu_time import process_cpu_s, thread_cpu_s

BUSY = """
import sys, threading, time
def work():
    while time.thread_time() < 0.2: pass
thread = threading.Thread(target=work)
thread.start(); thread.join()
print(time.process_time(), flush=True)
sys.stdin.read()
"""


def test_a_process_has_used_what_it_says_of_itself():
    with subprocess.Popen(
        [sys.executable, '-c', BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said_s = float(process.stdout.readline())
        assert said_s > 0.2  # of a thread that has ended
        assert process_cpu_s(process.pid) == pytest.approx(said_s, abs=0.005)
        process.communicate()
    with pytest.raises(ProcessLookupError):
        process_cpu_s(process.pid)


def test_threads_are_told_apart():
    done, ready = threading.Event(), threading.Event()
    said_s: list[float] = []

    def work() -> None:
        while time.thread_time() < 0.1:
            pass
        said_s.append(time.thread_time())
        ready.set()
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    times_s = {thread_id: cpu_s for _, thread_id, cpu_s in thread_cpu_s(os.getpid())}
    done.set()
    thread.join()
    assert thread.native_id is not None
    assert times_s[thread.native_id] == pytest.approx(said_s[0], abs=0.02)
    assert sum(times_s.values()) <= time.process_time() + 0.005
