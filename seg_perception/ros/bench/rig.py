"""The rig: camera process -> node process -> sink process, measured over live topics."""

from __future__ import annotations

import math
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from seg_perception.benchmarks.cases import NUM_MASKS, OUTPUTS, Case
from seg_perception.benchmarks.null_model import write_null_model
from seg_perception.benchmarks.pictures import NUM_PICTURES
from seg_perception.benchmarks.statistics import Distribution, jitter_ms
from seg_perception.messages.topic_names import topic_token
from seg_perception.models import ModelCard, resolve
from seg_perception.ros.bench.processes import Child, Servant
from seg_perception.ros.environment import node_environment, private_domain_id
from seg_perception.structures import Labels

OURS, PLAIN, PLAIN_GRID = 'node', 'plain', 'plain_grid'
"""Kinds of nodes; the last takes argmax on the network's grid, see ``plain_node``."""
LIFETIME_S = 3600.0
_AS_LIBC_IS = {'GLIBC_TUNABLES': ''}
"""Has the plain node do without `keep_freed_memory`, which gives way to what users set."""
START_S = 90.0
"""How long a node may take until its first output: imports, model, discovery."""


@dataclass(slots=True)
class LiveFigures:
    """What was seen of one node in one or several windows.

    Attributes:
        seconds: length of the windows.
        num_published: images the cameras published meanwhile.
        num_frames: label images that came, all cameras.
        frames_by_camera: the same by camera.
        cpu_s: CPU time by process: node, camera, sink.
        thread_cpu_s: CPU time of the node by kind of thread, see ``Child.cpu_s_by_thread``.
        rss_bytes: resident memory of the node at the end of each window.
        peak_rss_bytes: the most it ever had.
        latencies_ms: from stamp until the label image arrived.
        jitters_ms: of each window and camera.
        stages_ms: the node's own percentiles at the end, by stage and percentile; ours only.
    """

    seconds: float = 0.0
    num_published: int = 0
    num_frames: int = 0
    frames_by_camera: dict[str, int] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    thread_cpu_s: dict[str, float] = field(default_factory=dict)
    rss_bytes: list[int] = field(default_factory=list)
    peak_rss_bytes: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    jitters_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)

    def add(self, other: LiveFigures) -> None:
        """Appends another window."""
        self.seconds += other.seconds
        self.num_published += other.num_published
        self.num_frames += other.num_frames
        for camera, num in other.frames_by_camera.items():
            self.frames_by_camera[camera] = self.frames_by_camera.get(camera, 0) + num
        for process, cpu_s in other.cpu_s.items():
            self.cpu_s[process] = self.cpu_s.get(process, 0.0) + cpu_s
        for kind, cpu_s in other.thread_cpu_s.items():
            self.thread_cpu_s[kind] = self.thread_cpu_s.get(kind, 0.0) + cpu_s
        self.rss_bytes += other.rss_bytes
        self.peak_rss_bytes = max(self.peak_rss_bytes, other.peak_rss_bytes)
        self.latencies_ms += other.latencies_ms
        self.jitters_ms += other.jitters_ms
        self.stages_ms = other.stages_ms or self.stages_ms

    @property
    def cpu_ms_per_frame(self) -> float:
        """CPU milliseconds of the node's process per label image; NaN without one."""
        return self.cpu_s['node'] * 1e3 / self.num_frames if self.num_frames else math.nan

    @property
    def thread_cpu_ms_per_frame(self) -> dict[str, float]:
        """The same by kind of thread."""
        num_frames = self.num_frames or math.nan
        return {kind: cpu_s * 1e3 / num_frames for kind, cpu_s in self.thread_cpu_s.items()}

    @property
    def rate_hz(self) -> float:
        """Label images per second, all cameras."""
        return self.num_frames / self.seconds

    def rate_without_camera_hz(self, num_cores: int) -> float:
        """The rate had the camera's process cost nothing: its CPU time is spread over the cores.

        A core-second of the camera is one that the model could not have.
        """
        return self.num_frames / (self.seconds - self.cpu_s['camera'] / num_cores)

    def to_document(self) -> dict[str, Any]:
        """For the report."""
        return {
            'frames': self.num_frames,
            'seconds': round(self.seconds, 3),
            'rate_hz': self.rate_hz,
            'latency_ms': _as_dict(Distribution.of(self.latencies_ms)),
            'jitter_ms': Distribution.of([j for j in self.jitters_ms if j == j]).p50,
            'missed': max(self.num_published - self.num_frames, 0),
            'frames_by_camera': self.frames_by_camera,
            'cpu_ms_per_frame': self.cpu_ms_per_frame,
            'cpu_ms_per_frame_by_thread': self.thread_cpu_ms_per_frame,
            'cpu_s_by_process': self.cpu_s,
            'rss_mib': {
                'steady': self.rss_bytes[-1] / 2**20 if self.rss_bytes else math.nan,
                'peak': self.peak_rss_bytes / 2**20,
            },
            'stages_ms': self.stages_ms,
        }


