"""One line per kind of trouble."""

from __future__ import annotations

import pytest

from seg_perception.ros.log import ThrottledLog

pytestmark = pytest.mark.distro


class Lines(list):
    """Takes lines as an rclpy logger does."""

    warning = list.append
    error = list.append


def test_a_kind_is_repeated_only_after_a_while():
    lines = Lines()
    log = ThrottledLog(lines, throttle_s=1000.0)
    for num_bytes in range(5):
        log.warning('front', f'expected 12 B, got {num_bytes} B')
    log.warning('front', 'something else')
    log.error('rear', 'expected 12 B, got 0 B')
    assert lines == [
        'front: expected 12 B, got 0 B',
        'front: something else',
        'rear: expected 12 B, got 0 B',
    ]


def test_says_how_many_were_left_out():
    lines = Lines()
    log = ThrottledLog(lines, throttle_s=1000.0)
    for _ in range(4):
        log.warning('front', 'bad')
    log._throttle_s = 0.0
    log.warning('front', 'bad')
    assert lines[1] == 'front: bad (3 more like it before)'


def test_ever_new_kinds_do_not_fill_the_log():
    lines = Lines()
    log = ThrottledLog(lines, throttle_s=1000.0)
    for i in range(1000):
        log.warning('front', 'x' * i)
    assert len(lines) == 201
