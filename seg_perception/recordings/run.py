"""Does a job: what is done stays done, what fails is tried again, all is accounted for."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_perception.batch.manifest import STATE_FOLDER, DoneList, file_identity
from seg_perception.errors import (
    ConfigurationError,
    MissingExtraError,
    OutputError,
    SegPerceptionError,
)
from seg_perception.progress import ProgressBar
from seg_perception.recordings.assembly import job_topics
from seg_perception.recordings.bag_files import explained, metadata, write_metadata
from seg_perception.recordings.plan import FILES_FOLDER, RESULTS_FOLDER, Job, Slice
from seg_perception.recordings.workers import Task, Workers

_NUM_TRIES = 3
_FATAL = (OutputError, ConfigurationError, MissingExtraError)
"""Errors that another try would only repeat."""

Remark = Callable[[str], None]


@dataclass(slots=True)
class Account:
    """What became of a recording.

    Attributes:
        out: the new recording.
        num_images: images that were recorded and chosen, by topic.
        num_segmented: those that were segmented, by topic.
        faults: topic, time of recording and reason of each that could not be.
        num_uncalibrated: those without a ``camera_info``, as the newest was not of their size.
        damage: what of the recording could not be read, and why.
        num_lost: messages in the damaged parts, as far as the recording says.
        num_copied: messages that were recorded and are in the new recording too.
        num_messages: all messages of the new recording.
        num_tasks_done_before: pieces of work that an earlier run had done.
        failures: tries that failed and were repeated with success.
    """

    out: Path
    num_images: Counter[str] = field(default_factory=Counter)
    num_segmented: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, int, str]] = field(default_factory=list)
    num_uncalibrated: int = 0
    damage: list[str] = field(default_factory=list)
    num_lost: int = 0
    num_copied: int = 0
    num_messages: int = 0
    num_tasks_done_before: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing was lost."""
        return not self.faults and not self.damage


