"""What is drawn, on its way to the page and into a file, each thing at the stamp it belongs to.

A page follows the latest time it knows of. Stamps that go back (a recording that starts over, a
simulation that is reset) therefore begin a new recording, which the page then turns to.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.errors import ConfigurationError
from seg_perception.ros.view.rerun_sdk import APPLICATION, load_rerun

WALL, SIM = 'stamp', 'sim_time'
"""Names of the timelines: of stamps that are dates, and of stamps counted from a start."""
_FIRST_DATE_NS = 10**9 * 10**9
"""September 2001: what is stamped earlier was stamped by a clock that started at 0."""
_BACK_NS = 10**9
"""Stamps of one source this far back mean that it started over; less is disorder."""
_ELSEWHEN_NS = 60 * 10**9
"""Stamps this far from now are of a recording or a simulation."""

Path3 = list[object]
"""An entity's path, its parts not escaped."""


def timeline_of(stamp_ns: int) -> str:
    """The timeline that a stamp belongs to."""
    return WALL if stamp_ns >= _FIRST_DATE_NS else SIM


class Recording:
    """Draws. Not thread-safe.

    Args:
        data_url: of the page's server; empty for none.
        save_path: file to write; None for none. Further recordings get a number in its name.

    Attributes:
        timeline: what stamps are shown on now.
        saved_paths: the files written so far.

    Raises:
        ConfigurationError: the file cannot be written.
    """

    def __init__(self, data_url: str, save_path: Path | None) -> None:
        self._rr, _ = load_rerun()
        self._data_url, self._save_path = data_url, save_path
        self._newest_ns: dict[str, int] = {}
        self._static: dict[tuple[object, ...], Any] = {}
        self._blueprint: Any = None
        self._stream: Any = None
        self._waited_ns: int | None = None
        self._followed_s = 0.0
        self.timeline = WALL
        self.saved_paths: list[Path] = []
        self._begin()

    def follow(self, source: str, stamp_ns: int) -> None:
        """Takes note of what is drawn next; begins a new recording where its time starts over.

        Args:
            source: whose stamp it is; sources are not compared with one another.
            stamp_ns: its stamp.
        """
        newest_ns = self._newest_ns.get(source)
        if newest_ns is not None:
            is_over = stamp_ns < newest_ns - _BACK_NS
        else:
            # What was drawn while nothing came was drawn at this machine's time.
            is_over = abs(stamp_ns - (self._waited_ns or stamp_ns)) > _ELSEWHEN_NS
        if is_over:
            if not self._newest_ns:
                del self.saved_paths[-1:]  # nothing is in it yet
            self._newest_ns.clear()
            self._begin()
        self.timeline = timeline_of(stamp_ns)
        self._waited_ns = None
        self._newest_ns[source] = max(stamp_ns, self._newest_ns.get(source, stamp_ns))
        self._followed_s = time.monotonic()

    @property
    def newest_ns(self) -> int | None:
        """The latest stamp in this recording; None before the first."""
        return max(self._newest_ns.values(), default=None)

    def now_ns(self) -> int | None:
        """What stamps would be now: the latest one, moved on by what passed since."""
        newest_ns = self.newest_ns
        if newest_ns is None:
            return None
        return newest_ns + round((time.monotonic() - self._followed_s) * 1e9)

    def wait(self, now_ns: int) -> None:
        """Takes note that what is drawn next has this machine's time, for want of stamps."""
        self._waited_ns = now_ns
        self.timeline = timeline_of(now_ns)

    def draw(self, path: Path3, stamp_ns: int, *things: Any) -> None:
        """Draws at a stamp."""
        timeline = timeline_of(stamp_ns)
        if timeline == WALL:
            self._stream.set_time(WALL, timestamp=np.datetime64(stamp_ns, 'ns'))
        else:
            self._stream.set_time(SIM, duration=np.timedelta64(stamp_ns, 'ns'))
        self._stream.log(path, *things)
        self._stream.disable_timeline(timeline)

    def draw_always(self, path: Path3, thing: Any) -> None:
        """Draws what holds at all times, in this recording and the next ones."""
        self._static[(*path, type(thing).__name__)] = (path, thing)
        self._stream.log(path, thing, static=True)

    def arrange(self, blueprint: Any) -> None:
        """Lays out the page."""
        self._blueprint = blueprint
        self._stream.send_blueprint(blueprint)

    def close(self) -> None:
        """Writes what is still on its way."""
        self._stream.disconnect()

    def _begin(self) -> None:
        if self._stream is not None:
            self._stream.disconnect()
        self._stream = self._rr.RecordingStream(APPLICATION)
        sinks = [self._rr.GrpcSink(self._data_url)] if self._data_url else []
        if self._save_path is not None:
            path = self._numbered(self._save_path)
            _make_room(path)
            # Its table of contents would grow in memory for as long as this runs.
            sinks.append(self._rr.FileSink(str(path), write_footer=False))
            self.saved_paths.append(path)
        self._stream.set_sinks(*sinks)
        # The stamps are the time; when it was drawn is nobody's concern.
        self._stream.set_log_time_enabled(False)
        self._stream.set_log_tick_enabled(False)
        for path_, thing in self._static.values():
            self._stream.log(path_, thing, static=True)
        if self._blueprint is not None:
            self._stream.send_blueprint(self._blueprint)

    def _numbered(self, path: Path) -> Path:
        number = len(self.saved_paths) + 1
        return path if number == 1 else path.with_name(f'{path.stem}_{number}{path.suffix}')


def _make_room(path: Path) -> None:
    """Checks that a file can be written, for rerun says only later that it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open('wb').close()
    except OSError as error:
        raise ConfigurationError(f'cannot record to {path}: {error.strerror}') from error
