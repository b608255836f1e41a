"""Finds out what kind of source a name means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seg_perception.errors import ConfigurationError
from seg_perception.sources.bag import BagSource, is_bag
from seg_perception.sources.photographs import PhotographsSource
from seg_perception.sources.source import FrameSource
from seg_perception.sources.stills import IMAGE_SUFFIXES, StillsSource, is_glob
from seg_perception.sources.video import StreamSource, VideoSource, WebcamSource

KINDS = (
    'demo',
    'webcam:<index>',
    '<protocol>://<address> of a video stream',
    'an image file, a folder or a glob of images',
    'a video file',
    'a rosbag2 folder, .mcap, .db3 or .bag file',
)
"""What a source may be, for help texts and error messages."""


def open_source(name: str, *, bag_topic: str = '', demo_rate_hz: float = 0.0) -> FrameSource:
    """Opens a source of frames by its name.

    Args:
        name: one of ``KINDS``.
        bag_topic: the image topic of a bag to play; only needed where it has several.
        demo_rate_hz: pictures per second that the demo's camera takes; 0 for its default. The
            camera moves equally fast at every rate.

    Raises:
        ConfigurationError: the name means nothing, or nothing that can be played.
        InputError: the file is there and cannot be read.
        MissingExtraError: the source needs a library that is not installed.
    """
    if not name:
        raise ConfigurationError(f'expected a source: {"; ".join(KINDS)}; got an empty name')
    path = Path(name).expanduser()
    table: tuple[tuple[bool, Callable[[], FrameSource]], ...] = (
        (name == 'demo', lambda: PhotographsSource(demo_rate_hz)),
        (name.startswith('webcam:'), lambda: WebcamSource(name.removeprefix('webcam:'))),
        ('://' in name, lambda: StreamSource(name)),
        (is_bag(path), lambda: BagSource(path, bag_topic)),
        (path.is_dir() or is_glob(path), lambda: StillsSource(path)),
        (path.suffix.lower() in IMAGE_SUFFIXES, lambda: StillsSource(path)),
        (path.is_file(), lambda: VideoSource(path)),
    )
    for is_kind, open_kind in table:
        if is_kind:
            return open_kind()
    raise ConfigurationError(
        f"no such source: '{name}' ({path.absolute()} does not exist); expected one of: "
        f'{"; ".join(KINDS)}'
    )
