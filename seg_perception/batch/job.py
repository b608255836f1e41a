"""A whole job: inputs in, results and a summary out."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.batch.coco import require_codec
from seg_perception.batch.gathering import write_gathered
from seg_perception.batch.inputs import Found, Problem
from seg_perception.batch.manifest import DoneList
from seg_perception.batch.outputs import COCO, ClassChoice, check_choices
from seg_perception.batch.photographs import segment_photographs
from seg_perception.batch.plan import Plan, Task, make_plan
from seg_perception.batch.records import Record
from seg_perception.batch.running import BatchRunner
from seg_perception.batch.summary import Summary, class_shares, output_lines
from seg_perception.batch.videos import VideoLike, open_store, segment_video, spread
from seg_perception.errors import ConfigurationError, InputError
from seg_perception.pipeline import Segmenter
from seg_perception.progress import ProgressBar
from seg_perception.sources import SourceFrame, open_source
from seg_perception.sources.video import StreamSource, VideoSource

if TYPE_CHECKING:
    from types import FrameType


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job is done.

    Attributes:
        folder: of the results.
        choices: what is made, of ``outputs.CHOICES``.
        class_names: classes that are kept; all where empty.
        batch_size: pictures that go through the model together; 0 for 1 on a CPU, 8 on a GPU.
        num_workers: threads that read, and that write; 0 for one thing after the other.
        max_pixels: larger photographs are problems.
        codec: of overlay videos, of ``videos.CODECS``.
        live_seconds: how long live streams are recorded; without end where None.
        redo: whether to make everything anew.
        is_quiet: whether to show no progress and no remarks; problems are said all the same.
    """

    folder: Path
    choices: Sequence[str]
    class_names: Sequence[str] = ()
    batch_size: int = 0
    num_workers: int = 2
    max_pixels: int = 2**28
    codec: str = 'mpeg4'
    live_seconds: float | None = None
    redo: bool = False
    is_quiet: bool = False


