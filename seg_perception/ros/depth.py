"""Depth images of one camera: each found again by the stamp of its colour image, checked, located.

A colour image leaves the model long after it arrived, and its depth image may arrive before or
after it; so what belongs together is settled on arrival. Nothing is published from a pair that
does not match: every colour image that wanted depth and got none is counted, with the cause.
"""

from __future__ import annotations

import enum
import math
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from seg_perception.errors import GeometryError, InputError
from seg_perception.geometry import (
    Deprojector,
    DepthGrid,
    Intrinsics,
    check_registered,
    depth_to_m,
)
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.messages.cdr import read_image
from seg_perception.ros.log import ThrottledLog
from seg_perception.structures import Frame

_NUM_RECENT = 8
"""Depth images kept for colour images that arrive after them."""
_NEIGHBOUR_NS = 500_000_000
"""Depth stamped later than this after a colour image that arrives with it is of another time."""
_SILENT_AFTER_S = 1.0
"""Nobody waits for a depth camera that sent nothing for this long."""


class DepthFault(str, enum.Enum):
    """Why a colour image has no depth."""

    MISSING = 'missing'
    """No depth image arrived at all yet."""
    UNPAIRED = 'unpaired'
    """None had the colour image's stamp, within ``depth_max_offset_s``."""
    UNCALIBRATED = 'uncalibrated'
    """No camera_info of the colour image, or one of either image that cannot be used."""
    MISMATCHED = 'mismatched'
    """It is not registered to the colour image: another frame_id, shape or calibration."""
    MALFORMED = 'malformed'
    """Its bytes contradict its header, or its encoding holds no depth."""
    EMPTY = 'empty'
    """No pixel of it has a depth."""


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """The account of one camera's depth at one moment.

    Attributes:
        topic: where depth comes from.
        received: depth images that arrived.
        paired: colour images whose depth was used.
        faults: colour images that wanted depth and have none, by cause.
        since_fault_s: seconds since the last one, by cause; only causes that occurred.
        unsupported: objects without a 3-D box, as too few points supported one.
    """

    topic: str
    received: int
    paired: int
    unsupported: int
    faults: Mapping[str, int]
    since_fault_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ViewedDepth:
    """A depth image that belongs to the colour image.

    Attributes:
        frame: as it arrived.
        grid: where the pixels of the label image are.
    """

    frame: Frame
    grid: DepthGrid


class DepthMatch:
    """The depth image of one colour image, as far as it is known.

    Attributes:
        stamp_ns: of the colour image.
        frame: the closest depth image so far.
        is_final: whether no later one can be closer.
    """

    __slots__ = ('__weakref__', 'frame', 'is_final', 'stamp_ns')

    def __init__(self, stamp_ns: int) -> None:
        self.stamp_ns = stamp_ns
        self.frame: Frame | None = None
        self.is_final = False

    def offer(self, frame: Frame, max_offset_ns: int) -> None:
        """Takes a depth image if it is closer than the one before."""
        offset_ns = abs(frame.stamp_ns - self.stamp_ns)
        best_ns = abs(self.frame.stamp_ns - self.stamp_ns) if self.frame is not None else None
        if offset_ns <= max_offset_ns and (best_ns is None or offset_ns < best_ns):
            self.frame = frame
        # Stamps ascend: once one is as late as the colour image, later ones are farther off.
        self.is_final = self.is_final or frame.stamp_ns >= self.stamp_ns


