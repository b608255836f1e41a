"""One slot per camera, newest wins, fair by weight."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.ros.mailbox import MAX_CREDIT, Mailboxes


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


@pytest.mark.parametrize('wait_s', [0.0, 30.0])
def test_who_is_to_leave_takes_nothing_even_before_it_is_woken(mailboxes, wait_s):
    has_to_leave, taken = threading.Event(), []
    if wait_s:  # it waits for another camera that is due
        mailboxes._arrived_s['rear'] = time.monotonic()
        mailboxes._period_s['rear'] = 20.0
        mailboxes.put('front', 1)
    leaving = threading.Thread(
        target=lambda: taken.append(mailboxes.take(8, {}, wait_s, has_to_leave.is_set))
    )
    leaving.start()
    has_to_leave.set()
    mailboxes.put('front', 2)
    mailboxes.wake()
    leaving.join(5.0)
    assert taken == [[]]
    assert mailboxes.is_open
    assert mailboxes.take(8, {}) == [('front', 2)]


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


def simulate(rates, weights, *, num_services, max_items=1, jitter=0.0, seed=0):
    """Serves cameras in simulated time, one service lasting 1.

    Args:
        rates: items of each camera in the time of one service.
        jitter: how much its periods vary, as a share of them.

    Returns:
        Services of each camera per unit of time.
    """
    boxes, rng, served = Mailboxes(), np.random.default_rng(seed), Counter()
    boxes.open()
    due = [(rng.random() / rate, camera) for camera, rate in rates.items()]
    heapq.heapify(due)
    now = 0.0
    while now < num_services:
        if not boxes._slots:
            now = max(now, due[0][0])
        while due[0][0] <= now:
            at, camera = heapq.heappop(due)
            boxes.put(camera, at)
            period = (1.0 + rng.uniform(-jitter, jitter)) / rates[camera]
            heapq.heappush(due, (at + period, camera))
        served.update(camera for camera, _ in boxes.take(max_items, weights))
        now += 1.0
    return {camera: served[camera] / now for camera in rates}


@pytest.mark.parametrize('jitter', [0.0, 0.1, 0.5])
@pytest.mark.parametrize('rate', [0.36, 0.45, 0.6, 0.8, 1.0, 5.0])
def test_shares_follow_weights_although_slots_are_empty_now_and_then(rate, jitter):
    weights = {'a': 1.0, 'b': 1.0, 'c': 2.0, 'd': 2.0}
    # Not quite the same rates, as those of real cameras, so that no order repeats for ever.
    rates = {camera: rate * (1.0 + 0.003 * i) for i, camera in enumerate(weights)}
    shares = simulate(rates, weights, num_services=1500, jitter=jitter)
    for camera, weight in weights.items():
        assert shares[camera] == pytest.approx(weight / 6.0, rel=0.03)


@pytest.mark.parametrize('demand', [0.8, 0.95, 1.0, 1.05, 1.2])
def test_a_camera_near_its_fair_share_gets_what_it_sends_but_no_more_than_that(demand):
    weights = {'a': 1.0, 'b': 1.0, 'c': 2.0}
    rates = {'a': 1.1, 'b': 0.9, 'c': demand / 2.0}
    shares = simulate(rates, weights, num_services=1500, jitter=0.2)
    share = min(demand, 1.0) / 2.0
    assert shares['c'] == pytest.approx(share, rel=0.03)
    assert shares['a'] == pytest.approx((1.0 - share) / 2.0, rel=0.03)
    assert shares['b'] == pytest.approx((1.0 - share) / 2.0, rel=0.03)


def test_slow_cameras_lose_nothing_to_a_fast_one():
    slow = {'b': 0.15, 'c': 0.15, 'd': 0.15}
    shares = simulate({'a': 3.0, **slow}, {}, num_services=1500, jitter=0.1)
    for camera, rate in slow.items():
        assert shares[camera] == pytest.approx(rate, rel=0.03)


@settings(max_examples=50)
@given(
    silence=st.integers(0, 200),
    weights=st.fixed_dictionaries({c: st.sampled_from([0.25, 1.0, 2.0, 7.0]) for c in 'abq'}),
)
def test_a_camera_that_was_silent_is_owed_few_turns(silence, weights):
    boxes = Mailboxes()
    boxes.open()
    boxes.put('q', 0)
    boxes.take(1, weights)
    served = Counter()
    for turn in range(silence + 100):
        for camera in 'ab' if turn < silence else 'abq':
            boxes.put(camera, turn)
        [(camera, _)] = boxes.take(1, weights)
        if turn >= silence:
            served[camera] += 1
            entitled = weights['q'] / sum(weights.values()) * served.total()
            assert entitled - 3.0 <= served['q'] <= entitled + MAX_CREDIT + 1.0


def test_a_replacement_inherits_before_it_can_be_taken():
    boxes = Mailboxes(lambda item, replaced: item.extend(replaced))
    boxes.open()
    boxes.put('front', ['waits'])
    boxes.put('front', [])
    assert boxes.take(8, {}) == [('front', ['waits'])]


def put_twice(boxes, camera):
    """Puts and takes two items, so that the next one can be foreseen."""
    for i in range(2):
        boxes.put(camera, i)
        boxes.take(1, {})


def taken_and_how_long(boxes, max_items, wait_s):
    start_s = time.monotonic()
    return dict(boxes.take(max_items, {}, wait_s)), time.monotonic() - start_s


def test_waits_for_a_camera_that_is_due(mailboxes):
    def come():
        mailboxes.put('front', 'new')
        mailboxes.put('rear', 'late')

    put_twice(mailboxes, 'rear')
    mailboxes._period_s['rear'] = 20.0
    mailboxes.put('front', 'old')
    threading.Timer(0.05, come).start()
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 30.0)
    assert taken == {'front': 'new', 'rear': 'late'}
    assert elapsed_s < 15.0


def test_waits_no_longer_than_it_may(mailboxes):
    put_twice(mailboxes, 'rear')
    mailboxes.put('front', 1)
    # Due after no time at all, and for as long as its last period not given up.
    mailboxes._arrived_s['rear'] = time.monotonic() - 1000.0
    mailboxes._period_s['rear'] = 1000.0
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 0.1)
    assert taken == {'front': 1}
    assert 0.1 <= elapsed_s < 15.0


def test_waits_for_nobody_who_is_not_due(mailboxes):
    mailboxes.put('once', 0)
    mailboxes.take(8, {})
    put_twice(mailboxes, 'silent')  # and has missed its time by whole periods
    mailboxes._arrived_s['silent'] = time.monotonic() - 10.0
    mailboxes._period_s['silent'] = 1.0
    put_twice(mailboxes, 'slow')
    mailboxes._period_s['slow'] = 1000.0
    mailboxes.put('front', 1)
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 30.0)
    assert taken == {'front': 1}
    assert elapsed_s < 15.0


def test_a_full_batch_waits_for_nobody(mailboxes):
    put_twice(mailboxes, 'rear')
    mailboxes._period_s['rear'] = 20.0
    mailboxes.put('front', 1)
    taken, elapsed_s = taken_and_how_long(mailboxes, 1, 30.0)
    assert taken == {'front': 1}
    assert elapsed_s < 15.0


def test_closing_ends_the_wait_for_others(mailboxes):
    put_twice(mailboxes, 'rear')
    mailboxes._period_s['rear'] = 20.0
    mailboxes.put('front', 1)
    threading.Timer(0.05, mailboxes.close).start()
    taken, elapsed_s = taken_and_how_long(mailboxes, 8, 30.0)
    assert taken == {}
    assert elapsed_s < 15.0
