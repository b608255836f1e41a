"""Depth images paired with colour images by stamp, checked and located."""

from __future__ import annotations

import gc
import math
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rgbd_scene
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_perception.geometry import Intrinsics
from seg_perception.ros.depth import DepthFault, DepthInput, DepthMatch
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.messages import array_to_image, intrinsics_to_camera_info, make_header
from seg_perception.structures import Frame

pytestmark = pytest.mark.ros

MS = 1_000_000
CAMERA = rgbd_scene.camera((64, 48))
TRUTH = rgbd_scene.render(CAMERA)


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str) -> None:
        self.lines.append(text)


def make_input(max_offset_s: float = 0.0) -> tuple[DepthInput, Lines]:
    lines = Lines()
    depth = DepthInput(
        'front',
        '/depth',
        max_offset_s=max_offset_s,
        is_rectified=False,
        log=ThrottledLog(lines, throttle_s=0.0),
    )
    return depth, lines


def depth_message(stamp_ns: int, frame_id: str = 'optical', encoding: str = '32FC1') -> bytes:
    metres = TRUTH.depth_m_YX
    if encoding == '16UC1':
        pixels = np.nan_to_num(metres * 1000).round().astype(np.uint16)
    else:
        pixels = metres.astype(np.float32)
    message: Image = array_to_image(pixels, encoding, make_header(stamp_ns, frame_id))
    return bytes(serialize_message(message))


def color_frame(stamp_ns: int) -> Frame:
    return Frame.from_array(np.zeros((48, 64, 3), np.uint8), stamp_ns=stamp_ns, frame_id='optical')


def locate(
    depth: DepthInput,
    match: DepthMatch,
    intrinsics: Intrinsics | None = CAMERA,
    timeout_s: float = 0.0,
):
    return depth.locate(match, color_frame(match.stamp_ns), intrinsics, (48, 64), timeout_s)


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
@pytest.mark.parametrize('is_depth_first', [True, False])
def test_equal_stamps_are_a_pair_in_either_order(encoding: str, is_depth_first: bool) -> None:
    depth, lines = make_input()
    if is_depth_first:
        depth.on_image(depth_message(5 * MS, encoding=encoding))
        match = depth.expect(5 * MS)
    else:
        match = depth.expect(5 * MS)
        depth.on_image(depth_message(5 * MS, encoding=encoding))
    viewed = locate(depth, match)
    assert not lines.lines
    assert viewed is not None
    assert viewed.frame.stamp_ns == 5 * MS
    np.testing.assert_allclose(viewed.grid.z_m_YX, TRUTH.depth_m_YX, atol=6e-4)
    assert depth.snapshot().paired == 1
    assert sum(depth.snapshot().faults.values()) == 0


def test_another_stamp_is_no_pair_and_is_counted() -> None:
    depth, lines = make_input()
    match = depth.expect(5 * MS)
    depth.on_image(depth_message(6 * MS))
    assert locate(depth, match) is None
    assert depth.snapshot().faults['unpaired'] == 1
    assert '1.0 ms off' in lines.lines[0]
    assert 'depth_max_offset_s' in lines.lines[0]


def test_the_closest_within_the_offset_is_taken() -> None:
    depth, _ = make_input(max_offset_s=0.010)
    match = depth.expect(20 * MS)
    for stamp_ms in (8, 12, 18, 24):
        depth.on_image(depth_message(stamp_ms * MS))
    assert match.frame is not None
    assert match.frame.stamp_ns == 18 * MS
    assert match.is_final


def test_depth_stays_paired_while_the_model_is_slow() -> None:
    depth, _ = make_input()
    match = depth.expect(1 * MS)
    for stamp_ms in range(1, 100):
        depth.on_image(depth_message(stamp_ms * MS))
    assert locate(depth, match) is not None


def test_depth_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('seg_perception.ros.depth._SILENT_AFTER_S', math.inf)
    depth, _ = make_input()
    depth.on_image(depth_message(1 * MS))
    match = depth.expect(2 * MS)
    late = threading.Timer(0.05, depth.on_image, [depth_message(2 * MS)])
    late.start()
    assert locate(depth, match, timeout_s=60.0) is not None
    late.join()


def test_nobody_waits_where_no_depth_ever_came() -> None:
    depth, lines = make_input()
    start_s = time.monotonic()
    assert locate(depth, depth.expect(0), timeout_s=60.0) is None
    assert time.monotonic() - start_s < 30.0
    assert depth.snapshot().faults['missing'] == 1
    assert 'no depth image arrived' in lines.lines[0]


def test_matches_of_dropped_images_are_not_kept() -> None:
    depth, _ = make_input()
    for stamp in range(10):
        depth.expect(stamp)
    gc.collect()
    assert len(depth._open) == 0


@pytest.mark.parametrize(
    ('message', 'intrinsics', 'fault', 'text'),
    [
        (depth_message(0, frame_id='depth_optical'), CAMERA, DepthFault.MISMATCHED, "'optical'"),
        (depth_message(0), None, DepthFault.UNCALIBRATED, 'camera_info'),
        (
            depth_message(0),
            rgbd_scene.camera((64, 64)),
            DepthFault.MISMATCHED,
            'registered',
        ),
        (
            serialize_message(
                array_to_image(np.zeros((48, 64), np.uint8), 'mono8', Header(frame_id='optical'))
            ),
            CAMERA,
            DepthFault.MALFORMED,
            'REP 118',
        ),
        (
            serialize_message(
                array_to_image(np.zeros((48, 64), np.uint16), '16UC1', Header(frame_id='optical'))
            ),
            CAMERA,
            DepthFault.EMPTY,
            'no pixel',
        ),
    ],
    ids=['frame_id', 'uncalibrated', 'shape', 'encoding', 'all_zeros'],
)
def test_nothing_is_made_of_depth_that_does_not_match(
    message: bytes, intrinsics: Intrinsics | None, fault: DepthFault, text: str
) -> None:
    depth, lines = make_input()
    depth.on_image(message)
    assert locate(depth, depth.expect(0), intrinsics) is None
    snapshot = depth.snapshot()
    assert {k for k, v in snapshot.faults.items() if v} == {fault.value}
    assert snapshot.since_fault_s[fault.value] < 10.0
    assert text in lines.lines[0]


def test_another_calibration_of_the_depth_is_refused() -> None:
    depth, lines = make_input()
    shifted = rgbd_scene.camera((64, 48), center_offset_px=(6, 0))
    depth.on_camera_info(intrinsics_to_camera_info(shifted, Header()))
    depth.on_image(depth_message(0))
    assert locate(depth, depth.expect(0)) is None
    assert depth.snapshot().faults['mismatched'] == 1
    assert 'camera_infos' in lines.lines[0]


def test_garbage_is_counted_as_received_and_logged() -> None:
    depth, lines = make_input()
    depth.on_image(b'\x00\x01\x00\x00garbage')
    assert depth.snapshot().received == 1
    assert len(lines.lines) == 1
