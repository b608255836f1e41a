"""``seg-perception demo`` with real processes: what it shows, what it leaves, how it ends."""

from __future__ import annotations

import json
import signal
import sys

import cv2
import numpy as np
import pytest

DEMO = [sys.executable, '-m', 'seg_perception.cli.main', 'demo', '--out', 'out']


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / 'photograph.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
    return str(path)


@pytest.mark.distro
def test_demo_shows_a_summary_and_saves_the_overlay(spawn, tmp_path):
    pytest.importorskip('skimage', reason="scikit-image (extra 'demo') is not installed")
    demo = spawn.command([*DEMO, '--seconds', '5'], name='demo', ttl_s=150.0)
    assert demo.wait(timeout_s=120.0) == 0
    *_, published, rate, latency, classes, overlay = demo.log.splitlines()
    assert published.startswith('frames published  ')
    assert rate.startswith('rate  ')
    assert latency.startswith('latency p50/p95  ')
    assert classes.startswith('classes seen  ')
    assert overlay == 'overlay           out/overlay.png'
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['frames_published'] >= summary['labels_received'] >= 3
    # The camera looks at the astronaut first.
    assert summary['class_shares']['person'] > 0.1
    # One tile for each thing that was seen: how many depends on how long the start took.
    height, width = cv2.imread(str(tmp_path / 'out' / 'overlay.png')).shape[:2]
    assert (height % 508, width % 640) == (0, 0)


def test_demo_ends_on_a_signal_with_its_summary(spawn, photograph):
    demo = spawn.command([*DEMO, '--source', photograph, '--seconds', '600'], name='demo')
    demo.wait_for_log(' frames ', timeout_s=90.0)
    assert demo.stop(signal.SIGINT) == 0
    assert 'frames published  ' in demo.log
    assert 'Traceback' not in demo.log


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--source', '/nowhere'], "error: no such source: '/nowhere'"),
        (['--model', 'no_such_model'], 'no_such_model'),
    ],
)
def test_demo_shows_what_failed(spawn, photograph, arguments, message):
    demo = spawn.command(
        [*DEMO, '--seconds', '5', '--source', photograph, *arguments], name='demo', expect_exit=1
    )
    assert demo.wait(timeout_s=90.0) == 1
    assert message in demo.log
    assert 'error: no label image was published' in demo.log
    assert 'Traceback' not in demo.log
