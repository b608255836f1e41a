"""The worker and its publisher, with a model that does as it is told."""

from __future__ import annotations

import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from seg_perception.errors import InferenceError
from seg_perception.ros.accounting import CameraAccount
from seg_perception.ros.frame_result import FrameResult
from seg_perception.ros.jobs import Job
from seg_perception.ros.load import LoadControl, LoadStep
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.mailbox import Mailboxes
from seg_perception.ros.params import Parameters
from seg_perception.ros.worker import SegmentationWorker
from seg_perception.structures import ClassTable, Frame, Segmentation

CLASSES = ClassTable(('floor',))
TIMEOUT_S = 20.0


class Lines(list):
    """Takes lines as an rclpy logger does."""

    error = warning = list.append


class Model:
    """Says when it was called; fails on frames of one stamp, and on others when it is asked."""

    def __init__(self):
        self.called = threading.Semaphore(0)
        self.fails_at_ns = self.hangs_at_ns = self.fails_late_at_ns = self.hangs_late_at_ns = None
        self.go_on = threading.Event()
        self.num_images = []

    batch_limit = None
    can_scale_input = True
    takes_prompts = False

    def scale_input(self, scale):
        assert scale == 1.0

    def start(self, frames, **_):
        stamps_ns = [frame.stamp_ns for frame in frames]
        self.num_images.append(len(frames))
        self.called.release()
        self._work(stamps_ns, self.hangs_at_ns, self.fails_at_ns)

        def results():
            self._work(stamps_ns, self.hangs_late_at_ns, self.fails_late_at_ns)
            labels = np.zeros((1, 1), np.uint8)
            return [Segmentation(labels, None, CLASSES, {}, stamp_ns=ns) for ns in stamps_ns]

        return SimpleNamespace(results=results)

    def _work(self, stamps_ns, hangs_at_ns, fails_at_ns):
        if hangs_at_ns in stamps_ns:
            assert self.go_on.wait(TIMEOUT_S)
        if fails_at_ns in stamps_ns:
            raise InferenceError('no')


