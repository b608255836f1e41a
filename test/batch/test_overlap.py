"""Work in the background: in order, bounded, and no error lost."""

from __future__ import annotations

import threading

import pytest

from seg_perception.batch.overlap import WriteBehind, read_ahead


@pytest.mark.parametrize('num_workers', [0, 1, 3])
def test_reading_ahead_keeps_the_order_and_the_bound(num_workers):
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    for i, result in enumerate(
        read_ahead(lambda n: n * n, items(), num_workers=num_workers, depth=4)
    ):
        assert result == i * i
        assert len(taken) <= i + 1 + (4 if num_workers else 0)
    assert len(taken) == 20


@pytest.mark.parametrize('num_workers', [0, 2])
def test_an_error_comes_in_its_turn(num_workers):
    def inverse(n):
        return 1 / n

    results = read_ahead(inverse, [1, 2, 0, 4], num_workers=num_workers, depth=4)
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_writing_behind_is_bounded_and_in_order():
    gate = threading.Event()
    with WriteBehind[int](2, depth=2) as writer:
        assert writer.put(lambda: gate.wait(30) and 0) == []
        assert writer.put(lambda: 1) == []
        threading.Timer(0.2, gate.set).start()
        assert writer.put(lambda: 2)[0] == 0  # waited for the first
        writer.put(lambda: 3)
        writer.put(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            writer.rest()


def test_without_workers_calls_are_made_at_once():
    with WriteBehind[int](0, depth=2) as writer:
        assert writer.put(lambda: 1) == [1]
        with pytest.raises(ZeroDivisionError):
            writer.put(lambda: 1 // 0)
        assert writer.rest() == []
