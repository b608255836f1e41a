"""Which topics of a recording are cameras."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.errors import ConfigurationError, GeometryError, InputError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.imaging import is_supported
from seg_perception.messages.calibration import camera_info_to_intrinsics
from seg_perception.messages.cdr import read_compressed_image, read_image
from seg_perception.recordings.definitions import typestore
from seg_perception.recordings.recorded import OpenFile
from seg_perception.recordings.survey import Survey
from seg_perception.structures import CompressedFrame, Frame

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'

_DEPTH_ENCODINGS = ('16UC1', '32FC1')
_OTHER_WORDS = ('depth', 'disparity', 'mask', 'label', 'confidence', 'segmentation', 'overlay')
"""Parts of topic names that say that images are no camera's."""


@dataclass(frozen=True, slots=True)
class CameraTopic:
    """An image topic to segment.

    Attributes:
        topic: of the images.
        is_compressed: whether they are CompressedImage.
        namespace: of what is said about them, e.g. ``/front/segmentation``.
        first_log_ns: when its first image in the chosen part was recorded.
        first_stamp_ns: that image's stamp.
        camera_info_topic: of its calibration; empty where none is recorded.
        first_intrinsics: the first calibration that was recorded, for images before it.
    """

    topic: str
    is_compressed: bool
    namespace: str
    first_log_ns: int = 0
    first_stamp_ns: int = 0
    camera_info_topic: str = ''
    first_intrinsics: Intrinsics | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image topic, and why it is not taken for a camera by itself; empty where it is."""

    camera: CameraTopic
    num_images: int
    why_not: str = ''


def read_frame(camera: CameraTopic, data: bytes) -> Frame | CompressedFrame:
    """A recorded message as a frame that views it.

    Raises:
        InputError: it is none.
    """
    read = read_compressed_image if camera.is_compressed else read_image
    return read(data, camera.topic)


def read_intrinsics(data: bytes) -> Intrinsics | None:
    """A recorded CameraInfo; None where it says nothing, or nothing that can be."""
    message: Any
    try:
        message = typestore().deserialize_cdr(data, CAMERA_INFO)
    except Exception:  # the library's own, and what damaged bytes lead it to
        return None
    with suppress(GeometryError):
        intrinsics = camera_info_to_intrinsics(message)
        return intrinsics if intrinsics.k[0] > 0.0 else None
    return None


def find_candidates(
    found: Survey, range_ns: tuple[int, int], namespace: str, scratch_dir: Path | None = None
) -> list[Candidate]:
    """All image topics.

    Args:
        found: the recording.
        range_ns: the part of it that counts.
        namespace: last part of the names of our topics, e.g. ``segmentation``.
        scratch_dir: see `OpenFile`.
    """
    candidates = []
    for topic in found.topics:
        if topic.message_type not in (IMAGE, COMPRESSED):
            continue
        is_compressed = topic.message_type == COMPRESSED
        base = topic.name.removesuffix('/compressed') if is_compressed else topic.name
        parent = base.rsplit('/', 1)[0]
        camera = CameraTopic(topic.name, is_compressed, f'{parent}/{namespace}')
        num_images = sum(file.num_by_topic.get(topic.name, 0) for _, file in found.whole_files)
        first = _first_message(found, topic.name, range_ns, scratch_dir)
        if first is None:
            candidates.append(Candidate(camera, num_images, 'no images in the chosen part'))
            continue
        info_topic = f'{parent}/camera_info'
        info = _first_message(found, info_topic, found.range_ns, scratch_dir, CAMERA_INFO)
        stamp_ns, why_not = _look_at(camera, first[1])
        camera = CameraTopic(
            topic.name,
            is_compressed,
            f'{parent}/{namespace}',
            first[0],
            stamp_ns,
            info_topic if info is not None else '',
            read_intrinsics(info[1]) if info is not None else None,
        )
        candidates.append(Candidate(camera, num_images, why_not))
    return candidates


def choose_cameras(
    candidates: Sequence[Candidate], patterns: Sequence[str], where: object
) -> tuple[list[CameraTopic], list[Candidate]]:
    """The topics to segment, and the image topics that are left out, with the reason.

    Args:
        candidates: from `find_candidates`.
        patterns: names of topics, ``*`` and ``?`` as in the shell; none for all cameras.
        where: the recording, for messages.

    Raises:
        ConfigurationError: a pattern fits no image topic, two have the same namespace, or
            nothing is left.
    """
    listed = '\n'.join(f'  {line}' for line in describe(candidates)) or '  none'
    chosen: list[Candidate] = []
    left_out: list[Candidate] = []
    for pattern in patterns:
        fitting = [c for c in candidates if fnmatch.fnmatchcase(c.camera.topic, pattern)]
        if not fitting:
            raise ConfigurationError(
                f"--topics: expected an image topic of {where}, got '{pattern}'; it has:\n{listed}"
            )
        chosen += [c for c in fitting if c not in chosen]
    if not patterns:
        chosen = [c for c in candidates if not c.why_not]
        left_out = [c for c in candidates if c.why_not]
    empty = [c for c in chosen if not c.camera.first_log_ns]
    left_out += empty if patterns else []
    chosen = [c for c in chosen if c.camera.first_log_ns]
    by_namespace: dict[str, list[Candidate]] = {}
    for candidate in chosen:
        by_namespace.setdefault(candidate.camera.namespace, []).append(candidate)
    cameras = []
    for namespace, rivals in by_namespace.items():
        rivals.sort(key=lambda c: (c.camera.is_compressed, len(c.camera.topic), c.camera.topic))
        names = [c.camera.topic for c in rivals]
        if len(rivals) > 1 and patterns:
            raise ConfigurationError(
                f'--topics: {" and ".join(names)} would both be described on {namespace}/…: '
                f'choose one of them'
            )
        cameras.append(rivals[0].camera)
        why_not = f'shares {namespace} with {names[0]}'
        left_out += [Candidate(c.camera, c.num_images, why_not) for c in rivals[1:]]
    if not cameras:
        raise ConfigurationError(
            f'{where} has no images of a camera to segment; its image topics are:\n{listed}\n'
            f'name with --topics what is to be segmented all the same'
        )
    return cameras, left_out


def describe(candidates: Sequence[Candidate]) -> list[str]:
    """A line about each topic, for people."""
    width = max((len(c.camera.topic) for c in candidates), default=0)
    return [
        f'{c.camera.topic:<{width}}  {c.num_images:>7} images'
        f'{", compressed" if c.camera.is_compressed else ""}'
        f'{f"  (left out: {c.why_not})" if c.why_not else ""}'
        for c in candidates
    ]


def _look_at(camera: CameraTopic, data: bytes) -> tuple[int, str]:
    """Stamp of an image, and why its topic is no camera's; empty where it is one's."""
    try:
        frame = read_frame(camera, data)
    except InputError as error:
        return 0, f'its first message cannot be read: {error}'
    if isinstance(frame, CompressedFrame):
        is_depth = 'compressedDepth' in frame.format or camera.topic.endswith('Depth')
        return frame.stamp_ns, 'depth' if is_depth else _by_name(camera.topic)
    if frame.encoding in _DEPTH_ENCODINGS:
        return frame.stamp_ns, f'{frame.encoding}, which is depth or numbers'
    if not is_supported(frame.encoding):
        return frame.stamp_ns, f"encoding '{frame.encoding}'"
    return frame.stamp_ns, _by_name(camera.topic)


def _by_name(topic: str) -> str:
    words = [word for word in _OTHER_WORDS if word in topic.lower()]
    return f"named '{words[0]}'" if words else ''


def _first_message(
    found: Survey,
    topic: str,
    range_ns: tuple[int, int],
    scratch_dir: Path | None,
    message_type: str = '',
) -> tuple[int, bytes] | None:
    """Time and bytes of the first message of a topic; None where there is none."""
    for _, file in found.whole_files:
        if not file.num_by_topic.get(topic):
            continue
        with suppress(InputError), OpenFile(file.file, scratch_dir) as opened:
            connections = [
                c
                for c in opened.connections
                if c.topic == topic and message_type in ('', c.msgtype)
            ]
            messages = opened.messages(connections, *range_ns)
            first = next(messages, None)
            messages.close()
            if first is not None:
                return first[1], first[2]
    return None
