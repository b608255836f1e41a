"""Prompts as messages: what a camera's images are to be segmented by, held until replaced.

A vision_msgs/Detection2DArray says where things are, each Detection2D one place: a box, or with
both sizes 0 a point. Its class is what the thing is called, ``background`` says that the point is
beside it. Places with the same ``id`` belong to one thing; points beside without an ``id`` belong
to all of them. Coordinates are those of our own ``objects`` topic: pixels of the camera's image,
whole numbers at pixel centres.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.subscription import Subscription

from seg_perception.backends.prompts import check_count
from seg_perception.errors import PromptError
from seg_perception.ros.log import ThrottledLog
from seg_perception.structures import BACKGROUND_NAMES, Frame, Prompt

MAX_DETECTIONS = 1024
"""Longer messages are refused before they are looked at."""
MAX_FRAME_IDS = 16
"""Cameras whose prompts are kept apart; those of the longest unused are forgotten."""
DEFAULT_NAME = 'object'


@dataclass(frozen=True, slots=True)
class PromptSnapshot:
    """What a camera's prompts are at one moment.

    Attributes:
        names: of the things asked for, those of all frame ids together.
        received: messages so far.
        refused: messages and single prompts refused so far.
        last_refusal: why the last of them was, '' where none was since the last good message.
        frame_ids: the frame ids that prompts are for, without the one that is any.
        unasked_frame_id: of the last image, where prompts are held, but none for it.
    """

    names: tuple[str, ...] = ()
    received: int = 0
    refused: int = 0
    last_refusal: str = ''
    frame_ids: tuple[str, ...] = ()
    unasked_frame_id: str = ''


@dataclass(slots=True)
class _Held:
    """The prompts of one message."""

    prompts: tuple[Prompt, ...]
    checked_sizes_hw: set[tuple[int, int]] = field(default_factory=set)


class PromptBook:
    """The prompts of one camera; messages come from one thread, frames from another.

    Args:
        subject: what log lines call it, e.g. the camera's name.
        log: for what is refused.
    """

    def __init__(self, subject: str, log: ThrottledLog) -> None:
        self._subject = subject
        self._log = log
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._received = self._refused = 0
        self._last_refusal = ''
        self._unasked_frame_id = ''

    def clear(self) -> None:
        """Forgets all prompts."""
        with self._lock:
            self._held.clear()
            self._last_refusal = self._unasked_frame_id = ''

    def on_message(self, message: Any) -> None:
        """Replaces the prompts by those of a Detection2DArray; keeps them where it is no good.

        A message with a ``frame_id`` replaces the prompts for images of that frame, one without
        replaces all. An empty one clears them.
        """
        with self._lock:
            self._received += 1
        try:
            prompts = detections_to_prompts(message.detections)
        except PromptError as error:
            self._refuse(str(error))
            return
        frame_id = message.header.frame_id
        with self._lock:
            self._last_refusal = self._unasked_frame_id = ''
            if not frame_id:
                self._held.clear()
            self._held.pop(frame_id, None)
            # An empty one is held too: it says that nothing is wanted of that frame.
            self._held[frame_id] = _Held(prompts)
            while len(self._held) > MAX_FRAME_IDS:
                del self._held[next(iter(self._held))]

    def for_frame(self, frame: Frame) -> tuple[Prompt, ...]:
        """The prompts for an image; those that point outside of it are refused, once."""
        size_hw = (frame.height, frame.width)
        with self._lock:
            held = self._held.get(frame.frame_id) or self._held.get('')
            is_unasked = held is None and bool(self._held)
            self._unasked_frame_id = frame.frame_id if is_unasked else ''
            if held is None:
                return ()
            is_new = size_hw not in held.checked_sizes_hw
            held.checked_sizes_hw.add(size_hw)
        usable = []
        for prompt in held.prompts:
            try:
                prompt.check_within(size_hw)
            except PromptError as error:
                if is_new:
                    self._refuse(str(error), held)
            else:
                usable.append(prompt)
        return tuple(usable)

    def snapshot(self) -> PromptSnapshot:
        """What is held now, and what was refused."""
        with self._lock:
            held = list(self._held.values())
            return PromptSnapshot(
                names=tuple(prompt.name for item in held for prompt in item.prompts),
                received=self._received,
                refused=self._refused,
                last_refusal=self._last_refusal,
                frame_ids=tuple(frame_id for frame_id in self._held if frame_id),
                unasked_frame_id=self._unasked_frame_id,
            )

    def _refuse(self, why: str, held: _Held | None = None) -> None:
        with self._lock:
            self._refused += 1
            if held is None or any(held is other for other in self._held.values()):
                self._last_refusal = why  # else they were replaced meanwhile
        self._log.warning(self._subject, f'refused: {why}')


class TakesPrompts(Protocol):
    """A camera, as far as it is asked."""

    prompts: PromptBook
    namespace: str
    takes_prompts: bool


class PromptTopics:
    """Where prompts come in: ``~/prompt`` for all cameras, and a topic for each of them.

    For the executor's thread.

    Args:
        node: subscribes.
        cameras: the node's, by name.
    """

    def __init__(self, node: Node, cameras: Mapping[str, TakesPrompts]) -> None:
        self._node = node
        self._cameras = cameras
        self._subscriptions: list[Subscription] = []

    def offer(self, is_taken: bool) -> None:
        """Listens to the topics, or leaves them and forgets what was asked for."""
        if is_taken == bool(self._subscriptions):
            return
        for camera in self._cameras.values():
            camera.takes_prompts = is_taken
            if not is_taken:
                camera.prompts.clear()
        if not is_taken:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions = []
            return
        self._listen('~/prompt', self._on_message)
        for camera in self._cameras.values():
            self._listen(f'{camera.namespace}/prompt', camera.prompts.on_message)

    def _on_message(self, message: Any) -> None:
        for camera in self._cameras.values():
            camera.prompts.on_message(message)

    def _listen(self, topic: str, callback: Callable[[Any], None]) -> None:
        from vision_msgs.msg import Detection2DArray

        self._subscriptions.append(
            self._node.create_subscription(Detection2DArray, topic, callback, 10)
        )


def detections_to_prompts(detections: Sequence[Any]) -> tuple[Prompt, ...]:
    """Prompts from vision_msgs/Detection2D messages; see this module.

    Raises:
        PromptError: one cannot be used; none is then.
    """
    if len(detections) > MAX_DETECTIONS:
        raise PromptError(f'expected at most {MAX_DETECTIONS} detections, got {len(detections)}')
    things: dict[str, _Thing] = {}
    beside_all: list[tuple[float, float]] = []
    for index, detection in enumerate(detections):
        place = _Place.of(detection, index)
        if place.is_beside and not detection.id:
            beside_all.append(place.center_xy_px)
            continue
        # What has no id of its own is a thing of its own.
        key = f'id {detection.id}' if detection.id else f'detection {index}'
        things.setdefault(key, _Thing(key)).add(place)
    if beside_all and not things:
        raise PromptError(
            'expected a box or a point on the thing, got only points beside it (class background)'
        )
    prompts = tuple(thing.as_prompt(beside_all) for thing in things.values())
    check_count(prompts)
    return prompts


@dataclass(frozen=True, slots=True)
class _Place:
    """One detection, checked."""

    name: str
    is_beside: bool
    center_xy_px: tuple[float, float]
    size_wh_px: tuple[float, float]

    @classmethod
    def of(cls, detection: Any, index: int) -> _Place:
        box = detection.bbox
        width, height = box.size_x, box.size_y
        if not (width >= 0 and height >= 0) or (width == 0) != (height == 0):
            raise PromptError(
                f'detection {index}: expected a box of positive sizes, or both 0 for a point, got '
                f'size_x {width:g} size_y {height:g}'
            )
        if box.center.theta != 0:
            raise PromptError(
                f'detection {index}: expected theta 0, because boxes are upright, got '
                f'{box.center.theta:g}'
            )
        hypotheses = [result.hypothesis for result in detection.results]
        best = max(hypotheses, key=lambda hypothesis: hypothesis.score, default=None)
        name = best.class_id if best is not None else ''
        is_beside = name in BACKGROUND_NAMES
        if is_beside and width > 0:
            raise PromptError(
                f'detection {index}: expected a point for the class {name}, which is what is '
                f'beside a thing, got a box of {width:g}x{height:g} px'
            )
        center_xy_px = (box.center.position.x, box.center.position.y)
        return cls(name, is_beside, center_xy_px, (width, height))


class _Thing:
    """What detections with one id say."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._places: list[_Place] = []

    def add(self, place: _Place) -> None:
        self._places.append(place)

    def as_prompt(self, beside_all_xy_px: Sequence[tuple[float, float]]) -> Prompt:
        wanted = [place for place in self._places if not place.is_beside]
        boxes = [place for place in wanted if place.size_wh_px[0] > 0]
        names = list(dict.fromkeys(place.name for place in wanted if place.name))
        for what, found in (('box', len(boxes)), ('name', len(names))):
            if found > 1:
                raise PromptError(f'{self._key}: expected at most one {what}, got {found}')
        try:
            return Prompt(
                name=names[0] if names else DEFAULT_NAME,
                box_xyxy_px=_edges(boxes[0]) if boxes else None,
                on_xy_px=tuple(p.center_xy_px for p in wanted if p.size_wh_px[0] == 0),
                beside_xy_px=(
                    *(place.center_xy_px for place in self._places if place.is_beside),
                    *beside_all_xy_px,
                ),
            )
        except PromptError as error:
            raise PromptError(f'{self._key}: {error}') from error


def _edges(place: _Place) -> tuple[float, float, float, float]:
    (x, y), (width, height) = place.center_xy_px, place.size_wh_px
    # Edges lie between pixels, whose centres are at whole numbers.
    x, y = x + 0.5, y + 0.5
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