class Run:
    """A job that is being done.

    Args:
        job: what is to be done.
        out: the new recording.
        is_anew: whether to forget what an earlier run has done.

    Raises:
        ConfigurationError: the new recording is there already, or another run is at work, or an
            earlier one was begun with something else.
        OutputError: the folder cannot be written.
    """

    def __init__(self, job: Job, out: Path, *, is_anew: bool = False) -> None:
        self._job = job
        self._out = out
        check_free(out)
        _check_own(job.work_dir)
        if is_anew and job.work_dir.exists():
            DoneList(job.work_dir, job.facts()).close()  # refused while another run is at work
            with explained(job.work_dir / 'x'):
                shutil.rmtree(job.work_dir)
        self._done = DoneList(job.work_dir, job.facts())
        with explained(job.work_dir / 'x'):
            for name in (RESULTS_FOLDER, FILES_FOLDER):
                (job.work_dir / name).mkdir(exist_ok=True)
        self._slices = job.slices()
        self._files = sorted({part.file for part in self._slices})

    def frames(self) -> Iterator[tuple[int, int, int, dict[str, int]]]:
        """Camera, time, stamp and pixels by class of every image that was segmented, by time."""
        for part in self._slices:
            yield from self._done.result(_slice_key(part.number))['frames']

    def do(self, make_workers: Callable[[], Workers], bar: ProgressBar) -> Account:
        """Does all that is not done yet.

        Args:
            make_workers: gives who does it; not called where nothing is left to do.
            bar: told of images; says what fails.

        Raises:
            ConfigurationError: an earlier run was begun with something else.
            SegPerceptionError: a piece of work failed again and again.
        """
        account = Account(self._out)
        tasks = self._open_tasks(account)
        if tasks:
            bar.reach(sum(self._num_images(p) for p in self._slices if self._is_done_slice(p)))
            workers = make_workers()
            try:
                self._do_all(tasks, workers, bar, account)
            finally:
                workers.close()
        self._sum_up(account)
        return account

    def finish(self, account: Account) -> None:
        """Puts the new recording where it belongs and removes the rest.

        Raises:
            OutputError: it cannot be written.
        """
        job = self._job
        folder = job.work_dir / FILES_FOLDER
        files = [self._done.result(_file_key(file)) for file in self._files]
        document = metadata(job.storage, job.metadata_version, job_topics(job), files)
        write_metadata(folder, document)
        account.num_messages = document['rosbag2_bagfile_information']['message_count']
        with explained(self._out):
            os.rename(folder, self._out)
        self.close()
        shutil.rmtree(job.work_dir, ignore_errors=True)

    def close(self) -> None:
        """Lets go of the folder; what is done stays there. Harmless when repeated."""
        self._done.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_tasks(self, account: Account) -> list[Task]:
        """What is left to do: slices by time, each file behind its last slice."""
        tasks = []
        for file in self._files:
            parts = [part for part in self._slices if part.file == file]
            todo = [part for part in parts if not self._is_done_slice(part)]
            is_done = not todo and self._is_done(_file_key(file), file)
            account.num_tasks_done_before += len(parts) - len(todo) + is_done
            tasks += [Task('slice', part.number) for part in todo]
            tasks += [] if is_done else [Task('file', file)]
        return tasks

    def _is_done_slice(self, part: Slice) -> bool:
        # Results of a slice are removed when they are in their file.
        file_key = _file_key(part.file)
        if self._done.state(file_key, self._source(part.file)) == 'done':
            return True
        return self._is_done(_slice_key(part.number), part.file)

    def _is_done(self, key: str, file: int) -> bool:
        state = self._done.state(key, self._source(file))
        if state in ('made otherwise', 'input changed'):
            changes = '; '.join(self._done.differences(key)) or 'the recording'
            raise ConfigurationError(
                f'{self._job.work_dir} holds work that was begun with something else ({changes}): '
                f'give the same again to go on with it, or --redo to begin anew'
            )
        return state == 'done'

    def _source(self, file: int) -> dict[str, int]:
        return file_identity(self._job.found.files[file].file.path)

    def _num_images(self, part: Slice) -> int:
        return int(self._done.result(_slice_key(part.number))['images'])

    def _do_all(
        self, tasks: list[Task], workers: Workers, bar: ProgressBar, account: Account
    ) -> None:
        tries: Counter[Task] = Counter()
        waiting = list(reversed(tasks))
        open_slices = Counter(
            self._slices[task.number].file for task in tasks if task.kind == 'slice'
        )
        held: dict[int, Task] = {}  # files whose slices are not all done
        num_under_way = 0
        while waiting or num_under_way:
            while waiting and num_under_way < 2 * workers.num_workers:
                task = waiting.pop()
                if task.kind == 'file' and open_slices[task.number]:
                    held[task.number] = task
                    continue
                workers.submit(task)
                num_under_way += 1
            task, outcome = workers.next_done()
            num_under_way -= 1
            if isinstance(outcome, Exception):
                tries[task] += 1
                self._check_again(task, tries[task], outcome)
                bar.say(f'{_name(task)} failed and is tried again: {outcome}')
                account.failures.append(f'{_name(task)}: {outcome}')
                waiting.append(task)
                continue
            self._record(task, outcome)
            if task.kind == 'slice':
                bar.add(outcome['images'])
                file = self._slices[task.number].file
                open_slices[file] -= 1
                if not open_slices[file] and file in held:
                    waiting.append(held.pop(file))

    def _check_again(self, task: Task, num_tries: int, error: Exception) -> None:
        """Raises where it makes no sense to try again."""
        if isinstance(error, _FATAL):
            raise error
        if num_tries >= _NUM_TRIES or not isinstance(error, SegPerceptionError):
            kind = type(error) if isinstance(error, SegPerceptionError) else RuntimeError
            raise kind(
                f'{_name(task)} failed {num_tries} time(s), the last time with: {error}; what is '
                f'done is kept in {self._job.work_dir}: the same command goes on with it'
            ) from error

    def _record(self, task: Task, outcome: dict[str, Any]) -> None:
        if task.kind == 'slice':
            part = self._slices[task.number]
            name = self._job.results_path(part.number).relative_to(self._job.work_dir)
            key = _slice_key(part.number)
            self._done.finish(key, self._source(part.file), [name.as_posix()], outcome)
            return
        name = self._job.file_path(task.number).relative_to(self._job.work_dir)
        key = _file_key(task.number)
        self._done.finish(key, self._source(task.number), [name.as_posix()], outcome)
        for part in self._slices:
            if part.file == task.number:
                self._job.results_path(part.number).unlink(missing_ok=True)

    def _sum_up(self, account: Account) -> None:
        job = self._job
        for part in self._slices:
            result = self._done.result(_slice_key(part.number))
            for camera, *_ in result['frames']:
                account.num_segmented[job.cameras[camera].topic] += 1
            account.faults += [tuple(fault) for fault in result['faults']]
            account.num_uncalibrated += result['uncalibrated']
            if result['read_fault']:
                account.damage.append(result['read_fault'])
        for topic, _, _ in account.faults:
            account.num_images[topic] += 1
        account.num_images += account.num_segmented
        for file in self._files:
            result = self._done.result(_file_key(file))
            account.num_copied += result['num_copied']
            account.damage += result['read_faults']
            surveyed = job.found.files[file]
            is_whole = job.range_ns[0] <= surveyed.start_ns and surveyed.end_ns <= job.range_ns[1]
            if job.has_originals and is_whole:
                account.num_lost += max(0, surveyed.num_messages - result['num_copied'])
        account.damage += [file.fault for file in job.found.files if file.fault]
        account.damage = list(dict.fromkeys(account.damage))


def check_free(out: Path) -> None:
    """Checks that there is no such recording yet.

    Raises:
        ConfigurationError: there is something.
    """
    if out.exists():
        raise ConfigurationError(
            f'{out} is there already: remove it, or choose another name with -o'
        )


def _check_own(work_dir: Path) -> None:
    """Refuses a folder of somebody else's, as all that is in it is removed in the end."""
    if work_dir.is_dir() and any(work_dir.iterdir()) and not (work_dir / STATE_FOLDER).is_dir():
        raise ConfigurationError(
            f'{work_dir}: expected what an interrupted run left, got something else: move it '
            f'away, or choose another name with -o'
        )


def _name(task: Task) -> str:
    return f'{task.kind} {task.number}'


def _slice_key(number: int) -> str:
    return f'slice {number:06d}'


def _file_key(number: int) -> str:
    return f'file {number:04d}'