@dataclass(slots=True)
class _Progress:
    """What came of the job so far."""

    bar: ProgressBar
    records: dict[str, Record] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    num_pictures: int = 0
    is_quiet: bool = False

    def say(self, remark: str) -> None:
        if not self.is_quiet:
            self.bar.say(remark)

    def fail(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.bar.say(problem.line())


def run_job(
    segmenter: Segmenter, facts: dict[str, object], found: Found, options: JobOptions
) -> Summary:
    """Segments everything that was found and is not done yet.

    Args:
        segmenter: the model.
        facts: what makes the results, see ``facts``.
        found: the inputs.
        options: see `JobOptions`.

    Raises:
        ConfigurationError: there is nothing to segment, or the results would replace others.
        OutputError: a file cannot be written.
        ModelError: the model failed for good.
        MissingExtraError: COCO is wanted and pycocotools is not installed.
    """
    card = segmenter.card
    check_choices(
        options.choices,
        card.name,
        has_scores=card.output.has_scores,
        has_objects=card.output.gives_objects,
    )
    if segmenter.takes_prompts:
        raise ConfigurationError(
            f'model: expected one that segments by itself, {card.name} segments what prompts '
            'point at: choose another, see `seg-perception models`'
        )
    if segmenter.takes_words and not segmenter.words:
        raise ConfigurationError(f'words: {card.name} looks for what words name: give --words')
    if COCO in options.choices:
        require_codec()
    choose = ClassChoice(segmenter.classes, options.class_names)
    with DoneList(options.folder, facts) as done:
        plan = make_plan(
            found.inputs, done, options.choices, codec=options.codec, redo=options.redo
        )
        if not plan.tasks:
            raise ConfigurationError(
                '; '.join(f'{problem.name}: {problem.message}' for problem in plan.problems)
            )
        done.begin('job', plan.job_files)
        with ProgressBar(total=0, is_shown=False if options.is_quiet else None) as bar:
            progress = _Progress(bar, is_quiet=options.is_quiet)
            progress.problems += [*found.problems, *plan.problems]
            progress.remarks += [*found.remarks(), *plan.remarks]
            for remark in progress.remarks:
                progress.say(remark)
            for problem in progress.problems:
                bar.say(problem.line())
            start_s = time.monotonic()
            _run_all(segmenter, done, plan, choose, options, progress)
            seconds = time.monotonic() - start_s
        tasks = [task for task in plan.tasks if task.key in progress.records]
        records = [(task, progress.records[task.key]) for task in tasks]
        write_gathered(done, records, segmenter, choose.ids, options.choices, plan.root)
    about = segmenter.description()
    objects = [record.num_objects for _, record in records if record.num_objects is not None]
    return Summary(
        folder=options.folder,
        model=card.name,
        engine=about.get('engine', about['backend']),
        device=about['device'],
        num_inputs=len(records),
        num_done_before=sum(task.is_done for task, _ in records),
        num_pictures=progress.num_pictures,
        num_turned=sum(record.is_turned for _, record in records),
        num_objects=sum(objects) if objects else (0 if card.output.gives_objects else None),
        seconds=seconds,
        classes=class_shares(segmenter.classes, [record for _, record in records]),
        outputs=output_lines(records, options.choices),
        problems=progress.problems,
        remarks=progress.remarks,
    )


def _run_all(
    segmenter: Segmenter,
    done: DoneList,
    plan: Plan,
    choose: ClassChoice,
    options: JobOptions,
    progress: _Progress,
) -> None:
    batch_size = options.batch_size or (1 if segmenter.device.type == 'cpu' else 8)
    wants_confidence = segmenter.has_confidence and not {'confidence', COCO}.isdisjoint(
        options.choices
    )
    runner: BatchRunner[object] = BatchRunner(
        segmenter, confidence=wants_confidence, objects=True, choose=choose.of
    )
    photographs = [task for task in plan.tasks if task.input.kind == 'photograph']
    others = [task for task in plan.tasks if task.input.kind != 'photograph']
    bar = progress.bar
    for task in plan.tasks:
        if task.is_done:
            record = Record.of_json(done.result(task.key))
            progress.records[task.key] = record.without_annotations()
            bar.count_before(record.num_pictures)
    bar.total = bar.done + sum(not task.is_done for task in photographs)
    for result in segment_photographs(
        photographs,
        runner,
        options.folder,
        done.begin,
        batch_size=batch_size,
        num_workers=options.num_workers,
        max_pixels=options.max_pixels,
    ):
        if isinstance(result, Problem):
            progress.fail(result)
        else:
            task, names, record = result
            _keep(done, task, names, record, progress)
            progress.num_pictures += 1
        bar.add()
    for task in others:
        if not task.is_done:
            _run_video(segmenter, done, task, runner, options, batch_size, progress)


def _run_video(
    segmenter: Segmenter,
    done: DoneList,
    task: Task,
    runner: BatchRunner[object],
    options: JobOptions,
    batch_size: int,
    progress: _Progress,
) -> None:
    """One video or live stream; what is wrong with it is a problem of its own."""
    bar = progress.bar

    def on_picture(is_new: bool) -> None:
        progress.num_pictures += is_new
        bar.add()

    with contextlib.ExitStack() as stack:
        try:
            opened = _open(task)
            stack.callback(opened.close)
            source: VideoLike = opened
            kept, frames_stated = None, None
            if isinstance(opened, VideoSource):
                frames_stated = opened.num_frames_stated
                kept = open_store(
                    done.state_dir / 'frames', task, done.facts_id, segmenter.classes
                )
                stack.enter_context(kept)
            else:
                source = stack.enter_context(_ended(opened, options.live_seconds))
                progress.say(f'{task.input.name}: recording, Ctrl-C ends it')
            expected = bar.done + (frames_stated or 0)
            bar.total = None if frames_stated is None else expected
            done.begin(task.key, task.outputs)
            names, record = segment_video(
                task,
                source,
                runner,
                options.folder,
                kept,
                tile_frames=spread(task.num_tiles, frames_stated),
                codec=options.codec,
                batch_size=1 if source.is_live else batch_size,
                num_workers=options.num_workers,
                on_picture=on_picture,
            )
        except (InputError, ConfigurationError) as error:
            message = str(error).removeprefix(f'{task.input.name}: ')
            progress.fail(Problem(task.input.name, message))
            return
        if frames_stated is not None and record.num_pictures < frames_stated:
            remark = (
                f'{task.input.name}: {record.num_pictures} pictures could be decoded, its header '
                f'says {frames_stated}'
            )
            progress.remarks.append(remark)
            progress.say(remark)
        _keep(done, task, names, record, progress)
        if kept is not None:
            kept.remove()


def _keep(
    done: DoneList, task: Task, names: Sequence[str], record: Record, progress: _Progress
) -> None:
    done.finish(task.key, task.source, names, record.as_json())
    progress.records[task.key] = record.without_annotations()


def _open(task: Task) -> VideoSource | StreamSource:
    if task.input.path is not None:
        return VideoSource(task.input.path)
    source = open_source(task.input.address)
    assert isinstance(source, StreamSource)
    return source


class _Ended:
    """A live stream that ends when somebody says so."""

    is_live = True

    def __init__(self, source: StreamSource, is_over: Callable[[], bool]) -> None:
        self.rate_hz = source.rate_hz
        self._source = source
        self._is_over = is_over

    def frames(self) -> Iterator[SourceFrame]:
        """The pictures until then; one at least."""
        for frame in self._source.frames():
            yield frame
            if self._is_over():
                return


@contextlib.contextmanager
def _ended(source: StreamSource, seconds: float | None) -> Iterator[VideoLike]:
    """The stream, which ends after some seconds or, instead of the process, at Ctrl-C."""
    interrupts: list[int] = []  # no Event: a handler may come inside of its methods
    end_s = None if seconds is None else time.monotonic() + seconds

    def is_over() -> bool:
        return bool(interrupts) or (end_s is not None and time.monotonic() >= end_s)

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield _Ended(source, is_over)
    finally:
        signal.signal(signal.SIGINT, before)
