"""A frame on its way to the model, and those who wait for one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from seg_perception.ros.depth import DepthMatch
from seg_perception.structures import CompressedFrame, Frame

DEACTIVATED = 'the node was deactivated'
"""Why nobody need wait for a frame any longer."""


class Request:
    """Somebody waits for one frame of a camera (the ``~/segment`` service).

    Attributes:
        done: set once it is answered.
        outcome: the answer, or why there is none yet.
        is_success: whether a frame gave it.
        is_over: no further frame is waited for.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self.outcome = ''
        self.is_success = False
        self.is_over = False

    def resolve(self, outcome: str, *, is_success: bool) -> None:
        """Tells the one who waits."""
        self.outcome, self.is_success = outcome, is_success
        self.done.set()


@dataclass(frozen=True, slots=True)
class Job:
    """A frame on its way to the model.

    Attributes:
        frame: checked, not yet decoded.
        arrived_s: when it arrived, on the monotonic clock.
        requests: who waits for it.
        depth: its depth image, None where nobody wants depth.
    """

    frame: Frame | CompressedFrame
    arrived_s: float
    requests: list[Request] = field(default_factory=list)
    depth: DepthMatch | None = None

    def inherit(self, replaced: Job) -> None:
        """Those who waited for an older frame get this one."""
        self.requests.extend(replaced.requests)


class WaitingList:
    """Who waits for the next frame of a camera; true while somebody does; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(self) -> Request:
        """Asks for the next frame, whether enabled or not and however soon it comes."""
        request = Request()
        self.put_back([request])
        return request

    def take(self) -> list[Request]:
        """Those who wait, for the frame that has come; nobody waits then."""
        with self._lock:
            requests, self._requests = self._requests, []
        return requests

    def put_back(self, requests: Sequence[Request], outcome: str = '') -> None:
        """Has the next frame answer requests that this one could not, or refuses them.

        Those that have been withdrawn meanwhile are refused.

        Args:
            requests: from `take`.
            outcome: why it could not, in case no other comes.
        """
        for request in requests:
            request.outcome = outcome or request.outcome
        with self._lock:
            over = [request for request in requests if request.is_over]
            self._requests += [request for request in requests if not request.is_over]
        for request in over:
            request.resolve(request.outcome, is_success=False)

    def withdraw(self, request: Request, outcome: str) -> None:
        """Refuses one request where it still waits; one that has a frame keeps that, but no other.

        Args:
            request: whose time is over.
            outcome: why, where no frame has told a better reason.
        """
        with self._lock:
            request.is_over = True
            if request not in self._requests:
                return
            self._requests.remove(request)
        request.resolve(request.outcome or outcome, is_success=False)

    def refuse_all(self, outcome: str) -> None:
        """Tells all who wait that no frame will come, or why none would do."""
        for request in self.take():
            request.resolve(request.outcome or outcome, is_success=False)
