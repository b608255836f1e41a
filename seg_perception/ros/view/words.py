"""What segmentation nodes say of their cameras on /diagnostics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray

from seg_perception.ros.view.discovery import namespace_of

FRESH_S = 5.0
"""How long a word holds."""


@dataclass(frozen=True, slots=True)
class Word:
    """A node's word on one of its cameras.

    Attributes:
        camera: the camera's name.
        image_topic: its images'.
        message: for people.
        values: those of its values that are numbers.
        came_s: when it came, on the steady clock.
    """

    camera: str
    image_topic: str
    message: str
    values: Mapping[str, float]
    came_s: float

    @property
    def is_fresh(self) -> bool:
        """Whether it may still be true."""
        return time.monotonic() - self.came_s < FRESH_S


class Words:
    """The last word on each camera, by the namespace of its outputs."""

    def __init__(self) -> None:
        self._by_namespace: dict[str, Word] = {}

    def take(self, message: DiagnosticArray) -> dict[str, Word]:
        """Takes a message; returns what it says, by namespace."""
        said = {}
        for status in message.status:
            topic = status.hardware_id
            values = {pair.key: _number(pair.value) for pair in status.values}
            # Other nodes' statuses have other values.
            if topic.startswith('/') and {'received', 'published', 'pending'} <= values.keys():
                name = status.name.rpartition(': ')[2]
                word = Word(name, topic, status.message, values, time.monotonic())
                said[namespace_of(topic)] = word
        self._by_namespace |= said
        return said

    def on(self, namespace: str) -> Word | None:
        """The word on a camera; None where there is no fresh one."""
        word = self._by_namespace.get(namespace)
        return word if word is not None and word.is_fresh else None

    def names(self) -> dict[str, str]:
        """Names of the cameras of which something was said of late, by image topic."""
        self._by_namespace = {n: word for n, word in self._by_namespace.items() if word.is_fresh}
        return {word.image_topic: word.camera for word in self._by_namespace.values()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
