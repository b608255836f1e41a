"""Cameras, node and observer as processes, and what all steps of the soak are made of."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from seg_perception.benchmarks.null_model import write_null_model
from seg_perception.models import DEFAULT_MODEL
from seg_perception.models.catalog import card_paths
from seg_perception.ros.bench.processes import Child, ProcessError, Servant
from seg_perception.ros.environment import node_environment, private_domain_id
from seg_perception.ros.soak.ledger import Ledger, Sample

START_S = 120.0
"""How long a node may take until its first output: imports, model, discovery."""
WAIT_S = 30.0
CAMERA_ANSWER_S = 20.0
CALM_S = 0.6
DIAGNOSTICS_PERIOD_S = 0.2
OUTPUTS = ('labels', 'confidence', 'overlay', 'instances', 'masks/person', 'masks/class_3')


class BrokenError(ProcessError):
    """The node did not do what it has to do in time; the soak goes on with the next step."""


@dataclass(frozen=True, slots=True)
class SoakCameraName:
    """One of the node's cameras."""

    name: str
    topic: str
    namespace: str
    is_compressed: bool

    @property
    def labels_topic(self) -> str:
        """Its label images."""
        return f'{self.namespace}/segmentation/labels'

    def output_topics(self) -> list[str]:
        """All outputs that are listened to now and then."""
        return [f'{self.namespace}/segmentation/{name}' for name in OUTPUTS]


@dataclass(frozen=True, slots=True)
class Stream:
    """What a camera sends."""

    size_wh: tuple[int, int] = (320, 240)
    rate_hz: float = 4.0
    encoding: str = 'rgb8'


