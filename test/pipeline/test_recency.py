"""What is kept of the kinds of batches that come again."""

from __future__ import annotations

from seg_perception.pipeline.recency import Recent


def test_the_kind_unused_for_longest_makes_room() -> None:
    made: list[str] = []
    gone: list[str] = []
    recent: Recent[str] = Recent(2, 4, gone.append)

    def find(kind: str) -> str | None:
        return recent.find(kind, lambda: made.append(kind) or kind)  # type: ignore[func-returns-value]

    assert find('a') is None
    assert find('a') == 'a'
    assert [find('b'), find('b'), find('a')] == [None, 'b', 'a']
    # what would drive out another one has to come more often
    assert [find('c') for _ in range(4)] == [None, None, None, 'c']
    assert gone == ['b']
    assert find('a') == 'a'
    assert len(recent) == 2
    # and begins anew once it was driven out itself
    assert [find('b') for _ in range(4)] == [None, None, None, 'b']
    assert gone == ['b', 'c']
    assert made == ['a', 'b', 'c', 'b']
    recent.clear()
    assert [find('a'), find('a')] == [None, 'a']


def test_kinds_that_never_come_back_are_forgotten() -> None:
    recent: Recent[int] = Recent(8, 16, lambda made: None)
    assert recent.find(-1, lambda: -1) is None
    for kind in range(1000):
        assert recent.find(kind, lambda: 0) is None
    assert recent.find(-1, lambda: -1) is None
