"""Child processes of benchmark and soak: none outlives its deadline, nor the one who started it.

A servant is a child that answers commands: one JSON object a line on its standard input, one a
line on its standard output. It ends when its input does.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from seg_perception.benchmarks.cpu_time import process_cpu_s, thread_cpu_s
from seg_perception.errors import MissingExtraError, SegPerceptionError

_STOP_S = 5.0
_POLL_S = 0.5
_READ_BYTES = 2**20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl: Any = getattr(ctypes.CDLL(None), 'prctl', None)
_TAIL_LINES = 12


class ProcessError(SegPerceptionError):
    """A process of the benchmark or the soak ended, failed or did not answer."""


class Child:
    """One process in a session of its own; leaving the context ends it, whatever happened.

    Args:
        name: for messages.
        module: module of ``seg_perception.ros`` whose ``main`` is run.
        parameters: ROS parameters.
        env: its environment.
        log_path: where its messages go.
        lifetime_s: the kernel ends it after this time, even if nobody else is left to do so.
        ros_arguments: further ROS arguments, such as remappings.
        has_pipes: whether standard input and output are pipes to this process.
    """

    def __init__(
        self,
        name: str,
        module: str,
        parameters: Mapping[str, Any],
        *,
        env: Mapping[str, str],
        log_path: Path,
        lifetime_s: float,
        ros_arguments: Sequence[str] = (),
        has_pipes: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_path
        command = [sys.executable, '-m', 'seg_perception.ros.start', module, '--ros-args']
        for key, value in parameters.items():
            command += ['-p', f'{key}:={json.dumps(value)}']
        command += ros_arguments
        starter, seconds = os.getpid(), max(1, round(lifetime_s))
        with log_path.open('wb') as log_file:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if has_pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if has_pipes else log_file,
                stderr=log_file,
                env=dict(env),
                start_new_session=True,
                preexec_fn=lambda: _limit_life(starter, seconds),
            )
        self._process = _psutil().Process(self.popen.pid)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raises ProcessError, with the end of its log, where the process has ended."""
        if self.popen.poll() is not None:
            raise self.failure(f'ended with {self.popen.returncode}')

    def failure(self, what: str) -> ProcessError:
        """An error that shows the end of the log."""
        lines = self.log_path.read_text(encoding='utf-8', errors='replace').splitlines()
        return ProcessError('\n'.join([f'{self.name} {what}; its log:', *lines[-_TAIL_LINES:]]))

    def cpu_s(self) -> float:
        """CPU time so far, user and system, all threads."""
        self.check()
        return process_cpu_s(self.popen.pid)

    def cpu_s_by_thread(self) -> dict[str, float]:
        """CPU time so far by kind of thread.

        ``executor`` is the main thread (on Linux the one that spins), ``middleware`` what Fast
        DDS started, ``workers`` all others: the node's own and the runtime's.
        """
        times = dict.fromkeys(('executor', 'middleware', 'workers'), 0.0)
        for name, thread_id, cpu_s in thread_cpu_s(self.popen.pid):
            kind = 'middleware' if name.startswith('dds') else 'workers'
            times['executor' if thread_id == self.popen.pid else kind] += cpu_s
        return times

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return int(self._process.memory_info().rss)

    def peak_rss_bytes(self) -> int:
        """The most resident memory it ever had, as Linux says; what it has now elsewhere."""
        try:
            status = Path(f'/proc/{self.popen.pid}/status').read_text(encoding='ascii')
            [line] = [line for line in status.splitlines() if line.startswith('VmHWM:')]
        except (OSError, ValueError):
            return self.rss_bytes()
        return int(line.split()[1]) * 1024

    def num_threads(self) -> int:
        """Threads now."""
        return int(self._process.num_threads())

    def num_fds(self) -> int:
        """Open file descriptors now."""
        return int(self._process.num_fds())

    def stop(self) -> None:
        """Interrupts the process (a servant's input ends); kills it where that does not help."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        elif self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
        try:
            self.popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class Servant(Child):
    """A child that answers commands; see the module."""

    def __init__(self, name: str, module: str, **kwargs: Any) -> None:
        super().__init__(name, module, {}, has_pipes=True, **kwargs)
        self._num_asked = 0
        self._unread = b''

    def ask(
        self,
        do: str,
        *,
        timeout_s: float = 30.0,
        meanwhile: Callable[[], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Has a command done and returns the answer.

        Args:
            do: the command.
            timeout_s: how long it may take.
            meanwhile: called now and then while waiting; may raise to end that.
            arguments: of the command.

        Raises:
            ProcessError: the command failed, the process ended or the time is over.
        """
        stdin, stdout = self.popen.stdin, self.popen.stdout
        assert stdin is not None
        assert stdout is not None
        self._num_asked += 1
        request = {'do': do, 'turn': self._num_asked, 'arguments': arguments}
        try:
            stdin.write(json.dumps(request).encode() + b'\n')
            stdin.flush()
        except BrokenPipeError:
            self.popen.wait(_STOP_S)
            self.check()
        deadline_s = time.monotonic() + timeout_s
        answer: dict[str, Any] = {}
        # There may be an answer that nobody waited for any more.
        while answer.get('turn') != self._num_asked:
            line, newline, rest = self._unread.partition(b'\n')
            if newline:
                self._unread = rest
                if line.startswith(b'{'):  # Fast DDS says there what it has to say
                    answer = json.loads(line)
            elif select.select([stdout], [], [], _POLL_S)[0]:
                received = os.read(stdout.fileno(), _READ_BYTES)
                if not received:
                    self.popen.wait(_STOP_S)
                    raise self.failure(f'ended during {do!r}')
                self._unread += received
            elif time.monotonic() > deadline_s:
                raise self.failure(f'did not answer {do!r} within {timeout_s:g} s')
            elif meanwhile is not None:
                meanwhile()
        if 'error' in answer:
            raise self.failure(f'could not {do!r}: {answer["error"]}')
        return answer['answer']


def serve(commands: Mapping[str, Callable[..., Any]], lines: IO[str], answers: IO[str]) -> None:
    """Answers commands until there are no more; the servant's side of `Servant.ask`."""
    for line in lines:
        request = json.loads(line)
        answer = {'turn': request['turn']}
        try:
            answer['answer'] = commands[request['do']](**request['arguments'])
        except Exception as error:  # told to the one who asked
            answer['error'] = f'{type(error).__name__}: {error}'
        answers.write(json.dumps(answer) + '\n')
        answers.flush()


def _limit_life(starter: int, seconds: int) -> None:
    """Has the kernel end this process with the one who started it, or after a time.

    Both stay in force after exec. An interrupt can come before the starter knows of its child.
    """
    signal.alarm(seconds)
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != starter:
            os._exit(1)


def leave() -> NoReturn:
    """Ends a servant that has shut down: what its libraries do at exit takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _psutil() -> Any:
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError('psutil', 'bench', 'measure processes') from error
    return psutil
