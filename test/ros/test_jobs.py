"""Who waits for a frame of a camera."""

from __future__ import annotations

from seg_perception.ros.jobs import WaitingList


def test_one_whose_time_is_over_waits_for_no_other_frame():
    waiting = WaitingList()
    request = waiting.add()
    [with_frame] = waiting.take()
    waiting.withdraw(request, 'no image within 10 s')
    assert not request.done.is_set(), 'the frame may yet answer it'
    waiting.put_back([with_frame], 'no image had depth')
    assert request.done.is_set()
    assert (request.outcome, request.is_success) == ('no image had depth', False)
    assert not waiting


def test_one_whose_time_is_not_over_waits_for_the_next_frame():
    waiting = WaitingList()
    request = waiting.add()
    waiting.put_back(waiting.take(), 'no image had depth')
    assert waiting
    assert not request.done.is_set()
    waiting.withdraw(request, 'no image within 10 s')
    assert (request.outcome, request.is_success) == ('no image had depth', False)
    assert not waiting