class Stage:
    """The processes, on a private ROS domain and namespace.

    Args:
        ledger: where everything is noted.
        lifetime_s: the kernel ends all processes after this time.
        domain_id: ROS domain; None for a private one.
        log_dir: folder for the processes' logs; a temporary one where None.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        lifetime_s: float,
        domain_id: int | None = None,
        log_dir: Path | None = None,
    ) -> None:
        self.ledger = ledger
        self._lifetime_s = lifetime_s
        self._domain_id = domain_id if domain_id is not None else private_domain_id()
        self._log_dir = log_dir
        self._stack = ExitStack()
        self._num_processes = 0
        self.namespace = f'/soak_{uuid.uuid4().hex[:8]}'
        self.cameras = tuple(
            SoakCameraName(
                name,
                f'{self.namespace}/{name}/image_raw' + ('/compressed' if is_compressed else ''),
                f'{self.namespace}/{name}',
                is_compressed,
            )
            for name, is_compressed in (('front', False), ('rear', True))
        )

    def __enter__(self) -> Stage:
        with self._stack:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self._logs = self._log_dir or folder
            self._logs.mkdir(parents=True, exist_ok=True)
            self._env = node_environment(os.environ, domain_id=self._domain_id)
            self._env['ROS_LOG_DIR'] = str(folder / 'ros_log')
            self.models = _models(folder)
            self.damaged_model = _damaged_model(folder)
            self.observer = self._servant('observer')
            self._stack.callback(lambda: self.observer.stop())
            self.camera = self._servant('camera')
            self._stack.callback(lambda: self.camera.stop())
            self.node = self._start_node()
            self._stack.callback(self.node.stop)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    # What steps do

    def ask(self, do: str, **arguments: Any) -> Any:
        """Asks the observer; see `Servant.ask`.

        Raises:
            ProcessError: as there, or the node ended meanwhile.
        """
        return self.observer.ask(
            do, timeout_s=START_S, meanwhile=lambda: self.node.check(), **arguments
        )

    def ask_camera(self, do: str, **arguments: Any) -> Any:
        """Asks the cameras; see `Servant.ask`.

        Where they do not answer, they hang in the middleware: a process that was killed at the
        wrong moment may leave a lock in shared memory closed for good. They are killed, too, and
        others take their place; the node has to be heard of afterwards.
        """
        try:
            return self.camera.ask(do, timeout_s=CAMERA_ANSWER_S, **arguments)
        except ProcessError:
            self.ledger.num_hanging_cameras += 1
            self.restart_camera()
            return self.camera.ask(do, **arguments)

    def play(self, streams: Mapping[str, Stream]) -> None:
        """Plays these streams, by camera; the other cameras stop."""
        self.ask_camera(
            'play',
            streams=[
                {
                    'topic': camera.topic,
                    'rate_hz': streams[camera.name].rate_hz,
                    'encoding': 'jpeg' if camera.is_compressed else streams[camera.name].encoding,
                    'sizes_wh': [list(streams[camera.name].size_wh)],
                    'scene': 'photograph',
                    'num': 2,
                }
                for camera in self.cameras
                if camera.name in streams
            ],
        )

    def play_calmly(self, *, silent: str = '') -> None:
        """What cameras do while nothing is the matter; one may be silent."""
        self.play({c.name: Stream() for c in self.cameras if c.name != silent})

    def listen(self, topics: Sequence[str]) -> None:
        """The observer listens to these topics and to no other ones."""
        self._count_labels()
        self.ask('listen', topics=list(topics))

    def listen_to_labels(self) -> None:
        """What is listened to while nothing is the matter."""
        self.listen([camera.labels_topic for camera in self.cameras])

    def status(self, name: str) -> dict[str, Any]:
        """The node's newest status of a camera or ``device``; waits for the first one."""
        found: dict[str, Any] = self.until(
            lambda: self.ask('status', name=name), f'status {name!r}'
        )
        return found

    def account(self, name: str) -> dict[str, int]:
        """The counts of a camera from a status that was made after this call."""
        seen = self.ask('status', name=name).get('num', 0)
        # The next one may have been made before; the one behind it was not.
        self.until(
            lambda: self.ask('status', name=name).get('num', 0) >= seen + 2,
            f'two further statuses {name!r}',
        )
        values = self.status(name)['values']
        return {k: int(v) for k, v in values.items() if v.lstrip('-').isdigit()}

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
        """The condition's value once it is true.

        Raises:
            BrokenError: it is not in time.
            ProcessError: the node ended.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (value := condition()):
            self.node.check()
            if time.monotonic() > deadline_s:
                raise BrokenError(f'{what}: not there within {timeout_s:g} s')
            time.sleep(0.05)
        return value

    def until_labels(self, timeout_s: float = WAIT_S) -> None:
        """Returns when every camera's labels have come once more."""
        self._count_labels()
        topics = [camera.labels_topic for camera in self.cameras]

        def have_come() -> bool:
            counts = self.ask('counts')
            return all(counts.get(topic, 0) >= 2 for topic in topics)

        self.until(have_come, 'labels of every camera', timeout_s)

    def transition(self, *labels: str) -> None:
        """Lifecycle transitions that have to succeed."""
        for label in labels:
            if not self.ask('transition', label=label):
                raise BrokenError(f'the transition {label} failed')

    def set_parameters(self, **values: Any) -> list[str]:
        """Sets parameters (``__`` for a dot); why each was refused, empty where it was not."""
        named = {name.replace('__', '.'): value for name, value in values.items()}
        refusals: list[str] = self.ask('set_parameters', values=named)
        return refusals

    def set_all(self, **values: Any) -> None:
        """Sets parameters that have to be accepted."""
        refusals = [reason for reason in self.set_parameters(**values) if reason]
        if refusals:
            raise BrokenError(f'parameters refused: {"; ".join(refusals)}')

    def restart_camera(self) -> None:
        """Kills the cameras' process without warning and starts another one."""
        self.camera.popen.kill()
        self.camera.stop()
        self.camera = self._servant('camera')

    def become_calm(self, step: str) -> None:
        """Back to what is usual after a step, and a look at the node's process."""
        if self.ask('state') == 'unconfigured':
            self.set_all(**self.models[0])
            self.transition('configure')
        if self.ask('state') == 'inactive':
            self.transition('activate')
        self.ask('enable', is_enabled=True)
        self.play_calmly()
        self.listen_to_labels()
        self.until_labels(START_S)
        time.sleep(CALM_S)
        node = self.node
        sample = Sample(
            at_s=self.ledger.elapsed_s,
            step=step,
            rss_mib=node.rss_bytes() / 2**20,
            num_threads=node.num_threads(),
            num_fds=node.num_fds(),
        )
        self.ledger.samples.append(sample)

    def log_has_traceback(self) -> bool:
        """Whether the node's log tells of an exception that nobody expected."""
        with self.node.log_path.open('rb') as stream:
            return any(line.startswith(b'Traceback') for line in stream)

    def _count_labels(self) -> None:
        labels = {camera.labels_topic for camera in self.cameras}
        for topic, arrivals in self.ask('take').items():
            if topic in labels:
                self.ledger.num_labels += len(arrivals)
                self.ledger.latencies_ms += [(at - stamp) * 1e-6 for stamp, at in arrivals]

    # Processes

    def _arguments(self) -> list[str]:
        diagnostics = f'/diagnostics:={self.namespace}/diagnostics'
        return ['-r', f'__ns:={self.namespace}', '-r', diagnostics]

    def _servant(self, name: str) -> Servant:
        self._num_processes += 1
        return Servant(
            name,
            f'soak.{name}',
            env=self._env,
            log_path=self._logs / f'{name}{self._num_processes}.log',
            lifetime_s=self._lifetime_s,
            ros_arguments=self._arguments(),
        )

    def _start_node(self) -> Child:
        parameters: dict[str, Any] = {
            'cameras': [camera.name for camera in self.cameras],
            'diagnostics_period_s': DIAGNOSTICS_PERIOD_S,
            **self.models[0],
        }
        for camera in self.cameras:
            parameters[f'{camera.name}.image_topic'] = f'{camera.namespace}/image_raw'
            transport = 'compressed' if camera.is_compressed else 'raw'
            parameters[f'{camera.name}.transport'] = transport
        return Child(
            'node',
            'node',
            parameters,
            env=self._env,
            log_path=self._logs / 'node.log',
            lifetime_s=self._lifetime_s,
            ros_arguments=self._arguments(),
        )


def _models(folder: Path) -> list[dict[str, Any]]:
    """Parameters of the models that are swapped; the first one is the calm one."""
    null = {'model': str(write_null_model(folder, 21)), 'trust_model_code': True}
    default = {'model': DEFAULT_MODEL, 'trust_model_code': False, 'mask_classes': ['person']}
    return [
        {**default, 'input_size_wh': [257, 257]},
        {**null, 'input_size_wh': [0, 0], 'mask_classes': ['class_3']},
        {**default, 'input_size_wh': [129, 129]},
    ]


def _damaged_model(folder: Path) -> str:
    """The path of a card that is right and of weights that are not."""
    card = yaml.safe_load(card_paths()[DEFAULT_MODEL].read_bytes())
    card['name'] = 'damaged'
    card['weights'] = {'uri': 'damaged.safetensors'}
    (folder / 'damaged.safetensors').write_bytes(b'no weights at all')
    path = folder / 'damaged.yaml'
    path.write_text(yaml.safe_dump(card), encoding='utf-8')
    return str(path)
