"""Whether what a camera sends is any good: what its first seconds show, and what that means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from seg_perception.errors import InputError
from seg_perception.geometry import Intrinsics
from seg_perception.imaging import check_compressed, check_frame
from seg_perception.imaging.encodings import ENCODINGS
from seg_perception.ros.doctor.finding import Finding, Gravity
from seg_perception.ros.doctor.wiring import CameraWiring
from seg_perception.structures import CompressedFrame, Frame

MAX_AGE_S = 1.0
MAX_AHEAD_S = 0.1
DEPTH_ENCODINGS = ('16UC1', 'mono16', '32FC1')


@dataclass(slots=True)
class Seen:
    """What came from a camera within some seconds.

    Attributes:
        seconds: how long was listened.
        frame: the newest image.
        num_frames: images.
        ages_s: of images when they arrived.
        stamps_ns: of images.
        intrinsics: the newest calibration.
        depth: the newest depth image.
        depth_stamps_ns: of depth images.
        complaint: what is wrong with the calibration's message.
    """

    seconds: float
    frame: Frame | CompressedFrame | None = None
    num_frames: int = 0
    ages_s: tuple[float, ...] = ()
    stamps_ns: tuple[int, ...] = ()
    intrinsics: Intrinsics | None = None
    depth: Frame | None = None
    depth_stamps_ns: tuple[int, ...] = ()
    complaint: str = ''


def check_stream(
    camera: CameraWiring, seen: Seen, *, max_pixels: int, max_offset_s: float
) -> list[Finding]:
    """What is to be said of what came.

    Args:
        camera: what the node wants.
        seen: what came, though somebody publishes.
        max_pixels: the node's bound on images.
        max_offset_s: the node's bound between stamps of colour and depth.
    """
    name, frame = camera.name, seen.frame
    if frame is None:
        return [
            Finding(
                f'{name}: images',
                Gravity.ERROR,
                f'{camera.image_topic} has a publisher, and nothing came within '
                f'{seen.seconds:g} s',
                'look whether the driver has its camera (its log); between machines, whether '
                'firewall and network let large UDP packets pass; and that its process, too, has '
                'the DDS profile (see "DDS profile" above)',
            )
        ]
    findings = [_check_content(camera, frame, max_pixels), _check_rate(camera, seen)]
    findings += [*_check_stamps(name, seen), *_check_frame_id(camera, frame)]
    findings += _check_calibration(camera, seen, max_pixels)
    if camera.depth_topic:
        findings += _check_depth(camera, seen, max_offset_s)
    return findings


def size_wh_of(frame: Frame | CompressedFrame, max_pixels: int) -> tuple[int, int] | None:
    """Width and height of an image; None where it cannot be used."""
    try:
        if isinstance(frame, CompressedFrame):
            height, width = check_compressed(frame, max_pixels=max_pixels)
            return width, height
    except InputError:
        return None
    return frame.width, frame.height


def _check_content(
    camera: CameraWiring, frame: Frame | CompressedFrame, max_pixels: int
) -> Finding:
    check = f'{camera.name}: images'
    try:
        if isinstance(frame, Frame):
            check_frame(frame, max_pixels=max_pixels)
            return Finding(check, Gravity.OK, f'{frame.width}x{frame.height} {frame.encoding}')
        height, width = check_compressed(frame, max_pixels=max_pixels)
        return Finding(check, Gravity.OK, f'{width}x{height}, {frame.format}')
    except InputError as error:
        fix = 'correct the driver'
        if isinstance(frame, Frame) and frame.encoding not in ENCODINGS:
            is_depth = frame.encoding in DEPTH_ENCODINGS
            fix = 'let the driver send rgb8 or bgr8, or install cv_bridge'
            fix = f'-p {camera.name}.depth_topic:=… is where depth belongs' if is_depth else fix
        return Finding(check, Gravity.ERROR, str(error), fix)


def _check_rate(camera: CameraWiring, seen: Seen) -> Finding:
    """How many came, and how many of those sent: the stamps tell the camera's own rate."""
    check = f'{camera.name}: rate'
    came_hz = seen.num_frames / seen.seconds
    intervals = [b - a for a, b in zip(seen.stamps_ns, seen.stamps_ns[1:], strict=False) if b > a]
    # Where some are lost, others still come one after the other.
    sent_hz = 1e9 / sorted(intervals)[len(intervals) // 4] if intervals else came_hz
    if len(intervals) > 4 and came_hz < 0.7 * sent_hz:
        return Finding(
            check,
            Gravity.WARNING,
            f'{came_hz:.1f} Hz came of about {sent_hz:.1f} Hz',
            'images are lost on their way: start the driver with the DDS profile (see "DDS '
            'profile" above), or -p image_reliability:=auto',
        )
    return Finding(check, Gravity.OK, f'{came_hz:.1f} Hz')


def _check_stamps(name: str, seen: Seen) -> Iterator[Finding]:
    check = f'{name}: stamps'
    age_s = median(seen.ages_s)
    if seen.stamps_ns and max(seen.stamps_ns) == 0:
        yield Finding(check, Gravity.WARNING, 'stamps are 0', 'let the driver stamp its images')
    elif age_s > MAX_AGE_S:
        fix = 'synchronise the clocks of both machines (chrony), or play with use_sim_time'
        fix = (
            '-p use_sim_time:=true, as simulators and ros2 bag play --clock want it'
            if (age_s > 1e6)
            else fix
        )
        yield Finding(check, Gravity.WARNING, f'images are {age_s:.1f} s old on arrival', fix)
    elif age_s < -MAX_AHEAD_S:
        yield Finding(
            check,
            Gravity.WARNING,
            f'stamps are {-age_s:.1f} s ahead of this clock',
            'synchronise the clocks of both machines (chrony)',
        )
    else:
        yield Finding(check, Gravity.OK, f'{age_s * 1e3:.0f} ms old on arrival')


def _check_frame_id(camera: CameraWiring, frame: Frame | CompressedFrame) -> Iterator[Finding]:
    if not frame.frame_id:
        yield Finding(
            f'{camera.name}: frame_id',
            Gravity.WARNING,
            'the header names no frame: nothing can be placed in the world',
            "set the driver's frame_id to its optical frame",
        )


def _check_calibration(camera: CameraWiring, seen: Seen, max_pixels: int) -> Iterator[Finding]:
    check, intrinsics = f'{camera.name}: calibration', seen.intrinsics
    assert seen.frame is not None
    size_wh = size_wh_of(seen.frame, max_pixels)
    if seen.complaint:
        yield Finding(check, Gravity.WARNING, seen.complaint, 'calibrate the camera')
    elif intrinsics is not None and not intrinsics.k[0] > 0.0:
        yield Finding(
            check,
            Gravity.ERROR if camera.depth_topic else Gravity.WARNING,
            f'{camera.camera_info_topic} is empty (K is 0)',
            'calibrate the camera (camera_calibration) and give the file to the driver',
        )
    elif intrinsics is not None and size_wh is not None and intrinsics.size_wh != size_wh:
        found = '{}x{}'.format(*intrinsics.size_wh)
        yield Finding(
            check,
            Gravity.WARNING,
            f'{camera.camera_info_topic} is of {found}, the images are {size_wh[0]}x{size_wh[1]}',
            'calibrate at the size that is sent, or let the driver publish the matching one',
        )
    elif intrinsics is not None:
        yield Finding(check, Gravity.OK, f'fx {intrinsics.k[0]:.1f} px')


def _check_depth(camera: CameraWiring, seen: Seen, max_offset_s: float) -> Iterator[Finding]:
    check, depth, frame = f'{camera.name}: depth', seen.depth, seen.frame
    assert frame is not None
    if depth is None:
        yield Finding(
            check,
            Gravity.ERROR,
            f'nothing came from {camera.depth_topic} within {seen.seconds:g} s',
            "turn on the driver's aligned (registered) depth",
        )
        return
    if depth.encoding not in DEPTH_ENCODINGS:
        yield Finding(
            check,
            Gravity.ERROR,
            f'{camera.depth_topic} has encoding {depth.encoding}',
            f'-p {camera.name}.depth_topic:=… of {", ".join(DEPTH_ENCODINGS)} (REP 118)',
        )
    elif depth.frame_id != frame.frame_id:
        yield Finding(
            check,
            Gravity.ERROR,
            f"depth is in '{depth.frame_id}', the images in '{frame.frame_id}'",
            "take the driver's registered (aligned) depth topic",
        )
    else:
        offset_s = _pairing_offset_s(seen)
        if offset_s is not None and offset_s > max_offset_s:
            needed_s = round(offset_s * 1.5 + 0.0005, 3)
            yield Finding(
                check,
                Gravity.ERROR,
                f'stamps of colour and depth are {offset_s * 1e3:.1f} ms apart, '
                f'depth_max_offset_s is {max_offset_s:g}',
                f'let the driver synchronise them, or -p depth_max_offset_s:={needed_s}',
            )
        else:
            yield Finding(check, Gravity.OK, f'{depth.width}x{depth.height} {depth.encoding}')


def _pairing_offset_s(seen: Seen) -> float | None:
    """The median distance from an image's stamp to the closest one of depth."""
    if not seen.depth_stamps_ns or not seen.stamps_ns:
        return None
    inner = [s for s in seen.stamps_ns if s <= max(seen.depth_stamps_ns)] or seen.stamps_ns
    return median(min(abs(s - d) for d in seen.depth_stamps_ns) for s in inner) * 1e-9