class DepthInput:
    """Pairs, checks and locates the depth images of one camera.

    Depth arrives on one thread and is located on another.

    Args:
        camera: the camera's name, for the log.
        topic: of the depth images.
        max_offset_s: how far apart the stamps of a pair may be; 0 for exactly equal ones.
        is_rectified: whether the images are rectified.
        log: for trouble.
    """

    def __init__(
        self,
        camera: str,
        topic: str,
        *,
        max_offset_s: float,
        is_rectified: bool,
        log: ThrottledLog,
    ) -> None:
        self.topic = topic
        self._camera = camera
        self._max_offset_ns = round(max_offset_s * 1e9)
        self._is_rectified = is_rectified
        self._log = log
        self._arrival = threading.Condition()
        self._recent: deque[Frame] = deque(maxlen=_NUM_RECENT)
        self._open: weakref.WeakSet[DepthMatch] = weakref.WeakSet()
        self._intrinsics: Intrinsics | None = None
        self._deprojector = Deprojector(is_rectified=is_rectified)
        self._checked: object = None
        self._received = self._paired = self._unsupported = 0
        self._last_received_s = -math.inf
        self._faults: Counter[DepthFault] = Counter()
        self._fault_at_s: dict[DepthFault, float] = {}

    def on_image(self, message: memoryview) -> None:
        """Takes a serialised depth Image."""
        try:
            frame = read_image(message, self._camera)
        except InputError as error:
            self._log.warning(self._camera, f'{self.topic}: {error}')
            with self._arrival:
                self._received += 1
            return
        with self._arrival:
            self._received += 1
            self._last_received_s = time.monotonic()
            if self._recent and frame.stamp_ns < self._recent[-1].stamp_ns:
                self._recent.clear()  # time went back: those would end every search at once
            self._recent.append(frame)
            for match in list(self._open):
                match.offer(frame, self._max_offset_ns)
                if match.is_final:
                    self._open.discard(match)
            self._arrival.notify_all()

    def on_camera_info(self, message: CameraInfo) -> None:
        """Takes the calibration of the depth image."""
        try:
            self._intrinsics = camera_info_to_intrinsics(message)
        except GeometryError as error:
            self._log.warning(self._camera, f'calibration of {self.topic}: {error}')

    def expect(self, stamp_ns: int) -> DepthMatch:
        """Starts to look for the depth image of a colour image; it may have arrived already.

        The search ends by itself when nobody holds the match any more.
        """
        match = DepthMatch(stamp_ns)
        with self._arrival:
            for frame in self._recent:
                match.offer(frame, self._max_offset_ns)
            if not match.is_final:
                self._open.add(match)
        return match

    def forget(self) -> None:
        """Drops the images kept, after depth was left or the clock jumped."""
        with self._arrival:
            self._recent.clear()

    def turn_back(self, stamp_ns: int) -> None:
        """Drops the images kept from before time went back to a colour image's stamp.

        Depth that went back already stays.
        """
        with self._arrival:
            if self._recent and self._recent[-1].stamp_ns > stamp_ns + _NEIGHBOUR_NS:
                self._recent.clear()

    def locate(
        self,
        match: DepthMatch,
        frame: Frame,
        intrinsics: Intrinsics | None,
        grid_hw: tuple[int, int],
        timeout_s: float,
    ) -> ViewedDepth | None:
        """Where the pixels of a colour image are; None where that cannot be known, counted.

        Args:
            match: of the colour image.
            frame: the colour image.
            intrinsics: its calibration.
            grid_hw: size of the label image.
            timeout_s: how long to wait for a depth image that did not arrive yet.
        """
        try:
            viewed = self._locate(match, frame, intrinsics, grid_hw, timeout_s)
        except _Fault as fault:
            with self._arrival:
                self._faults[fault.kind] += 1
                self._fault_at_s[fault.kind] = time.monotonic()
            self._log.warning(self._camera, f'{self.topic}: {fault}')
            return None
        with self._arrival:
            self._paired += 1
        return viewed

    def count_unsupported(self, num_objects: int) -> None:
        """Objects were left without a 3-D box."""
        with self._arrival:
            self._unsupported += num_objects

    def snapshot(self) -> DepthSnapshot:
        """The account now."""
        with self._arrival:
            now_s = time.monotonic()
            return DepthSnapshot(
                topic=self.topic,
                received=self._received,
                paired=self._paired,
                unsupported=self._unsupported,
                faults={fault.value: self._faults[fault] for fault in DepthFault},
                since_fault_s={f.value: now_s - at_s for f, at_s in self._fault_at_s.items()},
            )

    def _locate(
        self,
        match: DepthMatch,
        frame: Frame,
        intrinsics: Intrinsics | None,
        grid_hw: tuple[int, int],
        timeout_s: float,
    ) -> ViewedDepth:
        depth = self._wait(match, timeout_s)
        if intrinsics is None:
            raise _Fault(DepthFault.UNCALIBRATED, 'no camera_info that describes the colour image')
        if depth.frame_id != frame.frame_id:
            raise _Fault(
                DepthFault.MISMATCHED,
                f"expected depth registered to the colour image, in its frame '{frame.frame_id}', "
                f"got '{depth.frame_id}': take the driver's registered (aligned) depth topic",
            )
        try:
            depth_m_VU = depth_to_m(depth)
        except InputError as error:
            raise _Fault(DepthFault.MALFORMED, str(error)) from error
        try:
            self._check_registered(intrinsics, depth_m_VU.shape)
        except GeometryError as error:
            raise _Fault(DepthFault.MISMATCHED, str(error)) from error
        if not (depth_m_VU > 0).any():
            raise _Fault(DepthFault.EMPTY, 'no pixel has a depth')
        try:
            grid = self._deprojector.locate(depth_m_VU, intrinsics, grid_hw)
        except GeometryError as error:
            raise _Fault(DepthFault.UNCALIBRATED, str(error)) from error
        return ViewedDepth(depth, grid)

    def _wait(self, match: DepthMatch, timeout_s: float) -> Frame:
        with self._arrival:
            if time.monotonic() - self._last_received_s < _SILENT_AFTER_S:
                self._arrival.wait_for(lambda: match.is_final, timeout_s)
            if match.frame is not None:
                return match.frame
            if not self._recent:
                raise _Fault(DepthFault.MISSING, 'no depth image arrived')
            nearest_ns = min(abs(f.stamp_ns - match.stamp_ns) for f in self._recent)
        raise _Fault(
            DepthFault.UNPAIRED,
            f'no depth image within {self._max_offset_ns * 1e-6:g} ms of the colour image, the '
            f'nearest is {nearest_ns * 1e-6:.1f} ms off: see depth_max_offset_s',
        )

    def _check_registered(self, intrinsics: Intrinsics, depth_hw: tuple[int, ...]) -> None:
        """As `check_registered`, once for what does not change between images."""
        height, width = depth_hw
        seen = intrinsics, self._intrinsics, (height, width)
        if seen != self._checked:
            for calibration in (intrinsics, self._intrinsics):
                try:
                    if calibration is not None:
                        calibration.pinhole(self._is_rectified)
                except GeometryError as error:
                    raise _Fault(DepthFault.UNCALIBRATED, str(error)) from error
            check_registered(
                intrinsics, self._intrinsics, (height, width), is_rectified=self._is_rectified
            )
            self._checked = seen


class _Fault(Exception):
    """A colour image has no depth."""

    def __init__(self, kind: DepthFault, message: str) -> None:
        super().__init__(message)
        self.kind = kind
