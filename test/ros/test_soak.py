"""The soak sees what it is there to see, and a short one passes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from ros_harness import wait_until

from seg_perception.errors import EncodingError, InputError
from seg_perception.imaging import check_compressed, check_frame
from seg_perception.messages.cdr import read_compressed_image
from seg_perception.ros.accounting import DropReason
from seg_perception.ros.messages import serialized_to_frame
from seg_perception.ros.soak.bad_messages import BAD_COMPRESSED, BAD_IMAGES
from seg_perception.ros.soak.ledger import FrameTotals, Ledger, Sample, growth
from seg_perception.ros.soak.steps import STEPS, plan

SOAK = [sys.executable, '-m', 'seg_perception.cli.main', 'soak']


@pytest.mark.parametrize('kind', [*BAD_IMAGES, *BAD_COMPRESSED])
def test_bad_messages_are_as_bad_as_they_say(kind):
    message = BAD_IMAGES.get(kind) or BAD_COMPRESSED[kind]

    def check():
        if kind in BAD_IMAGES:
            check_frame(serialized_to_frame(message.make()))
        else:
            check_compressed(read_compressed_image(message.make()))

    with pytest.raises(InputError) as raised:
        check()
    is_unsupported = isinstance(raised.value, EncodingError)
    assert is_unsupported == (message.reason is DropReason.UNSUPPORTED), raised.value


def test_the_same_seed_gives_the_same_steps():
    def first(seed):
        return [(name, rng.random()) for name, rng in itertools.islice(plan(seed), 40)]

    assert first(3) == first(3) != first(4)
    assert {name for name, _ in first(3)[: len(STEPS)]} == set(STEPS)


def test_frames_are_added_up_over_restarts():
    totals = FrameTotals()
    for received, published in ((3, 2), (10, 9), (1, 1), (4, 2)):
        values = {'received': received, 'published': published, 'dropped_stale': 0}
        totals.see({**{k: str(v) for k, v in values.items()}, 'rate_hz': '3.1'})
    assert totals.total() == {'received': 14, 'published': 11}


def ledger_with(rss_mib):
    ledger = Ledger()
    ledger.samples = [Sample(i, 'x', rss, 20, 30) for i, rss in enumerate(rss_mib)]
    return ledger


def kept(ledger, wrong=()):
    return {verdict['name']: verdict['is_kept'] for verdict in ledger.verdicts(wrong)}


def test_growth_is_judged_after_warm_up_and_only_where_there_is_enough_to_judge():
    assert growth([]) == 0.0
    assert growth([1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 5.0, 7.0]) == 5.0
    leaking = ledger_with([100.0 + i for i in range(400)])
    assert kept(leaking)['rss_mib_growth'] is False
    assert growth([3.0, 1.0, 9.0, 9.0, 9.0, 9.0, 4.0, 9.0], min) == 3.0
    busy = ledger_with([100.0 + 200 * (i % 3 > 0) for i in range(400)])
    assert kept(busy)['rss_mib_growth'] is True
    warming_up = ledger_with([100.0 + 5 * min(i, 80) for i in range(400)])
    assert kept(warming_up)['rss_mib_growth'] is True
    assert kept(ledger_with([100.0, 300.0]))['rss_mib_growth'] is None


def test_every_bound_can_break():
    ledger = Ledger()
    assert all(is_kept in (True, None) for is_kept in kept(ledger).values())
    ledger.fault('image: noise', True)
    assert kept(ledger)['faults_not_reported'] is True
    ledger.fault('image: noise', False, {'dropped_unsupported': 1})
    assert kept(ledger)['faults_not_reported'] is False
    assert kept(ledger)['problems'] is False
    assert 'dropped_unsupported' in ledger.problems[0]
    assert kept(Ledger(), ['front: 3 != 2'])['accounts_that_do_not_add_up'] is False
    ledger.crash = 'node ended with -11'
    assert kept(ledger)['crashes'] is False


@pytest.mark.long
def test_a_short_soak_passes(tmp_path):
    report = tmp_path / 'report.json'
    command = [*SOAK, '--minutes', '0.4', '--report', str(report), '--log-dir', str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stdout + result.stderr
    document = json.loads(report.read_text())
    assert document['is_passed']
    assert sum(document['steps'].values()) >= 3
    assert document['labels'] > 10
    assert document['accounts'] > 50
    for totals in document['frames'].values():
        dropped = sum(num for key, num in totals.items() if key.startswith('dropped_'))
        # The newest account may have had a frame at the model.
        assert 0 <= totals['received'] - totals['published'] - dropped <= 2 * len(STEPS)
    assert 'crashes 0 <=0 PASS' in result.stdout


@pytest.mark.slow
def test_a_node_that_dies_fails_the_soak(tmp_path):
    report = tmp_path / 'report.json'
    command = [*SOAK, '--minutes', '3', '--report', str(report)]
    with contextlib.ExitStack() as at_end:
        soak = at_end.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
        at_end.callback(soak.kill)  # a failure here need not wait for its three minutes

        def node():
            for child in psutil.Process(soak.pid).children():
                with contextlib.suppress(psutil.Error):  # one that ends just now
                    if child.cmdline()[3:4] == ['node'] and child.num_threads() > 15:
                        return child
            return None

        found = []

        def is_found():
            found.append(node())
            return found[-1]

        wait_until(is_found, 120.0, 'a node that is active')
        os.kill(found[-1].pid, signal.SIGKILL)
        output, _ = soak.communicate(timeout=60.0)
    assert soak.returncode == 1, output.decode()
    assert 'node ended with -9' in json.loads(report.read_text())['crash']