class Outputs:
    """Publishes when it is allowed to."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.published = []
        self.fails_at_ns = None

    def wanted(self):
        return frozenset({'labels'})

    def needs_confidence(self, _topics):
        return False

    needs_depth = needs_objects = needs_confidence

    def publish(self, result, _topics):
        self.started.release()
        assert self.allowed.acquire(timeout=TIMEOUT_S)
        if result.segmentation.stamp_ns == self.fails_at_ns:
            raise RuntimeError('cannot publish')
        self.published.append(result.segmentation.stamp_ns)
        return 1, {}


class Rig:
    """A worker with two cameras that publish to the same outputs."""

    def __init__(self):
        self.model, self.outputs, self.account = Model(), Outputs(), CameraAccount()
        self.lines, self.load = Lines(), LoadControl()
        self.mailboxes = Mailboxes(Job.inherit)
        self.mailboxes.open()
        cameras = {
            name: SimpleNamespace(
                name=name,
                outputs=self.outputs,
                account=self.account,
                frame_result=lambda _, frame, segmentation, __: FrameResult(frame, segmentation),
            )
            for name in ('front', 'rear')
        }
        self.worker = SegmentationWorker(
            self.model,
            cameras,
            self.mailboxes,
            Parameters,
            lambda: 0,
            self.load,
            ThrottledLog(self.lines, math.inf),
            lambda _: None,
        )
        self.worker.start()

    def send(self, stamp_ns, camera='front'):
        self.account.receive()
        frame = Frame.from_array(np.zeros((1, 1, 3), np.uint8), stamp_ns=stamp_ns)
        assert self.mailboxes.put(camera, Job(frame, time.monotonic())) is None

    def wait_until_accounted_for(self):
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.account.snapshot().pending and time.monotonic() < deadline_s:
            time.sleep(0.005)


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.outputs.allowed.release(100)
    assert rig.worker.stop(TIMEOUT_S)


def test_the_model_works_while_results_are_published_and_none_is_queued(rig):
    rig.send(1)
    assert rig.outputs.started.acquire(timeout=TIMEOUT_S)
    rig.send(2)
    assert rig.model.called.acquire(timeout=TIMEOUT_S)
    assert rig.model.called.acquire(timeout=TIMEOUT_S), 'the second while the first is published'
    rig.send(3)  # the second result waits for the first, so nobody takes the third frame
    assert not rig.model.called.acquire(timeout=0.2)
    assert not rig.outputs.started.acquire(blocking=False)
    assert rig.account.snapshot().pending == 3
    rig.outputs.allowed.release(3)
    for _ in range(2):
        assert rig.outputs.started.acquire(timeout=TIMEOUT_S)
    assert rig.worker.stop(TIMEOUT_S)
    assert rig.outputs.published == [1, 2, 3]
    now = rig.account.snapshot()
    assert (now.received, now.published, now.pending) == (3, 3, 0)


def test_stopping_waits_for_what_is_under_way(rig):
    rig.send(1)
    assert rig.outputs.started.acquire(timeout=TIMEOUT_S)
    assert not rig.worker.stop(0.05)
    rig.outputs.allowed.release()
    assert rig.worker.stop(TIMEOUT_S)
    assert rig.outputs.published == [1]
    assert rig.account.snapshot().pending == 0


def test_an_exchange_comes_between_two_frames(rig):
    new = Model()

    def exchange():
        seen.append(list(rig.outputs.published))
        return new

    seen = []
    new.can_scale_input = False
    rig.send(1)
    assert rig.outputs.started.acquire(timeout=TIMEOUT_S)
    rig.worker.exchange(exchange)
    rig.send(2)
    assert not new.called.acquire(timeout=0.2), 'while the frame before it is being published'
    rig.outputs.allowed.release(2)
    assert new.called.acquire(timeout=TIMEOUT_S)
    assert rig.outputs.started.acquire(timeout=TIMEOUT_S)
    assert seen == [[1]]
    rig.worker.exchange(exchange)  # nobody need send anything, and stopping does not forget it
    assert rig.worker.stop(TIMEOUT_S)
    assert seen == [[1], [1, 2]]
    for _ in range(5):
        rig.load.observe(2.0, 1.0)
    assert rig.load.step == LoadStep(one_in=2), 'the new model has one input size only'


def test_an_exchange_that_comes_as_the_worker_ends_is_made(rig):
    made, original = [], rig.worker._make_exchanges

    def make_exchanges():
        original()
        if not rig.mailboxes.is_open and not made:
            rig.worker.exchange(lambda: made.append(1) or rig.model)

    rig.worker._make_exchanges = make_exchanges
    assert rig.worker.stop(TIMEOUT_S)
    assert made == [1]


def test_whatever_fails_is_counted_and_the_next_frame_comes_through(rig):
    rig.outputs.allowed.release(10)
    rig.model.fails_at_ns, rig.outputs.fails_at_ns, rig.model.fails_late_at_ns = 1, 2, 3
    for stamp_ns in (1, 2, 3, 4):
        rig.send(stamp_ns)
        rig.wait_until_accounted_for()
    now = rig.account.snapshot()
    assert (now.published, now.dropped['model_error'], now.pending) == (1, 3, 0)
    assert rig.outputs.published == [4]
    assert [line.splitlines()[-1] for line in rig.lines] == [
        'front: no',
        'RuntimeError: cannot publish',
    ], 'the same is not said again at once'


@pytest.mark.parametrize('is_late', [False, True])
def test_one_bad_frame_does_not_take_the_others_of_its_batch_with_it(rig, is_late):
    rig.outputs.allowed.release(10)
    rig.model.hangs_at_ns = 1
    rig.send(1)
    assert rig.model.called.acquire(timeout=TIMEOUT_S)
    rig.model.fails_at_ns, rig.model.fails_late_at_ns = (None, 2) if is_late else (2, None)
    rig.send(2)
    rig.send(3, 'rear')
    rig.model.go_on.set()
    rig.wait_until_accounted_for()
    now = rig.account.snapshot()
    assert (now.published, now.dropped['model_error'], now.pending) == (2, 1, 0)
    assert rig.outputs.published == [1, 3]
    assert rig.model.num_images == [1, 2, 1, 1]


@pytest.mark.parametrize('is_late', [False, True])
def test_a_worker_that_waits_for_ever_is_succeeded_and_its_frames_are_counted_once(rig, is_late):
    rig.outputs.allowed.release(10)
    rig.model.hangs_at_ns, rig.model.hangs_late_at_ns = (None, 1) if is_late else (1, None)
    rig.send(1)
    assert rig.model.called.acquire(timeout=TIMEOUT_S)
    hanging = rig.worker
    rig.worker = hanging.succeed('it hangs')
    assert hanging.stop(0.0), 'nobody waits for it'
    rig.mailboxes.open()
    rig.worker.start()
    now = rig.account.snapshot()
    assert (now.dropped['model_error'], now.pending) == (1, 0)
    rig.send(2)
    rig.wait_until_accounted_for()
    rig.model.go_on.set()
    hanging.join(TIMEOUT_S)
    assert not hanging.is_alive()
    now = rig.account.snapshot()
    assert (now.received, now.published, now.pending) == (2, 1, 0)
    assert rig.outputs.published == [2]


def test_an_abandoned_worker_leaves_an_exchange_that_waits_to_its_successor(rig):
    rig.outputs.allowed.release(10)
    new, made, waits = Model(), [], threading.Event()
    left, original = rig.worker, rig.worker._finisher.wait

    def wait():
        waits.set()
        original()

    def exchange():
        made.append(threading.current_thread())
        return new

    rig.model.hangs_late_at_ns = 1
    rig.send(1)
    assert rig.model.called.acquire(timeout=TIMEOUT_S)
    while left._finisher._is_idle.is_set():  # it is about to have the results made
        time.sleep(0.001)
    left._finisher.wait = wait
    left.exchange(exchange)
    assert waits.wait(TIMEOUT_S)
    rig.worker = left.succeed('it hangs')
    rig.model.go_on.set()
    left.join(TIMEOUT_S)
    assert not left.is_alive()
    assert made == []
    rig.worker.start()
    rig.send(2)
    rig.wait_until_accounted_for()
    assert made == [rig.worker]
    assert new.num_images == [1]
    assert rig.outputs.published == [2]


def test_a_frame_that_an_abandoned_worker_has_just_taken_is_counted(rig):
    """It is not with the model yet."""
    taken, original = threading.Event(), rig.worker._prepare

    def prepare(*args):
        taken.set()
        assert rig.model.go_on.wait(TIMEOUT_S)
        return original(*args)

    left = rig.worker
    left._prepare = prepare
    rig.send(1)
    assert taken.wait(TIMEOUT_S)
    rig.worker = left.succeed('it hangs')
    rig.model.go_on.set()
    left.join(TIMEOUT_S)
    assert not left.is_alive()
    rig.worker.start()
    now = rig.account.snapshot()
    assert (now.received, now.dropped['model_error'], now.pending) == (1, 1, 0)
    assert not rig.model.called.acquire(blocking=False)


def test_an_abandoned_worker_leaves_the_frames_that_come_to_its_successor(rig):
    rig.outputs.allowed.release(10)
    left, rig.worker = rig.worker, rig.worker.succeed('it hangs')
    left.join(TIMEOUT_S)
    assert not left.is_alive()
    rig.send(1)
    rig.worker.start()
    rig.wait_until_accounted_for()
    assert rig.outputs.published == [1]
