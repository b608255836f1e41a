"""The one thread that owns the model, and the one that publishes what it found.

Frames are published while the model works on the next ones. No result ever waits for more than
the one before it, so nothing is queued or overtaken.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from seg_perception.errors import GeometryError, InputError
from seg_perception.imaging import decode
from seg_perception.pipeline import Segmenter
from seg_perception.ros.accounting import DropReason
from seg_perception.ros.camera import Camera, Job
from seg_perception.ros.log import ThrottledLog, explain
from seg_perception.ros.mailbox import Mailboxes
from seg_perception.ros.params import Parameters
from seg_perception.structures import Frame, Segmentation


@dataclass(frozen=True, slots=True)
class _Task:
    """A decoded frame and what is wanted of it."""

    camera: Camera
    job: Job
    frame: Frame
    topics: frozenset[str]
    stages_ms: dict[str, float]


class SegmentationWorker(threading.Thread):
    """Takes frames from the mailboxes until they are closed.

    Every frame it takes ends in its camera's account, whatever happens; nothing that goes wrong
    with a frame ends the thread. It ends when the last frame is published.

    Args:
        segmenter: used by this thread only; `exchange` gives it another.
        cameras: by name.
        mailboxes: where frames come from.
        parameters: the node's, as they are now.
        now_ns: the node's clock, for the age of frames.
        log: for trouble.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cameras: Mapping[str, Camera],
        mailboxes: Mailboxes[Job],
        parameters: Callable[[], Parameters],
        now_ns: Callable[[], int],
        log: ThrottledLog,
    ) -> None:
        super().__init__(name='segmentation_worker', daemon=True)
        self._segmenter = segmenter
        self._cameras = cameras
        self._mailboxes = mailboxes
        self._parameters = parameters
        self._now_ns = now_ns
        self._log = log
        self._publisher = ThreadPoolExecutor(1, 'segmentation_publisher')
        self._publishing: Future[None] | None = None
        self._exchanges: queue.SimpleQueue[Callable[[], Segmenter]] = queue.SimpleQueue()

    def run(self) -> None:
        """Serves until the mailboxes are closed."""
        with self._publisher:
            self._serve()

    def _serve(self) -> None:
        while True:
            parameters = self._parameters()
            weights = {name: group.weight for name, group in parameters.camera.items()}
            jobs = self._mailboxes.take(
                parameters.max_batch_size, weights, parameters.batch_wait_ms * 1e-3
            )
            self._make_exchanges()
            if not jobs:
                if self._mailboxes.is_open:
                    continue
                return
            parameters = self._parameters()
            tasks = []
            for name, job in jobs:
                try:
                    task = self._prepare(self._cameras[name], job, parameters)
                except Exception as error:
                    self._fail(self._cameras[name], job, error)
                else:
                    tasks += [task] if task is not None else []
            if tasks:
                self._segment(tasks, parameters)

    def exchange(self, make: Callable[[], Segmenter]) -> None:
        """Has this thread make an exchange between two frames: none is begun and none published.

        It is made even where the worker is told to stop now.

        Args:
            make: gives the model to go on with; raises nothing.
        """
        self._exchanges.put(make)
        self._mailboxes.wake()

    def _make_exchanges(self) -> None:
        while not self._exchanges.empty():
            if self._publishing is not None:
                self._publishing.result()
            self._segmenter = self._exchanges.get()()

    def stop(self, timeout_s: float) -> bool:
        """Closes the mailboxes and waits for the frames under way.

        Returns:
            Whether the thread ended in time.
        """
        for name, job in self._mailboxes.close():
            self._drop(self._cameras[name], job, DropReason.INACTIVE, 'the node was deactivated')
        self.join(timeout_s)
        return not self.is_alive()

    def _prepare(self, camera: Camera, job: Job, parameters: Parameters) -> _Task | None:
        """Decides whether a frame is worth the model's time, and decodes it."""
        start_s = time.monotonic()
        age_s = (self._now_ns() - job.frame.stamp_ns) * 1e-9
        if 0.0 < parameters.max_frame_age_s < abs(age_s):
            self._drop(
                camera,
                job,
                DropReason.STALE,
                f'frame is {age_s:.2f} s old, max_frame_age_s is {parameters.max_frame_age_s:g}',
            )
            return None
        topics = camera.outputs.wanted()
        if not topics and not job.requests:
            self._drop(camera, job, DropReason.UNWANTED)
            return None
        frame = job.frame
        if not isinstance(frame, Frame):
            frame = decode(frame, max_pixels=parameters.max_pixels)
        stages_ms = {
            'queue': (start_s - job.arrived_s) * 1e3,
            'decode': (time.monotonic() - start_s) * 1e3,
        }
        return _Task(camera, job, frame, topics, stages_ms)

    def _segment(self, tasks: list[_Task], parameters: Parameters) -> None:
        """Runs the model on a batch and hands over the results; on failure, frame by frame."""
        try:
            results = self._segmenter.segment(
                [task.frame for task in tasks],
                confidence=any(
                    task.camera.outputs.needs_confidence(task.topics) for task in tasks
                ),
                objects=any(task.camera.outputs.needs_objects(task.topics) for task in tasks),
                output_size_hw=parameters.output_size_hw,
            )
        except Exception as error:
            if len(tasks) > 1:
                # One bad frame must not take the others with it.
                for task in tasks:
                    self._segment([task], parameters)
                return
            self._fail(tasks[0].camera, tasks[0].job, error)
            return
        if self._publishing is not None:
            self._publishing.result()
        self._publishing = self._publisher.submit(self._publish_all, tasks, results, parameters)

    def _publish_all(
        self, tasks: Sequence[_Task], results: Sequence[Segmentation], parameters: Parameters
    ) -> None:
        for task, result in zip(tasks, results, strict=True):
            try:
                self._publish(task, result, parameters)
            except Exception as error:
                self._fail(task.camera, task.job, error)

    def _publish(self, task: _Task, result: Segmentation, parameters: Parameters) -> None:
        start_s = time.monotonic()
        camera = task.camera
        made_of = camera.frame_result(task.job, task.frame, result, parameters)
        num_messages, errors = camera.outputs.publish(made_of, task.topics)
        for topic, error in errors.items():
            self._report(f'{camera.name}: {topic}', error)
        if task.job.requests and camera.outputs.needs_depth(task.topics) and not made_of.depth:
            camera.renew(task.job.requests, 'no image had depth; /diagnostics says why')
        elif task.job.requests:
            _answer(task.job, _describe(result), is_success=True)
        if not num_messages and not task.job.requests:
            camera.account.drop(_why_nothing(errors, camera.outputs.needs_depth(task.topics)))
            return
        stages_ms = {**task.stages_ms, **result.timings_ms}
        stages_ms['decode'] = task.stages_ms['decode']
        stages_ms['publish'] = (time.monotonic() - start_s) * 1e3
        latency_ms = (self._now_ns() - result.stamp_ns) * 1e-6
        is_known = result.stamp_ns and latency_ms >= 0.0
        camera.account.publish(result.stamp_ns, latency_ms if is_known else None, stages_ms)

    def _fail(self, camera: Camera, job: Job, error: Exception) -> None:
        """Counts a frame that was lost to an error and says why."""
        if isinstance(error, InputError):
            camera.reject(error)
            _answer(job, str(error), is_success=False)
            return
        self._report(camera.name, error)
        self._drop(camera, job, DropReason.MODEL_ERROR, str(error))

    def _report(self, subject: str, error: Exception) -> None:
        self._log.error(subject, explain(error))

    def _drop(self, camera: Camera, job: Job, reason: DropReason, outcome: str = '') -> None:
        camera.account.drop(reason)
        _answer(job, outcome or reason.value, is_success=False)


def _why_nothing(errors: Mapping[str, Exception], needs_depth: bool) -> DropReason:
    """Why no message was made of a frame."""
    if any(not isinstance(error, GeometryError) for error in errors.values()):
        return DropReason.MODEL_ERROR
    return DropReason.UNPAIRED if errors or needs_depth else DropReason.UNWANTED


def _answer(job: Job, outcome: str, *, is_success: bool) -> None:
    for request in job.requests:
        request.resolve(outcome, is_success=is_success)


def _describe(result: Segmentation) -> str:
    """What is on a frame, for people: ``640x480: person 21.3%, cat 4.0%``."""
    height, width = result.labels_YX.shape
    shares = [f'{name} {share:.1%}' for name, share in result.class_fractions(0.001).items()]
    return f'{width}x{height}: {", ".join(shares) or "nothing labelled"}'