def _as_dict(d: Distribution) -> dict[str, float]:
    return {'num': d.num, 'p50': d.p50, 'p95': d.p95, 'p99': d.p99}


@dataclass(frozen=True, slots=True, eq=False)
class NodeUnderTest:
    """A running node and the names of its topics.

    Attributes:
        kind: ``OURS``, ``PLAIN`` or ``PLAIN_GRID``.
        child: its process.
        namespaces: one per camera.
        is_compressed: whether its cameras send compressed images.
        mask_topics: below ``segmentation/``.
    """

    kind: str
    child: Child
    namespaces: tuple[str, ...]
    is_compressed: bool
    mask_topics: tuple[str, ...]

    def image_topic(self, camera: int) -> str:
        """Where a camera publishes."""
        topic = f'{self.namespaces[camera]}/image_raw'
        return f'{topic}/compressed' if self.is_compressed else topic

    def output_topics(self, outputs: str, camera: int) -> list[str]:
        """What a listener to these outputs (a name of ``OUTPUTS``) subscribes to."""
        names = [n for n in OUTPUTS[outputs] if n != 'masks']
        names += self.mask_topics if 'masks' in OUTPUTS[outputs] else ()
        return [f'{self.namespaces[camera]}/segmentation/{name}' for name in names]

    def labels_topic(self, camera: int) -> str:
        """The label images of a camera."""
        return f'{self.namespaces[camera]}/segmentation/labels'


