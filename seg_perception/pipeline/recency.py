"""What is kept of the things that come again and again: a bounded number, the latest used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar('Made')

_MAX_COUNTED = 64


class Recent(Generic[Made]):
    """Keeps what was made for the kinds used latest; the one unused for longest makes room.

    Making is dear, so a kind has to be seen twice before anything is made for it, and
    ``num_when_full`` times where something else has to go: kinds that come by turns, more of them
    than are kept, would else be made anew at every turn.

    Args:
        max_kept: how many are kept.
        num_when_full: how often a kind has to be seen to drive out another one.
        discard: told what is driven out, before anything is made in its place.
    """

    def __init__(self, max_kept: int, num_when_full: int, discard: Callable[[Made], None]) -> None:
        self._max_kept = max_kept
        self._num_when_full = num_when_full
        self._discard = discard
        self._made: OrderedDict[Hashable, Made] = OrderedDict()
        self._num_seen: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def find(self, kind: Hashable, make: Callable[[], Made]) -> Made | None:
        """What is there for a kind, or is made now; None where it is too early for that."""
        if kind in self._made:
            self._made.move_to_end(kind)
            return self._made[kind]
        num_seen = self._num_seen.pop(kind, 0) + 1
        is_full = len(self._made) >= self._max_kept
        if num_seen < (self._num_when_full if is_full else 2):
            self._num_seen[kind] = num_seen
            if len(self._num_seen) > _MAX_COUNTED:
                self._num_seen.popitem(last=False)
            return None
        if is_full:
            self._discard(self._made.popitem(last=False)[1])
        made = self._made[kind] = make()
        return made

    def clear(self) -> None:
        """Lets go of everything; what was seen stays counted."""
        self._made.clear()
