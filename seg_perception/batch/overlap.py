"""Work in the background, in order and bounded: reading ahead, and writing behind.

Decoding and encoding let go of Python's lock, and so does a model that runs, so threads are
enough. Without workers everything happens at once where it is asked for, with the same results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def read_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_workers: int,
    depth: int,
) -> Iterator[Result]:
    """The function's results for the items, in order, computed up to ``depth`` items ahead.

    Items are taken from the iterable in the caller's thread. What the function raises is raised
    in its turn.

    Args:
        function: called in several threads at once.
        items: read as far ahead as results are computed.
        num_workers: threads; 0 computes each result when it is asked for.
        depth: how many results may wait, at least 1.
    """
    if num_workers == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(num_workers, thread_name_prefix='read') as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class WriteBehind(Generic[Result]):
    """Calls that are made in the background; results come back in the order of the calls.

    Args:
        num_workers: threads; with 1 the calls themselves are made in order; 0 makes each at once.
        depth: how many calls may be under way; one more waits for the first of them.
    """

    def __init__(self, num_workers: int, depth: int) -> None:
        self._pool = (
            ThreadPoolExecutor(num_workers, thread_name_prefix='write') if num_workers else None
        )
        self._depth = max(1, depth)
        self._waiting: deque[Future[Result]] = deque()

    def put(self, call: Callable[[], Result]) -> list[Result]:
        """Has a call made; gives the results of earlier ones that are there.

        Raises:
            Exception: what an earlier call raised.
        """
        if self._pool is None:
            return [call()]
        self._waiting.append(self._pool.submit(call))
        ready = []
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > self._depth):
            ready.append(self._waiting.popleft().result())
        return ready

    def rest(self) -> list[Result]:
        """Waits for all calls; gives the results that `put` has not given."""
        return [self._waiting.popleft().result() for _ in range(len(self._waiting))]

    def __enter__(self) -> WriteBehind[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._waiting:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown()
