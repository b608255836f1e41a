"""The monitor's arithmetic on hand-made streams."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.ros.tally import RECENT, NodeAccount, Tally, class_shares, list_shares


def test_shares_count_every_pixel_once_also_in_padded_rows():
    padded = np.full((2, 5), 9, np.uint8)
    labels = padded[:, :4]
    labels[:] = [[0, 0, 1, 255], [0, 0, 1, 1]]
    assert class_shares(labels) == {0: 0.5, 1: 0.375, 255: 0.125}
    assert class_shares(np.full((3, 3), 300, np.uint16)) == {300: 1.0}


def test_rate_latency_and_shares():
    tally = Tally(class_names={0: 'floor', 1: 'person'})
    assert tally.rate_hz() is None
    assert tally.latency_ms(50) is None
    for i in range(5):
        tally.add_labels({0: 0.75, 1: 0.25} if i < 4 else {0: 1.0}, i * 100_000_000, 10.0 * i)
    assert tally.rate_hz() == pytest.approx(10.0)
    assert tally.latency_ms(50) == 20.0
    assert tally.latency_ms(100) == 40.0
    assert tally.mean_shares() == [('floor', pytest.approx(0.8)), ('person', pytest.approx(0.2))]
    assert tally.name_of(7) == '7'


def test_recent_figures_forget_the_past():
    tally = Tally()
    now_ns = 0
    for i in range(2 * RECENT):
        now_ns += 1_000_000_000 if i < RECENT else 100_000_000
        tally.add_labels({}, now_ns, 500.0 if i < RECENT else 50.0)
    assert tally.rate_hz(is_recent=True) == pytest.approx(10.0)
    assert tally.rate_hz() < 2.0
    assert tally.latency_ms(95, is_recent=True) == 50.0
    assert tally.latency_ms(95) == 500.0


def test_account_of_the_node():
    values = {'received': '10', 'published': '6', 'dropped_stale': '0', 'dropped_superseded': '3'}
    account = NodeAccount.from_values(values)
    assert account == NodeAccount(10, 6, {'superseded': 3})
    assert str(account) == '6 of 10 received, 3 dropped (3 superseded), 1 under way'
    assert NodeAccount.from_values({'received': 'many', 'published': '1'}) is None
    assert NodeAccount.from_values({'level': '1'}) is None


def test_summary_without_anything_heard():
    tally = Tally()
    assert [line.split('  ')[0] for line in tally.summary_lines()] == [
        'frames published', 'rate', 'latency p50/p95', 'classes seen',
    ]  # fmt: skip
    assert tally.summary()['frames_published'] == 0


def test_listing_leaves_out_traces():
    assert list_shares([('a', 0.5), ('b', 0.001), ('c', 0.0001)]) == 'a 50.0%, b 0.1%'
    assert list_shares([('a', 0.5), ('b', 0.4)], most=1) == 'a 50.0%'


def test_unlabelled_pixels_have_a_name():
    tally = Tally()
    assert (tally.name_of(255), tally.name_of(65535), tally.name_of(3)) == (
        'unlabelled',
        'unlabelled',
        '3',
    )
