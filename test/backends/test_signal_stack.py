"""Signals after OpenVINO was loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading
from seg_perception import Segmenter
segmenter = Segmenter(engine='openvino')
for _ in range(200):
    try:  # around the start too: on a busy machine the signal comes before it returns
        threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGINT)).start()
        threading.Event().wait(5)
    except KeyboardInterrupt:
        continue
    sys.exit('not interrupted')
print('survived')
"""


def test_signals_are_survived_beside_openvino() -> None:
    pytest.importorskip('openvino')
    run = subprocess.run(
        [sys.executable, '-c', SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert 'survived' in run.stdout
