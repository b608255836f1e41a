"""One slot per camera, newest wins, fair by weight."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from seg_perception.ros.mailbox import Mailboxes


@pytest.fixture
def mailboxes():
    boxes = Mailboxes()
    boxes.open()
    return boxes


def test_newest_wins(mailboxes):
    assert mailboxes.put('front', 1) is None
    assert mailboxes.put('front', 2) == 1
    assert mailboxes.take(8, {}) == [('front', 2)]


def test_takes_one_of_each_camera(mailboxes):
    mailboxes.put('front', 1)
    mailboxes.put('rear', 2)
    assert sorted(mailboxes.take(8, {})) == [('front', 1), ('rear', 2)]


def test_a_closed_mailbox_gives_back_what_it_gets():
    boxes = Mailboxes()
    assert boxes.put('front', 1) == 1
    boxes.open()
    boxes.put('front', 2)
    assert boxes.close() == [('front', 2)]
    assert boxes.take(8, {}) == []
    boxes.open()
    boxes.put('front', 3)
    assert boxes.take(8, {}) == [('front', 3)]


def test_closing_wakes_the_worker(mailboxes):
    taken = []
    worker = threading.Thread(target=lambda: taken.append(mailboxes.take(8, {})))
    worker.start()
    mailboxes.close()
    worker.join(5.0)
    assert taken == [[]]


@pytest.mark.parametrize('weights', [{}, {'a': 2.0}, {'a': 3.0, 'b': 0.5}])
def test_cameras_that_always_wait_share_by_weight(mailboxes, weights):
    served = Counter()
    for camera in 'abc':
        mailboxes.put(camera, camera)
    for _ in range(900):
        [(camera, _)] = mailboxes.take(1, weights)
        served[camera] += 1
        mailboxes.put(camera, camera)
    total = sum(weights.get(camera, 1.0) for camera in 'abc')
    for camera in 'abc':
        assert served[camera] == pytest.approx(900 * weights.get(camera, 1.0) / total, abs=3)


def test_a_heavy_camera_is_in_every_batch_its_weight_deserves(mailboxes):
    weights = {'heavy': 10.0}
    served = Counter()
    for _ in range(60):
        for camera in ('b', 'c', 'd', 'heavy'):
            mailboxes.put(camera, camera)
        served.update(camera for camera, _ in mailboxes.take(2, weights))
    assert served['heavy'] >= 55


def test_silence_gains_no_credit(mailboxes):
    mailboxes.put('busy', 0)
    for _ in range(100):
        mailboxes.take(1, {})
        mailboxes.put('busy', 0)
    mailboxes.put('quiet', 0)
    served = Counter()
    for _ in range(10):
        [(camera, _)] = mailboxes.take(1, {})
        served[camera] += 1
        mailboxes.put(camera, 0)
    assert served['busy'] >= 4


def test_a_replacement_inherits_before_it_can_be_taken():
    boxes = Mailboxes(lambda item, replaced: item.extend(replaced))
    boxes.open()
    boxes.put('front', ['waits'])
    boxes.put('front', [])
    assert boxes.take(8, {}) == [('front', ['waits'])]
