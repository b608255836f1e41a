"""The service ``~/segment``: one frame of every camera now, and what is on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from seg_perception.ros.camera import Camera
from seg_perception.ros.jobs import Request

TIMEOUT_S = 10.0
"""How long a caller waits for a frame."""
BUSY_S = 50.0
"""How long it waits longer for a model that has one."""
_LOOK_AGAIN_S = 1.0


def offer_segment_service(
    node: Node,
    cameras: Callable[[], Sequence[Camera] | None],
    listen_where_wanted: Callable[[], None],
) -> None:
    """Creates the service; any number of callers may wait at once, each for its own time.

    Args:
        node: offers it.
        cameras: those that are asked; None while the node is not active.
        listen_where_wanted: has the node subscribe to cameras that somebody waits for.
    """

    async def answer(_request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        asked_cameras = cameras()
        if asked_cameras is None:
            response.message = 'the node is not active'
            return response
        asked = [(camera, camera.waiting.add()) for camera in asked_cameras]
        listen_where_wanted()
        deadline_s = time.monotonic() + TIMEOUT_S
        for camera, request in asked:
            await _Answered(request, deadline_s)
            while not request.done.is_set() and time.monotonic() < deadline_s + BUSY_S:
                # Where this does not answer it, the model is at work on its image.
                camera.waiting.withdraw(
                    request, f'no image on {camera.image_topic} within {TIMEOUT_S:g} s'
                )
                await _Answered(request, time.monotonic() + _LOOK_AGAIN_S)
        response.success = all(request.is_success for _, request in asked)
        response.message = '; '.join(
            f'{camera.name}: {r.outcome or "the model is still busy"}' for camera, r in asked
        )
        return response

    # A group of its own: while it awaits a frame, the other callbacks must run.
    node.create_service(Trigger, '~/segment', answer, callback_group=ReentrantCallbackGroup())


class _Answered:
    """Awaits a request in a rclpy coroutine without spinning: rclpy polls what awaits."""

    def __init__(self, request: Request, deadline_s: float) -> None:
        self._request = request
        self._deadline_s = deadline_s

    def __await__(self) -> Generator[None, None, None]:
        # A short wait per poll keeps the executor from running hot; frames still get through.
        while not self._request.done.wait(0.005) and time.monotonic() < self._deadline_s:
            yield
