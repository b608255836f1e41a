"""Runs the image source, the segmentation node and the monitor together, as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from seg_perception.errors import ConfigurationError
from seg_perception.ros.environment import node_environment, private_domain_id, require_ros
from seg_perception.ros.view.rerun_sdk import load_rerun

IMAGE_TOPIC = '/camera/image_raw'
CAMERA = 'camera'
_STOP_S = 5.0
_TAIL_LINES = 15
_WAITS = 'waits for'
"""What the viewer says once it has said where its page is."""


@dataclass(frozen=True)
class DemoOptions:
    """What the demo plays, with what, and for how long.

    Attributes:
        seconds: how long to watch from the first label image on; None until interrupted.
        out_dir: folder for the overlay, the summary and the nodes' logs.
        source: what the image source plays.
        model: the model; empty for the node's default.
        rate_hz: pictures per second; 0 for as recorded.
        node_parameters: further parameters of the segmentation node, ``name:=value``.
        domain_id: ROS domain; None for a private one.
        view_host: address to serve a live page on; empty for no page.
    """

    seconds: float | None = 20.0
    out_dir: Path = Path('out')
    source: str = 'demo'
    model: str = ''
    rate_hz: float = 10.0
    node_parameters: Sequence[str] = ()
    domain_id: int | None = None
    view_host: str = ''


def run_demo(options: DemoOptions) -> int:
    """Runs the demo to its end, or until SIGINT or SIGTERM, and stops what it started.

    Returns:
        0 when label images were published and all nodes ended well, else 1.

    Raises:
        ConfigurationError: an option cannot be used.
        MissingLibraryError: there is no ROS 2, or a page is wanted and there is no rerun-sdk.
    """
    if options.seconds is not None and not options.seconds > 0.0:
        raise ConfigurationError(f'expected a duration above 0 s, got {options.seconds:g}')
    if options.rate_hz < 0.0:
        raise ConfigurationError(f'expected a rate of 0 Hz or more, got {options.rate_hz:g}')
    require_ros()
    if options.view_host:
        load_rerun()
    options.out_dir.mkdir(parents=True, exist_ok=True)
    summary_path = options.out_dir / 'summary.json'
    summary_path.unlink(missing_ok=True)
    domain_id = options.domain_id if options.domain_id is not None else private_domain_id()
    env = node_environment(os.environ, domain_id=domain_id)
    print(
        f'on ROS domain {domain_id}: images on {IMAGE_TOPIC}, outputs on '
        f'/{CAMERA}/segmentation/…; logs in {options.out_dir}/',
        flush=True,
    )
    with ExitStack() as stack, _Interruption() as interruption:

        def start(name: str, module: str, parameters: Mapping[str, Any], **kwargs: Any) -> _Child:
            arguments = [f'{key}:={_to_yaml(value)}' for key, value in parameters.items()]
            return stack.enter_context(
                _Child(name, module, [*arguments, *kwargs.pop('more', ())], env=env, **kwargs)
            )

        viewer = []
        if options.view_host:
            log_path = options.out_dir / 'view.log'
            viewer = [start('view', 'view.node', {'host': options.view_host}, log_path=log_path)]
            _say_where(log_path, viewer[0], interruption)
        # config/segmentation.rviz shows the same topics.
        node = start(
            'segmentation',
            'node',
            {'cameras': [CAMERA], 'autostart': True, f'{CAMERA}.image_topic': IMAGE_TOPIC}
            | ({'model': options.model} if options.model else {}),
            more=options.node_parameters,
            log_path=options.out_dir / 'segmentation.log',
        )
        source = start(
            'image source',
            'image_source',
            {
                'source': options.source,
                'topic': IMAGE_TOPIC,
                'rate_hz': options.rate_hz,
                'loop': True,
                # The node, the monitor and who views: the first picture meets a loaded model.
                'wait_for_subscribers': 2 + len(viewer),
            },
            log_path=options.out_dir / 'image_source.log',
        )
        monitor = start(
            'monitor',
            'monitor',
            {
                'image_topic': IMAGE_TOPIC,
                'camera': CAMERA,
                'duration_s': float(options.seconds or 0.0),
                'wait_s': 120.0,
                'overlay_path': str(options.out_dir / 'overlay.png'),
                'summary_path': str(summary_path),
            },
            log_path=None,
        )
        failed = _watch(monitor, (node, source, *viewer), interruption)
        # In this order: the monitor still hears the others while it writes its summary.
        children = (monitor, *viewer, source, node)
        stopped = [child.stop() for child in children]
    for child in failed or [c for c, ok in zip(children, stopped, strict=True) if not ok]:
        print(f'error: {child.complaint()}', file=sys.stderr)
    num_published = _num_published(summary_path)
    if not num_published:
        print('error: no label image was published', file=sys.stderr)
    return 0 if num_published and not failed and all(stopped) else 1


def _say_where(log_path: Path, viewer: _Child, interruption: _Interruption) -> None:
    """Prints where the page is, once it is there; what keeps it from being there is seen later."""
    while viewer.is_running() and not interruption.came:
        text = log_path.read_text(encoding='utf-8', errors='replace')
        where, found, _ = text.partition(_WAITS)
        if found:
            print(where, end='', flush=True)
            return
        time.sleep(0.1)


def _watch(monitor: _Child, others: Sequence[_Child], interruption: _Interruption) -> list[_Child]:
    """Waits for the monitor's end or a signal; returns the others that ended before."""
    while monitor.is_running() and not interruption.came:
        failed = [child for child in others if not child.is_running()]
        if failed:
            return failed
        time.sleep(0.1)
    return []


