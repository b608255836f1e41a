"""Who does the tasks of a job: this process, several processes, or machines of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from seg_perception.errors import (
    ConfigurationError,
    InputError,
    ModelError,
    ModelLostError,
    OutputError,
    SegPerceptionError,
)
from seg_perception.freed_memory import keep_freed_memory
from seg_perception.recordings.assembly import assemble
from seg_perception.recordings.plan import Job
from seg_perception.recordings.slicing import SliceWorker


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do: segment a slice, or put a file together."""

    kind: Literal['slice', 'file']
    number: int


class Workers(Protocol):
    """Does tasks, several at once, in any order."""

    num_workers: int

    def submit(self, task: Task) -> None:
        """Has a task done; there may be more than ``num_workers`` under way."""

    def next_done(self) -> tuple[Task, dict[str, Any] | Exception]:
        """Waits for a task that is done; gives its account, or why it failed."""

    def close(self) -> None:
        """Leaves no process behind; what is under way is not waited for."""


class TaskDoer:
    """Does tasks in the process that it is in.

    Args:
        job: what they are of.
    """

    def __init__(self, job: Job) -> None:
        keep_freed_memory()
        self._job = job
        self._worker = SliceWorker(job)

    def do(self, task: Task) -> dict[str, Any]:
        """Does one.

        Raises:
            SegPerceptionError: it failed.
        """
        if task.kind == 'slice':
            return self._worker.segment(task.number)
        return assemble(self._job, task.number)

    def close(self) -> None:
        """Frees the model's memory."""
        self._worker.close()


class InProcess:
    """Does one task after the other, here.

    Args:
        job: what they are of.
    """

    num_workers = 1

    def __init__(self, job: Job) -> None:
        self._doer = TaskDoer(job)
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """See `Workers`."""
        self._tasks.append(task)

    def next_done(self) -> tuple[Task, dict[str, Any] | Exception]:
        """See `Workers`."""
        task = self._tasks.popleft()
        try:
            return task, self._doer.do(task)
        except Exception as error:
            return task, error

    def close(self) -> None:
        """See `Workers`."""
        self._doer.close()


class Processes:
    """Does tasks in processes of this machine. One that dies costs a try, not the job.

    Args:
        job: what they are of.
        num_workers: processes.
    """

    def __init__(self, job: Job, num_workers: int) -> None:
        self.num_workers = num_workers
        self._job = job
        self._futures: dict[Future[dict[str, Any]], Task] = {}
        self._pool = self._start()

    def submit(self, task: Task) -> None:
        """See `Workers`."""
        try:
            self._futures[self._pool.submit(_do, task)] = task
        except BrokenProcessPool:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = self._start()
            self._futures[self._pool.submit(_do, task)] = task

    def next_done(self) -> tuple[Task, dict[str, Any] | Exception]:
        """See `Workers`."""
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        future = next(iter(done))
        task = self._futures.pop(future)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            return task, ModelLostError(
                'a process ended in the middle of its work, as it does where memory runs out '
                '(see `dmesg`): fewer --jobs need less',
                needs_new_process=True,
            )
        if error is not None:
            return task, error if isinstance(error, Exception) else RuntimeError(str(error))
        return task, future.result()

    def close(self) -> None:
        """See `Workers`."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._futures:  # something went wrong: nothing that is under way is of use any more
            for process in processes:
                process.kill()
        for process in processes:
            process.join()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.num_workers,
            # forked processes inherit threads of torch that are not there
            mp_context=multiprocessing.get_context('spawn'),
            initializer=_begin,
            initargs=(self._job,),
        )


def plain_error(error: SegPerceptionError) -> SegPerceptionError:
    """An error that can be sent to another process; some cannot, for their other arguments."""
    kinds = (OutputError, ConfigurationError, InputError, ModelError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), SegPerceptionError)
    return kind(str(error))


_doer: TaskDoer | None = None


def _begin(job: Job) -> None:
    """Prepares a process."""
    global _doer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that it works for
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _doer = TaskDoer(job)


def _do(task: Task) -> dict[str, Any]:
    assert _doer is not None
    try:
        return _doer.do(task)
    except SegPerceptionError as error:
        raise plain_error(error) from None


def _end_with_parent() -> None:
    """Ends this process where the one that it works for was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
