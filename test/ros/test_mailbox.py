"""One slot per camera, newest wins, fair by weight."""

from __future__ import annotations

import threading
import time
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


def put_steadily(boxes, camera, period_s, num_items):
    """Puts items a period apart, and takes each, so that the next one can be foreseen."""
    for i in range(num_items):
        boxes.put(camera, i)
        boxes.take(1, {})
        time.sleep(period_s)


def taken_and_how_long(boxes, max_items, wait_s):
    start_s = time.monotonic()
    return dict(boxes.take(max_items, {}, wait_s)), time.monotonic() - start_s


def test_waits_for_a_camera_that_is_due(mailboxes):
    put_steadily(mailboxes, 'rear', 0.3, 2)
    late = threading.Timer(0.05, mailboxes.put, ('rear', 'late'))
    mailboxes.put('front', 'there')
    late.start()
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 30.0)
    assert taken == {'front': 'there', 'rear': 'late'}
    assert elapsed_s < 10.0


def test_waits_no_longer_than_it_may_and_takes_the_newest(mailboxes):
    put_steadily(mailboxes, 'rear', 0.2, 2)
    mailboxes.put('front', 'old')
    threading.Timer(0.02, mailboxes.put, ('front', 'new')).start()
    # Due after no time at all, and for as long as its last period not given up.
    mailboxes._arrived_s['rear'] = time.monotonic() - 1000.0
    mailboxes._period_s['rear'] = 1000.0
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 0.1)
    assert taken == {'front': 'new'}
    assert 0.1 <= elapsed_s < 10.0


def test_waits_for_nobody_who_is_not_due(mailboxes):
    mailboxes.put('once', 0)
    mailboxes.take(8, {})
    put_steadily(mailboxes, 'silent', 0.01, 2)
    time.sleep(0.05)
    put_steadily(mailboxes, 'slow', 0.0, 1)
    mailboxes._period_s['slow'] = 1000.0
    mailboxes.put('front', 1)
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 30.0)
    assert taken == {'front': 1}
    assert elapsed_s < 10.0


def test_a_full_batch_waits_for_nobody(mailboxes):
    put_steadily(mailboxes, 'rear', 0.3, 2)
    mailboxes._period_s['rear'] = 20.0
    mailboxes.put('front', 1)
    taken, elapsed_s = taken_and_how_long(mailboxes, 1, 30.0)
    assert taken == {'front': 1}
    assert elapsed_s < 10.0


def test_closing_ends_the_wait_for_others(mailboxes):
    put_steadily(mailboxes, 'rear', 0.0, 2)
    mailboxes._period_s['rear'] = 20.0
    mailboxes.put('front', 1)
    threading.Timer(0.05, mailboxes.close).start()
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 30.0)
    assert taken == {}
    assert elapsed_s < 10.0
