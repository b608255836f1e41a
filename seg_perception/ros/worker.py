"""The one thread that runs the model, and the one that makes results of it and publishes them.

Frames are finished while the model works on the next ones. No result ever waits for more than the
one before it, so nothing is queued or overtaken.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from seg_perception.errors import GeometryError, InputError, ModelLostError, ServerError
from seg_perception.imaging import decode
from seg_perception.pipeline.pending import Pending
from seg_perception.recovery import ResilientSegmenter
from seg_perception.ros.accounting import DropReason
from seg_perception.ros.camera import Camera
from seg_perception.ros.frame_result import FrameResult
from seg_perception.ros.jobs import DEACTIVATED, Job
from seg_perception.ros.load import LoadControl
from seg_perception.ros.log import ThrottledLog, explain
from seg_perception.ros.mailbox import Mailboxes
from seg_perception.ros.params import Parameters
from seg_perception.ros.side_thread import SideThread
from seg_perception.structures import Frame, Prompt, Segmentation

_MAX_TOLD = 50
"""Objects that the answer to a request names."""


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """A decoded frame and what is wanted of it; prompts are None where the model takes none."""

    camera: Camera
    job: Job
    frame: Frame
    topics: frozenset[str]
    stages_ms: dict[str, float]
    prompts: Sequence[Prompt] | None = None


class SegmentationWorker(threading.Thread):
    """Takes frames from the mailboxes until they are closed.

    Every frame it takes ends in its camera's account, whatever happens; nothing that goes wrong
    with a frame ends the thread. It ends when the last frame is published.

    Args:
        segmenter: starts images on this thread only; `exchange` gives it another.
        cameras: by name.
        mailboxes: where frames come from.
        parameters: the node's, as they are now.
        now_ns: the node's clock, for the age of frames.
        load: what to do less of.
        log: for trouble.
        on_lost: told, on this thread, when the model is lost.

    Attributes:
        segmenter: the one it works with now.
    """

    def __init__(
        self,
        segmenter: ResilientSegmenter,
        cameras: Mapping[str, Camera],
        mailboxes: Mailboxes[Job],
        parameters: Callable[[], Parameters],
        now_ns: Callable[[], int],
        load: LoadControl,
        log: ThrottledLog,
        on_lost: Callable[[ModelLostError], None],
    ) -> None:
        super().__init__(name='segmentation_worker', daemon=True)
        self.segmenter = segmenter
        self._cameras = cameras
        self._mailboxes = mailboxes
        self._parameters = parameters
        self._now_ns = now_ns
        self._load = load
        self._log = log
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._with_model: list[_Task] = []
        self._abandoned = threading.Event()
        self._finisher = SideThread('segmentation_finisher')
        self._broken: ModelLostError | None = None
        self._exchanges: queue.SimpleQueue[Callable[[], ResilientSegmenter]] = queue.SimpleQueue()

    def run(self) -> None:
        """Serves until the mailboxes are closed."""
        with self._finisher:
            self._serve()

    def _serve(self) -> None:
        while not self._abandoned.is_set():
            parameters = self._parameters()
            weights = {name: group.weight for name, group in parameters.camera.items()}
            max_batch = min(self.segmenter.batch_limit or 2**31, parameters.max_batch_size)
            wait_s = parameters.batch_wait_ms * 1e-3
            jobs = self._mailboxes.take(max_batch, weights, wait_s, self._has_to_leave_frames)
            self._make_exchanges()
            if self._broken is not None:
                for name, job in jobs:
                    self._fail(self._cameras[name], job, self._broken)
                jobs = []
            if not jobs:
                if self._mailboxes.is_open or self._has_to_exchange():
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
            if tasks and self._hand_to_model(tasks):
                self._segment(tasks, parameters)

    def exchange(self, make: Callable[[], ResilientSegmenter]) -> None:
        """Has this thread make an exchange between two frames: none is begun and none published.

        It is made even where the worker is told to stop now.

        Args:
            make: gives the model to go on with. Should it raise, the model is lost.
        """
        self._exchanges.put(make)
        self._mailboxes.wake()

    def _has_to_leave_frames(self) -> bool:
        """Whether frames that wait are for the successor, or for the model after an exchange."""
        return self._abandoned.is_set() or self._has_to_exchange()

    def _has_to_exchange(self) -> bool:
        return (
            self._broken is None
            and not self._abandoned.is_set()  # else the successor does
            and not self._exchanges.empty()
        )

    def _make_exchanges(self) -> None:
        """Makes those that wait; after one that failed, nothing is segmented any more.

        What was half exchanged would give labels that another class table describes.
        """
        try:
            while self._has_to_exchange():
                self._finisher.wait()
                with self._lock:  # a successor has the model from before, or the one from after
                    if self._abandoned.is_set():  # it waited for results that did not come
                        return
                    before, self.segmenter = self.segmenter, self._exchanges.get()()
                if self.segmenter is not before:  # what the other cost says nothing of this one
                    self._load.start(can_scale=self.segmenter.can_scale_input)
        except Exception as error:
            self._report('exchange of models', error)
            self._broken = ModelLostError(f'an exchange of models failed: {error}')
            self._on_lost(self._broken)

    def stop(self, timeout_s: float) -> bool:
        """Closes the mailboxes and waits for the frames under way.

        Returns:
            Whether the thread ended in time, or nobody waits for it any more.
        """
        for name, job in self._mailboxes.close():
            self._drop(self._cameras[name], job, DropReason.INACTIVE, DEACTIVATED)
        if self._abandoned.is_set():
            return True
        self.join(timeout_s)
        return not self.is_alive()

    def succeed(self, reason: str) -> SegmentationWorker:
        """Leaves this thread to the model it waits for; it ends when that returns, if ever.

        Args:
            reason: why; told to those who wait for the frames the model has.

        Returns:
            A worker that takes its place, to be started.
        """
        with self._lock:
            self._abandoned.set()
            tasks, self._with_model = self._with_model, []
        self._mailboxes.wake()  # this thread, where it is the results that do not come
        for task in tasks:
            self._drop(task.camera, task.job, DropReason.MODEL_ERROR, reason)
        successor = SegmentationWorker(
            self.segmenter,
            self._cameras,
            self._mailboxes,
            self._parameters,
            self._now_ns,
            self._load,
            self._log,
            self._on_lost,
        )
        successor._exchanges = self._exchanges
        return successor

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
        prompts = camera.prompts.for_frame(frame) if self.segmenter.takes_prompts else None
        return _Task(camera, job, frame, topics, stages_ms, prompts)

    def _hand_to_model(self, tasks: Sequence[_Task]) -> bool:
        """Has `succeed` account for frames from now on; does so here where it came before."""
        with self._lock:
            is_abandoned = self._abandoned.is_set()
            if not is_abandoned:
                self._with_model += tasks
        if is_abandoned:
            for task in tasks:
                self._drop(task.camera, task.job, DropReason.MODEL_ERROR, 'the model hangs')
        return not is_abandoned

    def _take_back(self, tasks: Sequence[_Task]) -> bool:
        """Accounts for frames here again; False where `succeed` has done it."""
        with self._lock:
            if self._abandoned.is_set():
                return False
            self._with_model = [task for task in self._with_model if task not in tasks]
        return True

    def _segment(self, tasks: Sequence[_Task], parameters: Parameters) -> None:
        """Runs the model on a batch and has the results made and published."""
        segmenter, scale = self.segmenter, self._load.step.input_scale
        try:
            segmenter.scale_input(scale if segmenter.can_scale_input else 1.0)
            results = self._start(tasks, parameters).results
        except Exception as error:
            results = partial(_raise, error)
        self._finisher.wait()
        self._finisher.call(partial(self._finish, tasks, results, parameters))

    def _start(self, tasks: Sequence[_Task], parameters: Parameters) -> Pending:
        return self.segmenter.start(
            [task.frame for task in tasks],
            prompts=_prompts_of(tasks),
            confidence=any(task.camera.outputs.needs_confidence(task.topics) for task in tasks),
            objects=any(
                task.job.requests or task.camera.outputs.needs_objects(task.topics)
                for task in tasks
            ),
            output_size_hw=parameters.output_size_hw,
        )

    def _make_results(self, tasks: Sequence[_Task], parameters: Parameters) -> list[Segmentation]:
        if self._abandoned.is_set():
            return []  # nobody wants them
        return self._start(tasks, parameters).results()

    def _finish(
        self,
        tasks: Sequence[_Task],
        make_results: Callable[[], list[Segmentation]],
        parameters: Parameters,
    ) -> None:
        """Publishes the results of a batch; where there are none, those of its frames one by one.

        Every frame ends in its account, but for those that `succeed` has accounted for.
        """
        try:
            results = make_results()
        except Exception as error:
            # One bad frame must not take the others with it; a server that did not answer is not
            # asked again for each of them.
            if len(tasks) > 1 and not isinstance(error, ServerError):
                for alone in ([task] for task in tasks):
                    make_alone = partial(self._make_results, alone, parameters)
                    self._finish(alone, make_alone, parameters)
            elif self._take_back(tasks):
                if isinstance(error, ModelLostError):
                    self._on_lost(error)
                for task in tasks:
                    self._fail(task.camera, task.job, error)
            return
        if self._take_back(tasks):
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
            camera.waiting.put_back(task.job.requests, 'no image had depth; /diagnostics says why')
        elif task.job.requests and task.prompts is not None and not task.prompts:
            # They may come a little after the request, on another topic.
            camera.waiting.put_back(task.job.requests, _no_prompts(camera))
        elif task.job.requests:
            _answer(task.job, _describe(made_of), is_success=True)
        if not num_messages and not task.job.requests:
            camera.account.drop(_why_nothing(errors, camera.outputs.needs_depth(task.topics)))
            return
        stages_ms = {**task.stages_ms, **result.timings_ms}
        stages_ms['decode'] = task.stages_ms['decode']
        stages_ms['publish'] = (time.monotonic() - start_s) * 1e3
        latency_ms = (self._now_ns() - result.stamp_ns) * 1e-6
        is_known = result.stamp_ns and latency_ms >= 0.0
        camera.account.publish(result.stamp_ns, latency_ms if is_known else None, stages_ms)
        since_arrival_ms = (time.monotonic() - task.job.arrived_s) * 1e3
        change = self._load.observe(since_arrival_ms, parameters.latency_budget_ms)
        if change is not None:
            self._log.warning('load', f'{change[0]}, as {change[1]}')

    def _fail(self, camera: Camera, job: Job, error: Exception) -> None:
        """Counts a frame that was lost to an error and says why."""
        if isinstance(error, InputError):
            camera.reject(error)
            _answer(job, str(error), is_success=False)
            return
        self._report(camera.name, error)
        is_server = isinstance(error, ServerError)
        reason = DropReason.SERVER if is_server else DropReason.MODEL_ERROR
        self._drop(camera, job, reason, str(error))

    def _report(self, subject: str, error: Exception) -> None:
        self._log.error(subject, explain(error))

    def _drop(self, camera: Camera, job: Job, reason: DropReason, outcome: str = '') -> None:
        camera.account.drop(reason)
        _answer(job, outcome or reason.value, is_success=False)


def _raise(error: Exception) -> NoReturn:
    raise error


def _why_nothing(errors: Mapping[str, Exception], needs_depth: bool) -> DropReason:
    """Why no message was made of a frame."""
    if any(not isinstance(error, GeometryError) for error in errors.values()):
        return DropReason.MODEL_ERROR
    return DropReason.UNPAIRED if errors or needs_depth else DropReason.UNWANTED


def _answer(job: Job, outcome: str, *, is_success: bool) -> None:
    for request in job.requests:
        request.resolve(outcome, is_success=is_success)


def _prompts_of(tasks: Sequence[_Task]) -> list[Sequence[Prompt]] | None:
    """The prompts of each frame; None where the model takes none."""
    prompts = [task.prompts for task in tasks if task.prompts is not None]
    return prompts if len(prompts) == len(tasks) else None


def _no_prompts(camera: Camera) -> str:
    told = camera.prompts.snapshot()
    why = f' ({told.last_refusal})' if told.last_refusal else ''
    return f'no prompts for this image{why}: publish some on {camera.namespace}/prompt'


def _describe(made_of: FrameResult) -> str:
    """What is on a frame, for people.

    ``640x480: person 21.3%, cat 4.0%``; of a model that gives objects
    ``640x480: 1 cup 0.97 5120 px, 2 spoon 0.88 640 px``, by id, class, score and area.
    """
    result = made_of.segmentation
    height, width = made_of.size_hw
    if result.objects is not None:
        items = made_of.objects.items
        found = [
            f'{item.id} {result.classes.names[item.class_id]} {item.score:.2f} {item.area_px} px'
            for item in items[:_MAX_TOLD]
        ]
        found += [f'and {len(items) - _MAX_TOLD} more'] if len(items) > _MAX_TOLD else []
        return f'{width}x{height}: {", ".join(found) or "no objects"}'
    shares = [f'{name} {share:.1%}' for name, share in result.class_fractions(0.001).items()]
    return f'{width}x{height}: {", ".join(shares) or "nothing labelled"}'
