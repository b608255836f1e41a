"""Moving pictures through OpenCV: video files, webcams and network streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.sources.source import SourceFrame
from seg_perception.structures import Frame

_MAX_RATE_HZ = 1000.0
"""Broken headers claim no rate, or a thousand and more (the time base's, not the video's)."""


class VideoSource:
    """Plays a video file as bgr8.

    Attributes:
        rate_hz: pictures per second; None where the file does not say.
        num_frames_stated: how many there are as the file has it, which some know and some guess;
            None where it does not say.

    Raises:
        InputError: the file is no video that OpenCV can decode.
    """

    is_live = False
    intrinsics: Intrinsics | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture()
        self._open()
        self.rate_hz = _stated_rate_hz(self._capture)
        num_frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.num_frames_stated = int(num_frames) if 0 < num_frames < 2**31 else None
        played = f'{self.rate_hz:g} Hz' if self.rate_hz else 'no rate of its own'
        self.description = f'video {path} ({played})'

    def frames(self) -> Iterator[SourceFrame]:
        """The pictures; a damaged tail ends the video early, as in any player."""
        self._open()
        index = 0
        while True:
            is_read, image = self._capture.read()
            if not is_read:
                break
            offset_s = index / self.rate_hz if self.rate_hz else None
            yield SourceFrame(Frame.from_array(image, 'bgr8'), offset_s, f'frame {index}')
            index += 1
        if index == 0:
            raise InputError(f'expected a video, {self._path} has no picture that can be decoded')

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _open(self) -> None:
        if not self._capture.open(str(self._path)):
            raise InputError(f'expected a video or an image, {self._path} cannot be opened as one')


class StreamSource:
    """Plays a network stream that OpenCV can open, e.g. ``rtsp://…``, as bgr8, at its own pace.

    Attributes:
        rate_hz: pictures per second as it says itself; None where it does not.

    Raises:
        ConfigurationError: nothing can be opened there.
    """

    is_live = True
    intrinsics: Intrinsics | None = None

    def __init__(self, address: str | int) -> None:
        self._capture = cv2.VideoCapture(address)
        self.description = f'stream {address}'
        if not self._capture.isOpened():
            raise ConfigurationError(f'expected a video stream at {address}, cannot open it')
        self.rate_hz = _stated_rate_hz(self._capture)

    def frames(self) -> Iterator[SourceFrame]:
        """The pictures until the stream ends; waits for each."""
        while True:
            is_read, image = self._capture.read()
            if not is_read:
                return
            yield SourceFrame(Frame.from_array(image, 'bgr8'))

    def close(self) -> None:
        """Closes the stream."""
        self._capture.release()


class WebcamSource(StreamSource):
    """Plays a camera of this machine.

    Args:
        index: which one, a number: 0 for ``/dev/video0``.

    Raises:
        ConfigurationError: there is no such camera or it is in use.
    """

    def __init__(self, index: str) -> None:
        if not index.isascii() or not index.isdigit():
            raise ConfigurationError(
                f"expected webcam:<number>, e.g. webcam:0, got 'webcam:{index}'"
            )
        try:
            super().__init__(int(index))
        except ConfigurationError:
            raise ConfigurationError(
                f'expected a webcam {index}, cannot open it: is it plugged in, free, and may this '
                'user read /dev/video*?'
            ) from None
        self.description = f'webcam {index}'


def _stated_rate_hz(capture: cv2.VideoCapture) -> float | None:
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    return rate_hz if 0.0 < rate_hz <= _MAX_RATE_HZ else None
