"""Tasks of a job on a Ray cluster.

Every worker is an actor that loads the model once. Recording and results are files that all
machines see under the same path; only what was done comes back over the network.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from typing import Any

from seg_perception.errors import (
    ConfigurationError,
    MissingExtraError,
    ModelLostError,
    SegPerceptionError,
)
from seg_perception.recordings.plan import Job, package_version
from seg_perception.recordings.workers import Task, TaskDoer, plain_error

LOCAL = 'local'
_MAX_RESTARTS = 3
_REACH_S = 10.0


class RayWorkers:
    """Does tasks on a cluster; a machine that is lost costs a try, not the job.

    Args:
        job: what they are of.
        address: of the cluster; ``auto`` for the one that this machine belongs to; ``local`` for
            one on this machine, which is ended afterwards.
        num_workers: how many; as many as the cluster has CPUs or GPUs for where None.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: there is no cluster, or it has nothing to work on.
    """

    def __init__(self, job: Job, address: str, num_workers: int | None = None) -> None:
        try:
            import ray as library
        except ImportError as error:
            raise MissingExtraError('ray', 'ray', 'work on a cluster') from error
        self._ray: Any = library
        ray = self._ray
        self._is_ours = False
        self._connect(address, num_workers)
        try:
            is_cuda = job.model.run_options.device != 'cpu'
            resources = ray.cluster_resources()
            per_worker = {'num_gpus': 1} if is_cuda else {'num_cpus': _num_threads(job)}
            total = int(resources.get('GPU' if is_cuda else 'CPU', 0))
            at_most = total // max(1, _num_threads(job)) if not is_cuda else total
            self.num_workers = min(num_workers or at_most, at_most, len(job.slices()))
            if self.num_workers < 1:
                raise ConfigurationError(
                    f'--ray {address}: expected a cluster with {"GPUs" if is_cuda else "CPUs"} '
                    f'for a worker, it has {total}; --device says which are used'
                )
            actor = ray.remote(max_restarts=_MAX_RESTARTS, max_task_retries=0, **per_worker)(
                _Worker
            )
            self._actors = [actor.remote(job, package_version()) for _ in range(self.num_workers)]
        except BaseException:
            self.close()
            raise
        self._idle = list(self._actors)
        self._waiting: list[Task] = []
        self._running: dict[Any, tuple[Task, Any]] = {}

    def submit(self, task: Task) -> None:
        """See `Workers`."""
        if not self._idle:
            self._waiting.append(task)
            return
        actor = self._idle.pop()
        self._running[actor.do.remote(task)] = task, actor

    def next_done(self) -> tuple[Task, dict[str, Any] | Exception]:
        """See `Workers`."""
        ray = self._ray
        [reference], _ = ray.wait(list(self._running), num_returns=1)
        task, actor = self._running.pop(reference)
        outcome: dict[str, Any] | Exception
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            outcome = error.cause if isinstance(error.cause, Exception) else error
        except ray.exceptions.RayError as error:
            outcome = ModelLostError(
                f'a worker of the cluster was lost: {" ".join(str(error).split())[:300]}',
                needs_new_process=True,
            )
        self._idle.append(actor)
        if self._waiting:
            self.submit(self._waiting.pop(0))
        return task, outcome

    def close(self) -> None:
        """See `Workers`."""
        for actor in getattr(self, '_actors', []):
            self._ray.kill(actor)
        self._ray.shutdown()

    def _connect(self, address: str, num_workers: int | None) -> None:
        quiet: dict[str, Any] = {'log_to_driver': False, 'logging_level': logging.ERROR}
        # It reports usage to its makers otherwise.
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        try:
            _check_reachable(address)  # Ray itself would try for minutes
            if address == LOCAL:
                num_cpus = num_workers or len(os.sched_getaffinity(0))
                self._ray.init(
                    address='local', num_cpus=num_cpus, include_dashboard=False, **quiet
                )
            else:
                self._ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f'--ray {address}: no cluster there: {" ".join(str(error).split())[:300]}; '
                f'`ray start --head` begins one, {LOCAL} is one on this machine'
            ) from error


class _Worker:
    """A process of the cluster.

    Args:
        job: what it works on.
        version: of this package where the job was made.
    """

    def __init__(self, job: Job, version: str) -> None:
        self._problem = _problem(job, version)
        self._doer = TaskDoer(job)

    def do(self, task: Task) -> dict[str, Any]:
        """Does a task."""
        try:
            if self._problem:
                raise ConfigurationError(self._problem)
            return self._doer.do(task)
        except SegPerceptionError as error:
            raise plain_error(error) from None


def _check_reachable(address: str) -> None:
    """Checks that somebody listens at HOST:PORT; other addresses are Ray's to judge.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition('://')[2].rpartition(':')
    if host and port.isdecimal():
        socket.create_connection((host.strip('[]'), int(port)), _REACH_S).close()


def _problem(job: Job, version: str) -> str:
    """Why this machine cannot do the job; empty where it can."""
    here = f'the machine {platform.node()} of the cluster'
    if package_version() != version:
        return f'{here} has seg_perception {package_version()}, expected {version}'
    for surveyed in job.found.files:
        path = surveyed.file.path
        if not surveyed.fault and not path.is_file():
            return f'{here} does not see {path}: the recording has to be on a shared disk'
    if not os.access(job.work_dir, os.W_OK):
        return f'{here} cannot write {job.work_dir}: results have to be on a shared disk'
    return ''


def _num_threads(job: Job) -> int:
    return max(1, job.model.run_options.num_threads)
