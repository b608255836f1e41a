"""The node that shows what segmentation nodes publish; ``seg-perception view`` runs it.

python -m seg_perception.ros.view.node --ros-args -p host:=0.0.0.0
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from seg_perception.errors import ConfigurationError
from seg_perception.ros.log import ThrottledLog
from seg_perception.ros.options import declare
from seg_perception.ros.process import run_node
from seg_perception.ros.view.discovery import Camera, find_cameras, topics_of
from seg_perception.ros.view.feed import CameraFeed
from seg_perception.ros.view.layout import Shown, lay_out
from seg_perception.ros.view.options import ViewOptions
from seg_perception.ros.view.page import is_loopback
from seg_perception.ros.view.recording import Recording
from seg_perception.ros.view.rerun_sdk import load_rerun
from seg_perception.ros.view.scene import Look
from seg_perception.ros.view.server import PageServer, ServerOptions
from seg_perception.ros.view.status import Report, nobody, to_markdown, wait_for
from seg_perception.ros.view.words import Words

_LOOK_S = 1.0
"""How often topics are looked for."""
_REFRESH_S = 0.25
_CURVES = {
    'latency': {
        'here': ('here', (150, 150, 150)),
        'latency_p50_ms': ('p50', (86, 180, 233)),
        'latency_p95_ms': ('p95', (230, 159, 0)),
    },
    'rate': {
        'received_rate_hz': ('camera', (150, 150, 150)),
        'rate_hz': ('published', (0, 158, 115)),
    },
}
"""By plot: names of values, how their curves are called, and colours (Okabe and Ito, 2008)."""


_JPEG_QUALITY = 80


class ViewNode(Node):
    """Finds cameras, listens to them and draws them; publishes nothing.

    Attributes:
        exit_code: None while it runs; then 0, or 1 where the page's server ended.

    Raises:
        ConfigurationError: a parameter cannot be used.
        MissingExtraError: rerun-sdk is not installed.
    """

    def __init__(self) -> None:
        super().__init__('seg_perception_view')
        self.exit_code: int | None = None
        self._options = options = declare(self, ViewOptions)
        if not options.has_page and not options.save_path:
            raise ConfigurationError('expected a page or a file to record to, got neither')
        self._rr, _ = load_rerun()
        self._chosen = tuple(name for name in options.cameras if name)
        self._look = Look(
            options.max_side_px, options.max_points, _JPEG_QUALITY if _sends_jpeg(options) else 0
        )
        self._feeds: dict[str, CameraFeed] = {}
        self._words = Words()
        self._told: dict[str, str] = {}
        self._arranged: tuple[Any, ...] = ()
        self._log = ThrottledLog(self.get_logger())
        self._started_s = time.monotonic()
        self._is_closed = False
        self._server: PageServer | None = None
        if options.has_page:
            self._server = PageServer(
                ServerOptions(
                    options.host, options.page_port, options.data_port, options.memory_mib
                )
            )
        self._recording = Recording(
            self._server.data_url if self._server is not None else '',
            Path(options.save_path).expanduser() if options.save_path else None,
        )
        self._say_where()
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.create_timer(_LOOK_S, self._look_around)
        self.create_timer(_REFRESH_S, self._refresh)
        self._look_around()

    def destroy_node(self) -> None:
        """Completes the file, ends the page and prints the summary."""
        if not self._is_closed:
            self._is_closed = True
            self._recording.close()
            if self._server is not None:
                self._server.close()
            self._summarise()
        super().destroy_node()

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr if self._options.prints_json else sys.stdout, flush=True)

    def _say_where(self) -> None:
        if self._server is not None:
            first, *others = self._server.page.urls
            self._say(f'page  {first}')
            for url in others:
                self._say(f'or    {url}')
            if not others:
                self._say('      (on this machine; --host 0.0.0.0 lets others see it)')
        for path in self._recording.saved_paths:
            self._say(f'file  {path}')

    def _look_around(self) -> None:
        """Finds cameras that came, and outputs that came or went."""
        if self._server is not None and not self._server.is_running():
            self.get_logger().error(self._server.complaint())
            self.exit_code = 1
        elapsed_s = time.monotonic() - self._started_s
        if self._options.duration_s and elapsed_s >= self._options.duration_s:
            self.exit_code = 0
        found = find_cameras(topics_of(self), self._words.names(), self._chosen)
        by_namespace = {camera.namespace: camera for camera in found}
        for camera in found:
            self._take(camera)
        for namespace, feed in self._feeds.items():
            if namespace not in by_namespace:
                feed.listen(replace(feed.camera, outputs=frozenset(), has_images=False))
        self._arrange()
        self._report()

    def _take(self, camera: Camera) -> None:
        feed = self._feeds.get(camera.namespace)
        if feed is not None:
            # Its name is part of what was drawn already; its images are where they were.
            topic = camera.image_topic or feed.camera.image_topic
            feed.listen(replace(camera, name=feed.camera.name, image_topic=topic))
            return
        feed = self._feeds[camera.namespace] = CameraFeed(
            self,
            self._recording,
            camera,
            self._look,
            max_rate_hz=self._options.max_rate_hz,
            log=self._log,
        )
        for plot, curves in _CURVES.items():
            for value, (label, color_rgb) in curves.items():
                feed.scene.name_curve(plot, value, f'{camera.name} {label}', color_rgb)

    def _arrange(self) -> None:
        """Lays the page out anew where there is more to show than before."""
        shown = tuple(
            Shown(
                feed.camera.name,
                has_confidence='confidence' in feed.last_ns,
                has_space=bool({'points', 'objects_3d'} & feed.last_ns.keys()),
            )
            for _, feed in sorted(self._feeds.items())
        )
        arranged = shown, self._recording.timeline
        if arranged != self._arranged:
            self._arranged = arranged
            self._recording.arrange(lay_out(*arranged))

    def _refresh(self) -> None:
        for feed in self._feeds.values():
            feed.show_unlabelled()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for namespace, word in self._words.take(message).items():
            feed, now_ns = self._feeds.get(namespace), self._recording.now_ns()
            if feed is None or now_ns is None:
                continue
            for plot, curves in _CURVES.items():
                values = {name: word.values[name] for name in curves if name in word.values}
                feed.scene.draw_numbers(now_ns, plot, values)

    def _report(self) -> None:
        """Says what is waited for: on the page each time, on the terminal where it changes."""
        now_ns = time.monotonic_ns()
        reports = []
        for namespace, feed in sorted(self._feeds.items()):
            word = self._words.on(namespace)
            ages_s = {kind: (now_ns - came_ns) * 1e-9 for kind, came_ns in feed.last_ns.items()}
            said = () if word is None else (word.message, word.values)
            reports.append(Report(feed.camera, ages_s, *said))
        text = self._rr.TextDocument(
            to_markdown(reports, self._chosen), media_type=self._rr.MediaType.MARKDOWN
        )
        # At the newest stamp, where it replaces what was said before, however long that holds.
        newest_ns = self._recording.newest_ns
        if newest_ns is None:
            newest_ns = int(self.get_clock().now().nanoseconds)
            self._recording.wait(newest_ns)
        self._recording.draw(['status'], newest_ns, text)
        told = {r.camera.name: wait_for(r) or 'shown' for r in reports} or {
            '': nobody(self._chosen)
        }
        for name, what in told.items():
            kind = re.sub(r'\d+', '#', what)
            if self._told.get(name) != kind:
                self._say(f'{name}: {what}' if name else what)
            self._told[name] = kind

    def _summarise(self) -> None:
        if not self._options.prints_json:
            return
        summary = {
            'page_urls': list(self._server.page.urls) if self._server is not None else [],
            'saved_paths': [str(path) for path in self._recording.saved_paths],
            'elapsed_s': round(time.monotonic() - self._started_s, 3),
            'cameras': {
                feed.camera.name: {
                    'namespace': namespace,
                    'image_topic': feed.camera.image_topic,
                    'drawn': feed.num_drawn,
                    'waits_for': self._told.get(feed.camera.name, ''),
                }
                for namespace, feed in sorted(self._feeds.items())
            },
        }
        print(json.dumps(summary, indent=2), flush=True)


def _sends_jpeg(options: ViewOptions) -> bool:
    is_near = options.has_page and is_loopback(options.host)
    return options.images == 'jpeg' or (options.images == 'auto' and not is_near)


def main() -> NoReturn:
    """Runs the viewer."""
    run_node(ViewNode)


if __name__ == '__main__':
    main()
