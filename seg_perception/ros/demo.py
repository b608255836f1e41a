"""Runs the image source, the segmentation node and the monitor together, as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from seg_perception.errors import ConfigurationError, MissingExtraError
from seg_perception.ros.environment import node_environment, private_domain_id

IMAGE_TOPIC = '/camera/image_raw'
CAMERA = 'camera'
_STOP_S = 5.0
_TAIL_LINES = 15


@dataclass(frozen=True)
class DemoOptions:
    """What the demo plays, with what, and for how long.

    Attributes:
        seconds: how long to watch from the first label image on.
        out_dir: folder for the overlay, the summary and the nodes' logs.
        source: what the image source plays.
        model: the model; empty for the node's default.
        rate_hz: pictures per second; 0 for as recorded.
        node_parameters: further parameters of the segmentation node, ``name:=value``.
        domain_id: ROS domain; None for a private one.
    """

    seconds: float = 20.0
    out_dir: Path = Path('out')
    source: str = 'demo'
    model: str = ''
    rate_hz: float = 10.0
    node_parameters: Sequence[str] = ()
    domain_id: int | None = None


def run_demo(options: DemoOptions) -> int:
    """Runs the demo to its end, or until SIGINT or SIGTERM, and stops what it started.

    Returns:
        0 when label images were published and all nodes ended well, else 1.

    Raises:
        ConfigurationError: an option cannot be used.
        MissingExtraError: there is no ROS 2.
    """
    if not options.seconds > 0.0:
        raise ConfigurationError(f'expected a duration above 0 s, got {options.seconds:g}')
    if options.rate_hz < 0.0:
        raise ConfigurationError(f'expected a rate of 0 Hz or more, got {options.rate_hz:g}')
    _require_ros()
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
                # The node and the monitor: the first picture meets a model that is loaded.
                'wait_for_subscribers': 2,
            },
            log_path=options.out_dir / 'image_source.log',
        )
        monitor = start(
            'monitor',
            'monitor',
            {
                'image_topic': IMAGE_TOPIC,
                'camera': CAMERA,
                'duration_s': float(options.seconds),
                'wait_s': 120.0,
                'overlay_path': str(options.out_dir / 'overlay.png'),
                'summary_path': str(summary_path),
            },
            log_path=None,
        )
        failed = _watch(monitor, (node, source), interruption)
        # In this order: the monitor still hears the others while it writes its summary.
        stopped = [child.stop() for child in (monitor, source, node)]
    for child in failed or [
        c for c, ok in zip((monitor, source, node), stopped, strict=True) if not ok
    ]:
        print(f'error: {child.complaint()}', file=sys.stderr)
    num_published = _num_published(summary_path)
    if not num_published:
        print('error: no label image was published', file=sys.stderr)
    return 0 if num_published and not failed and all(stopped) else 1


def _require_ros() -> None:
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('rclpy', 'ros', 'run the nodes') from error


def _watch(monitor: _Child, others: Sequence[_Child], interruption: _Interruption) -> list[_Child]:
    """Waits for the monitor's end or a signal; returns the others that ended before."""
    while monitor.is_running() and not interruption.event.is_set():
        failed = [child for child in others if not child.is_running()]
        if failed:
            return failed
        interruption.event.wait(0.1)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
    """Turns SIGINT and SIGTERM into an event while it is entered.

    Attributes:
        event: set by the first signal; later ones change nothing.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Interruption:
        def interrupt(_signum: int, _frame: FrameType | None) -> None:
            self.event.set()

        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