class Rig:
    """Camera and sink as processes on a private ROS domain and namespace, nodes between them.

    Args:
        domain_id: ROS domain; None for a private one.
        log_dir: folder for the processes' logs; a temporary one where None.
    """

    def __init__(self, domain_id: int | None = None, log_dir: Path | None = None) -> None:
        self._domain_id = domain_id if domain_id is not None else private_domain_id()
        self._log_dir = log_dir
        self._stack = ExitStack()
        self._num_nodes = 0
        # Whoever else is on the domain, another benchmark even, has other topics.
        self._namespace = f'/bench_{uuid.uuid4().hex[:12]}'
        self._cards: dict[tuple[str, int], ModelCard] = {}

    def __enter__(self) -> Rig:
        with self._stack:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self._folder = folder
            self._logs = self._log_dir or folder
            self._logs.mkdir(parents=True, exist_ok=True)
            self._env = node_environment(os.environ, domain_id=self._domain_id)
            self._env['ROS_LOG_DIR'] = str(folder / 'ros_log')
            self.camera = self._servant('camera')
            self.sink = self._servant('sink')
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def card(self, case: Case) -> ModelCard:
        """The card of a case's model; the null model is made where it is not yet."""
        key = (case.model, case.num_classes if case.is_null else 0)
        if key not in self._cards:
            path = write_null_model(self._folder, case.num_classes) if case.is_null else case.model
            self._cards[key] = resolve(path)
        return self._cards[key]

    def node(
        self, kind: str, case: Case, parameters: Mapping[str, Any] | None = None
    ) -> NodeUnderTest:
        """Starts a node for a case; the caller stops its process (``child`` is a context).

        Args:
            kind: ``OURS``, ``PLAIN`` or ``PLAIN_GRID``; plain nodes have one camera.
            case: model, threads and cameras are taken from it.
            parameters: further ones, of our node.
        """
        self._num_nodes += 1
        prefix = f'{self._namespace}/{kind}{self._num_nodes}'
        cameras = [f'cam{i}' for i in range(case.num_cameras)]
        namespaces = tuple(f'{prefix}/{camera}' for camera in cameras)
        card = self.card(case)
        masks = card.classes.names[1 : 1 + NUM_MASKS]
        is_compressed = case.encoding == 'jpeg'
        common: dict[str, Any] = {
            'model': str(card.path) if case.is_null else case.model,
            'num_threads': case.num_threads,
            'mask_classes': list(masks) or [''],
        }
        if kind != OURS:
            module, env = 'bench.plain_node', {**self._env, **_AS_LIBC_IS}
            common |= {
                'image_topic': f'{namespaces[0]}/image_raw',
                'is_compressed': is_compressed,
                'argmax_at': 'grid' if kind == PLAIN_GRID else 'input',
            }
        else:
            module, env = 'node', self._env
            common |= {'cameras': cameras, 'trust_model_code': case.is_null}
            for camera, namespace in zip(cameras, namespaces, strict=True):
                common[f'{camera}.image_topic'] = f'{namespace}/image_raw'
                common[f'{camera}.transport'] = 'compressed' if is_compressed else 'raw'
        child = Child(
            'node' if kind == OURS else 'plain node',
            module,
            {**common, **(parameters or {})},
            env=env,
            log_path=self._logs / f'{kind}{self._num_nodes}.log',
            lifetime_s=LIFETIME_S,
        )
        masks_topics = tuple(f'masks/{topic_token(name)}' for name in masks)
        return NodeUnderTest(kind, child, namespaces, is_compressed, masks_topics)

    def measure(
        self,
        node: NodeUnderTest,
        case: Case,
        rates_hz: Sequence[float],
        seconds: float,
        *,
        sizes_wh: Sequence[tuple[int, int]] = (),
        warm_s: float = 0.5,
        num_frames: int = 0,
    ) -> LiveFigures:
        """Plays the case's images to a node and measures it once every output has come.

        Args:
            node: what is measured.
            case: images and outputs.
            rates_hz: of each camera.
            seconds: the window's length.
            sizes_wh: image sizes played one after the other; the case's own where empty.
            warm_s: time between the first outputs and the window.
            num_frames: where not 0, the window ends when so many label images have come.

        Raises:
            ProcessError: a process ended, or nothing came in time.
        """
        topics = [
            topic for i in range(len(rates_hz)) for topic in node.output_topics(case.outputs, i)
        ]
        self.sink.ask('listen', topics=topics)
        self._play(node, case, rates_hz, sizes_wh)
        self._wait_for(node, dict.fromkeys(topics, 1))
        time.sleep(warm_s)
        self.sink.ask('take')
        processes = {'node': node.child, 'camera': self.camera, 'sink': self.sink}
        before = {name: child.cpu_s() for name, child in processes.items()}
        threads_before = node.child.cpu_s_by_thread()
        start_s, start_ns = time.monotonic(), time.time_ns()
        if num_frames:
            self._wait_for(node, {node.labels_topic(0): num_frames}, timeout_s=seconds)
        else:
            time.sleep(seconds)
        after = {name: child.cpu_s() for name, child in processes.items()}
        threads_after = node.child.cpu_s_by_thread()
        elapsed_s, end_ns = time.monotonic() - start_s, time.time_ns()
        arrivals = self.sink.ask('take')
        stamps_ns = self.camera.ask('stop')
        figures = LiveFigures(
            seconds=elapsed_s,
            num_published=sum(
                start_ns <= stamp < end_ns for stamps in stamps_ns.values() for stamp in stamps
            ),
            cpu_s={name: after[name] - before[name] for name in processes},
            thread_cpu_s={k: threads_after[k] - threads_before[k] for k in threads_before},
            rss_bytes=[node.child.rss_bytes()],
            peak_rss_bytes=node.child.peak_rss_bytes(),
            stages_ms=self._stages_ms(node),
        )
        for i, namespace in enumerate(node.namespaces[: len(rates_hz)]):
            came = arrivals[node.labels_topic(i)]
            figures.frames_by_camera[namespace.rsplit('/', 1)[1]] = len(came)
            figures.num_frames += len(came)
            figures.latencies_ms += [(at - stamp) * 1e-6 for stamp, at in came]
            figures.jitters_ms.append(jitter_ms([at for _, at in came]))
        return figures

    def labels_of_first_picture(self, node: NodeUnderTest, case: Case) -> Labels:
        """What a node makes of the first picture of its camera."""
        topic = node.labels_topic(0)
        self.sink.ask('listen', topics=[topic])
        self._play(node, case, [5.0], (), num=1)
        self._wait_for(node, {topic: 2})
        self.camera.ask('stop')
        path = Path(self.sink.ask('save', folder=str(self._folder))[topic])
        message = deserialize_message(path.read_bytes(), Image)
        shape = (message.height, message.width)
        if message.encoding == 'mono8':
            return np.frombuffer(message.data, np.uint8).reshape(shape)
        return np.frombuffer(message.data, np.uint16).reshape(shape)

    def _play(
        self,
        node: NodeUnderTest,
        case: Case,
        rates_hz: Sequence[float],
        sizes_wh: Sequence[tuple[int, int]],
        num: int = NUM_PICTURES,
    ) -> None:
        streams = [
            {
                'topic': node.image_topic(i),
                'rate_hz': rate_hz,
                'encoding': case.encoding,
                'sizes_wh': [list(size_wh) for size_wh in sizes_wh or (case.size_wh,)],
                'scene': case.scene,
                'num': num,
            }
            for i, rate_hz in enumerate(rates_hz)
        ]
        self.camera.ask('play', streams=streams)

    def _wait_for(
        self, node: NodeUnderTest, wanted: Mapping[str, int], timeout_s: float = START_S
    ) -> None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            counts = self.sink.ask('counts')
            if all(counts[topic] >= num for topic, num in wanted.items()):
                return
            if time.monotonic() > deadline_s:
                raise node.child.failure(
                    f'published {counts} within {timeout_s:g} s, expected {dict(wanted)}'
                )
            node.child.check()
            time.sleep(0.05)

    def _stages_ms(self, node: NodeUnderTest) -> dict[str, float]:
        status = self.sink.ask('diagnostics').get(node.image_topic(0), {})
        names = ('stage_', 'latency_')
        return {
            key.removesuffix('_ms'): float(value)
            for key, value in status.items()
            if key.startswith(names)
        }

    def _servant(self, name: str) -> Servant:
        servant = Servant(
            name,
            f'bench.{name}',
            env=self._env,
            log_path=self._logs / f'{name}.log',
            lifetime_s=LIFETIME_S,
        )
        self._stack.callback(servant.stop)
        return servant