def _num_published(summary_path: Path) -> int:
    try:
        return int(json.loads(summary_path.read_text(encoding='utf-8'))['labels_received'])
    except (OSError, ValueError, KeyError):
        return 0


def _to_yaml(value: Any) -> str:
    """A parameter's value as ``--ros-args -p`` reads it; JSON is YAML."""
    return json.dumps(value)


class _Child:
    """One node as a process; leaving the context ends it, whatever happened.

    It gets a session of its own, so that Ctrl-C reaches only the demo, which stops its children
    in order.

    Args:
        name: for messages.
        module: which module of this package to run.
        parameters: ``name:=value`` each.
        env: its environment.
        log_path: where its output goes; None for this process's own.
    """

    def __init__(
        self,
        name: str,
        module: str,
        parameters: Sequence[str],
        *,
        env: Mapping[str, str],
        log_path: Path | None,
    ) -> None:
        self.name = name
        self._log_path = log_path
        command = [sys.executable, '-m', 'seg_perception.ros.start', module, '--ros-args']
        for parameter in parameters:
            command += ['-p', parameter]
        log_file = log_path.open('wb') if log_path is not None else None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=None if log_file is None else subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
            )
        finally:
            if log_file is not None:
                log_file.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> bool:
        """Interrupts the process, kills it where that does not help; whether it ended with 0."""
        if self.is_running():
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return self._process.returncode == 0

    def complaint(self) -> str:
        """What became of the process and the end of its log."""
        text = f'{self.name} ended with {self._process.returncode}'
        if self._log_path is None:
            return text
        lines = self._log_path.read_text(encoding='utf-8', errors='replace').splitlines()
        return '\n'.join([f'{text}; its log ({self._log_path}) ends:', *lines[-_TAIL_LINES:]])


class _Interruption:
    """Notes SIGINT and SIGTERM while it is entered.

    Attributes:
        came: whether there was one. No Event: the handler may come inside of its methods, in the
            same thread, and its lock would wait for itself.
    """

    def __init__(self) -> None:
        self.came = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Interruption:
        def interrupt(_signum: int, _frame: FrameType | None) -> None:
            self.came = True

        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
