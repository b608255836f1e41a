"""A model that fails is brought back to work, or given up with the reason."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seg_perception import recovery
from seg_perception.backends.failures import device_failures, translated
from seg_perception.errors import (
    ConfigurationError,
    DeviceLostError,
    DeviceMemoryError,
    ImageLayoutError,
    InferenceError,
    ModelLostError,
    WeightsError,
)
from seg_perception.pipeline.pending import FinishedSegmentations
from seg_perception.recovery import ResilientSegmenter
from seg_perception.structures import ClassTable, Segmentation

TIMEOUT_S = 20.0
CLASSES = ClassTable(('floor',))


class Model:
    """Fails as it is told, in order; None succeeds."""

    has_confidence = True
    classes = CLASSES

    def __init__(self, faults, log):
        self.confidence_threshold = 0.0
        self._faults = faults
        self.log = log
        self.is_closed = False
        log.append('load')

    def segment(self, images, **_):
        self.log.append(len(images))
        fault = self._faults.pop(0) if self._faults else None
        if callable(fault):
            fault()
        elif fault is not None:
            raise fault
        return [Segmentation(image, None, CLASSES, {}) for image in images]

    def start(self, images, **_):
        """What is made of it fails where ``'late'`` comes before the fault."""
        if self._faults[:1] == ['late']:
            del self._faults[0]
            self.log.append('start')
            return SimpleNamespace(results=lambda: self.segment(images))
        return FinishedSegmentations(self.segment(images))

    def description(self):
        return {'model': 'told'}

    can_scale_input = True

    def scale_input(self, scale):
        self.scale = scale

    def free_caches(self):
        self.log.append('free')

    def close(self):
        self.log.append('close')


IMAGES = [np.full((1, 1), value, np.uint8) for value in range(3)]
MEMORY = DeviceMemoryError('out of device memory')
LOST = DeviceLostError('the device failed')
FAILED = InferenceError('got NaN')


class Rig:
    """A resilient segmenter whose models fail with ``faults``, in order."""

    def __init__(self, *faults, load_error=None, **options):
        self.log, self.lines = [], []
        self.faults, self.load_error = list(faults), None
        self.segmenter = ResilientSegmenter(self.load, report=self.lines.append, **options)
        self.load_error = load_error

    def load(self):
        if self.load_error is not None:
            raise self.load_error
        return Model(self.faults, self.log)

    def segment(self, images=IMAGES[:1]):
        return [int(r.labels_YX[0, 0]) for r in self.segmenter.segment(images)]


def test_what_works_is_left_alone():
    rig = Rig()
    assert rig.segment(IMAGES) == [0, 1, 2]
    assert rig.log == ['load', 3]
    assert rig.segmenter.batch_limit is None
    assert rig.lines == []


def test_out_of_memory_frees_caches_and_goes_one_by_one():
    rig = Rig(MEMORY)
    assert rig.segment(IMAGES) == [0, 1, 2]
    assert rig.log == ['load', 3, 'free', 1, 1, 1]
    assert rig.segmenter.batch_limit == 1
    [line] = rig.lines
    assert 'caches are freed and 3 image(s) tried one by one' in line


@pytest.mark.parametrize(
    ('fault', 'log'),
    [
        (MEMORY, ['load', 'start', 3, 'free', 1, 1, 1]),
        (LOST, ['load', 'start', 3, 'close', 'load', 3]),
    ],
)
def test_results_that_fail_are_made_once_more_as_if_the_start_had_failed(fault, log):
    rig = Rig('late', fault)
    assert rig.segment(IMAGES) == [0, 1, 2]
    assert rig.log == log


def test_what_was_started_before_the_model_was_lost_is_segmented_by_the_next_one():
    """And its failure says nothing of the one that took over."""
    rig = Rig('late', 'late', LOST, None, LOST)
    first, second = (rig.segmenter.start(IMAGES[:num]) for num in (1, 2))
    assert len(first.results()) == 1
    assert len(second.results()) == 2
    assert rig.segmenter.num_reloads == 1
    assert rig.log == ['load', 'start', 'start', 1, 'close', 'load', 1, 2, 2]
    assert rig.segment() == [0]


def test_nobody_starts_images_while_another_thread_brings_the_model_back():
    loading, go_on = threading.Event(), threading.Event()
    rig = Rig('late', LOST)

    def load():
        loading.set()
        assert go_on.wait(TIMEOUT_S)
        return Model(rig.faults, rig.log)

    pending = rig.segmenter.start(IMAGES[:1])
    rig.segmenter._load = load
    results, started = [], []
    failing = threading.Thread(target=lambda: results.append(pending.results()))
    failing.start()
    assert loading.wait(TIMEOUT_S)
    starting = threading.Thread(target=lambda: started.append(rig.segmenter.start(IMAGES[:2])))
    starting.start()
    starting.join(0.2)
    assert not started
    go_on.set()
    failing.join(TIMEOUT_S)
    starting.join(TIMEOUT_S)
    assert len(results[0]) == 1
    assert len(started[0].results()) == 2
    assert rig.log == ['load', 'start', 1, 'close', 'load', 1, 2]


def test_results_that_never_come_are_a_call_that_hangs():
    hang = threading.Event()
    rig = Rig('late', hang.wait)
    pending = rig.segmenter.start(IMAGES[:1])
    assert not rig.segmenter.is_hanging(0.0)
    failures = []

    def ask():
        try:
            pending.results()
        except InferenceError as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not rig.segmenter.is_hanging(0.0):
        assert asking.is_alive()
    rig.segmenter.abandon('it hangs')
    assert not rig.segmenter.is_hanging(0.0)
    assert rig.segment() == [0]
    hang.set()
    asking.join(TIMEOUT_S)
    assert 'abandoned' in str(failures[0])
    assert rig.segment() == [0]


def test_small_batches_end(monkeypatch):
    monkeypatch.setattr(recovery, 'SMALL_BATCHES_S', 0.0)
    rig = Rig(MEMORY)
    rig.segment(IMAGES)
    assert rig.segmenter.batch_limit is None


def test_memory_that_stays_out_loses_the_images_and_the_next_come_through():
    rig = Rig(MEMORY, MEMORY)
    with pytest.raises(DeviceMemoryError):
        rig.segment()
    assert rig.segment() == [0]
    assert 'close' not in rig.log


@pytest.mark.parametrize('fault', [FAILED, MEMORY, RuntimeError('an operator raised')])
def test_so_many_failures_in_a_row_load_the_model_anew(fault):
    calls = 2 if fault is MEMORY else 1  # memory is tried for twice
    rig = Rig(*[fault] * 3 * calls, max_failures=3)
    for _ in range(3):
        with pytest.raises(type(fault)):
            rig.segment()
    assert rig.log.count('close') == 1
    assert rig.segment() == [0]
    assert rig.log.count('load') == 2
    assert rig.segmenter.num_reloads == 1
    assert rig.segmenter.description() == {'model': 'told', 'model_reloads': '1'}
    assert '3 calls in a row failed' in rig.lines[-1]


def test_failures_that_are_not_in_a_row_do_not_add_up():
    rig = Rig(*[FAILED, FAILED, None] * 5, max_failures=3)
    for _ in range(5):
        for _ in range(2):
            with pytest.raises(InferenceError):
                rig.segment()
        rig.segment()
    assert rig.log.count('load') == 1


def test_a_model_that_fails_on_after_it_was_loaded_anew_is_lost():
    rig = Rig(*[FAILED] * 9, max_failures=2)
    for _ in range(3):
        with pytest.raises(InferenceError):
            rig.segment()
    with pytest.raises(ModelLostError, match=r'2 calls in a row failed.*got NaN.*after it was'):
        rig.segment()
    num_calls = len(rig.log)
    with pytest.raises(ModelLostError):
        rig.segment()
    assert len(rig.log) == num_calls, 'a lost model is not asked again'


def test_a_success_earns_another_chance():
    rig = Rig(*[FAILED, FAILED, None] * 3, max_failures=2)
    for _ in range(3):
        for _ in range(2):
            with pytest.raises(InferenceError):
                rig.segment()
        rig.segment()
    assert rig.segmenter.num_reloads == 3


@pytest.mark.parametrize('error', [ImageLayoutError('step'), ConfigurationError('size')])
def test_bad_input_says_nothing_of_the_model(error):
    rig = Rig(*[error] * 20, max_failures=1)
    for _ in range(20):
        with pytest.raises(type(error)):
            rig.segment()
    assert rig.log.count('load') == 1


def test_a_lost_device_is_tried_once_more_and_needs_a_new_process_if_it_stays_lost():
    rig = Rig(LOST)
    assert rig.segment() == [0]
    assert rig.log == ['load', 1, 'close', 'load', 1]
    stays = Rig(LOST, load_error=DeviceLostError('the device failed'))
    with pytest.raises(ModelLostError, match='cannot be loaded anew') as caught:
        stays.segment()
    assert caught.value.needs_new_process


def test_a_model_file_that_is_gone_loses_the_model():
    rig = Rig(FAILED, max_failures=1, load_error=WeightsError('no such file'))
    with pytest.raises(InferenceError):
        rig.segment()
    with pytest.raises(ModelLostError, match=r'got NaN.*no such file') as caught:
        rig.segment()
    assert not caught.value.needs_new_process


def test_the_threshold_outlives_the_model():
    rig = Rig(FAILED, max_failures=1)
    rig.segmenter.confidence_threshold = 0.5
    with pytest.raises(InferenceError):
        rig.segment()
    rig.segment()
    assert rig.segmenter.confidence_threshold == 0.5


def test_a_model_that_hangs_is_abandoned_and_its_late_word_counts_for_nothing():
    hangs, go_on = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        assert go_on.wait(TIMEOUT_S)

    rig = Rig(hang, None, hang)
    outcome = []

    def call():
        try:
            outcome.append(rig.segment())
        except InferenceError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert hangs.wait(TIMEOUT_S)
    assert not rig.segmenter.is_hanging(60.0)
    assert rig.segmenter.is_hanging(0.0)
    rig.segmenter.abandon('it hangs')
    assert not rig.segmenter.is_hanging(0.0)
    assert rig.segment(IMAGES[1:]) == [1, 2], 'a new one works beside it'
    go_on.set()
    thread.join(TIMEOUT_S)
    [error] = outcome
    assert 'abandoned' in str(error)
    assert rig.log.count('close') == 0, 'what hangs cannot be closed'


def test_a_model_that_hangs_twice_needs_a_new_process():
    rig = Rig()
    rig.segmenter.abandon('it hangs')
    with pytest.raises(ModelLostError, match='hangs again') as caught:
        rig.segmenter.abandon('it hangs')
    assert caught.value.needs_new_process
    with pytest.raises(ModelLostError):
        rig.segment()


def test_closed_means_closed():
    rig = Rig()
    rig.segmenter.close()
    rig.segmenter.close()
    assert rig.log == ['load', 'close']
    with pytest.raises(ModelLostError):
        rig.segment()


@pytest.mark.parametrize(
    ('error', 'kind'),
    [
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'), DeviceMemoryError),
        (MemoryError(), DeviceMemoryError),
        (RuntimeError('CUDA error: out of memory'), DeviceMemoryError),
        (RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'), DeviceMemoryError),
        (RuntimeError('[ONNXRuntimeError] : 6 : std::bad_alloc'), DeviceMemoryError),
        (RuntimeError('CUDA error: device-side assert triggered'), DeviceLostError),
        (RuntimeError('CUDA error: an illegal memory access was encountered'), DeviceLostError),
        (RuntimeError('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED'), DeviceLostError),
    ],
)
def test_what_a_device_says_is_understood(error, kind):
    with pytest.raises(kind), device_failures('net', 'on a batch'):
        raise error
    with pytest.raises(kind), translated('net', 'on a batch'):
        raise error


def test_other_errors_are_left_alone_or_translated():
    with pytest.raises(KeyError), device_failures('net', 'on a batch'):
        raise KeyError('bug')
    with (
        pytest.raises(InferenceError, match='net: failed on a batch: KeyError') as caught,
        translated('net', 'on a batch'),
    ):
        raise KeyError('bug')
    assert type(caught.value) is InferenceError


def test_memory_that_the_cpu_does_not_have():
    with pytest.raises(DeviceMemoryError), device_failures('net', 'on a batch'):
        torch.empty(2**50)
