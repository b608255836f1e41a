"""Real nodes over real topics: what the tests in ``ros/``, ``launch/`` and ``cli/`` stand on.

Importing this module prepares the environment of this process and of all its children: a private
domain, discovery on this machine only, the package's DDS profile. It must therefore come before
anything imports rclpy. Nothing here can wait for ever: every wait has a deadline and every
process a time to live.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_perception.ros.environment import profile_variables

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 20.0
"""How long a wait lasts unless it says otherwise; discovery on a busy machine takes seconds."""
_ASK_AGAIN_S = 2.0


_LEASH = """
import ctypes, os, signal, sys
starter, *command = sys.argv[1:]
if hasattr(libc := ctypes.CDLL(None), 'prctl'):
    libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, linux/prctl.h; it outlives exec
if os.getppid() != int(starter):
    sys.exit('who started this has ended')
os.execvp(command[0], command)
"""
"""Has the kernel end a process with the one that started it, even if that one is killed."""


def prepare_environment() -> None:
    """Sets what ROS 2 reads from the environment, leaving alone what is already set."""
    env = os.environ
    env.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(100, 230)))
    env.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    env.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    for variable in profile_variables(env):
        env.setdefault(variable, str(ROOT / 'config' / 'dds' / 'fastdds.xml'))


prepare_environment()


class Collected(list[Any]):
    """The messages received on one topic so far, in order of arrival."""

    def __init__(self, topic: str, explain: Callable[[], str]) -> None:
        super().__init__()
        self.topic = topic
        self.arrived = threading.Condition()
        self._explain = explain

    def add(self, message: Any) -> None:
        """Appends a message and wakes those who wait."""
        with self.arrived:
            self.append(message)
            self.arrived.notify_all()

    def wait_for(self, num_messages: int, timeout_s: float = TIMEOUT_S) -> list[Any]:
        """The first ``num_messages`` messages; fails the test when they do not come in time."""
        return self.wait_until(lambda messages: len(messages) >= num_messages, timeout_s)[
            :num_messages
        ]

    def wait_until(
        self, condition: Callable[[list[Any]], bool], timeout_s: float = TIMEOUT_S
    ) -> list[Any]:
        """All messages so far, as soon as ``condition(messages)`` holds."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: condition(list(self)), timeout_s):
                pytest.fail(
                    f'{self.topic}: not satisfied by the {len(self)} messages that came within '
                    f'{timeout_s:g} s; {self._explain()}'
                )
            return list(self)

    def wait_for_publisher(self, timeout_s: float = TIMEOUT_S) -> None:
        """Returns when somebody publishes on the topic."""
        wait_until(
            lambda: 'publishers: 0' not in self._explain(), timeout_s, f'publisher on {self.topic}'
        )


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> None:
    """Polls ``condition`` until it is true; fails the test after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f'{what}: not there after {timeout_s:g} s')
        time.sleep(0.01)


def send_until(
    send: Callable[[], Any],
    condition: Callable[[], Any],
    what: str,
    timeout_s: float = 30.0,
    period_s: float = 0.1,
) -> None:
    """Sends again and again until ``condition`` is true: best effort may lose a message."""

    def holds() -> Any:
        send()
        time.sleep(period_s)
        return condition()

    wait_until(holds, timeout_s, what)


class Ros:
    """A real node of the test's own, spun by a background thread.

    Attributes:
        node: the rclpy node, for what has no method here.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        self._clients: dict[str, Any] = {}

    def collect(self, topic: str, message_type: type, qos: Any = 10) -> Collected:
        """Subscribes and collects; ``qos`` is a QoSProfile or a (reliable) queue depth."""
        collected = Collected(topic, lambda: f'publishers: {self.node.count_publishers(topic)}')
        self.node.create_subscription(message_type, topic, collected.add, qos)
        return collected

    def publisher(
        self,
        topic: str,
        message_type: type,
        qos: Any = 10,
        *,
        num_subscribers: int = 1,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """A publisher that already has the given number of subscribers (0: does not wait)."""
        publisher = self.node.create_publisher(message_type, topic, qos)
        wait_until(
            lambda: publisher.get_subscription_count() >= num_subscribers,
            timeout_s,
            f'{num_subscribers} subscriber(s) of {topic}',
        )
        return publisher

    def call(
        self, service_type: Any, name: str, request: Any = None, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """Calls a service and returns its response; ``None`` sends an empty request."""
        client = self._client(service_type, name, timeout_s)
        done = threading.Event()
        future = client.call_async(service_type.Request() if request is None else request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_s):
            pytest.fail(f'service {name}: no response within {timeout_s:g} s')
        return future.result()

    def _client(self, service_type: Any, name: str, timeout_s: float) -> Any:
        """A client of a service that is there."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(service_type, name)
        # Not wait_for_service(): it polls coarsely and can miss the deadline by its period.
        wait_until(client.service_is_ready, timeout_s, f'service {name}')
        return client

    def set_params(self, node_name: str, **values: Any) -> list[Any]:
        """Sets parameters; returns the SetParametersResult of each. Dots are written ``__``."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        parameters = [
            Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        return list(
            self.call(SetParameters, f'{_absolute(node_name)}/set_parameters', request).results
        )

    def set_params_atomically(self, node_name: str, **values: Any) -> Any:
        """Sets parameters together or not at all; returns the SetParametersResult."""
        from rcl_interfaces.srv import SetParametersAtomically
        from rclpy.parameter import Parameter

        parameters = [
            Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=parameters)
        service = f'{_absolute(node_name)}/set_parameters_atomically'
        return self.call(SetParametersAtomically, service, request).result

    def get_params(self, node_name: str, *names: str) -> list[Any]:
        """The values of parameters, in the order asked for; None where one is not set."""
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        response = self.call(
            GetParameters,
            f'{_absolute(node_name)}/get_parameters',
            GetParameters.Request(names=list(names)),
        )
        return [parameter_value_to_python(value) for value in response.values]

    def transition(self, node_name: str, label: str, timeout_s: float = TIMEOUT_S) -> bool:
        """Asks a lifecycle node for a transition such as ``'configure'``; whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(
            transition=Transition(id=getattr(Transition, f'TRANSITION_{label.upper()}'))
        )
        service = f'{_absolute(node_name)}/change_state'
        return bool(self.call(ChangeState, service, request, timeout_s).success)

    def state(self, node_name: str, timeout_s: float = TIMEOUT_S) -> str:
        """The lifecycle state of a node: unconfigured, inactive, active or finalized.

        Asked for again until some answer comes: a node of that name that was killed stays in the
        graph for a while, and a request may have gone to it alone.
        """
        from lifecycle_msgs.srv import GetState

        name = f'{_absolute(node_name)}/get_state'
        client = self._client(GetState, name, timeout_s)
        deadline = time.monotonic() + timeout_s
        answered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        asked = []
        try:
            while time.monotonic() < deadline:
                asked.append(client.call_async(GetState.Request()))
                asked[-1].add_done_callback(answered.put)
                with suppress(queue.Empty):
                    return str(answered.get(timeout=_ASK_AGAIN_S).result().current_state.label)
        finally:
            for future in asked:
                client.remove_pending_request(future)
        pytest.fail(f'service {name}: no response within {timeout_s:g} s')

    def wait_for_state(self, node_name: str, label: str, timeout_s: float = TIMEOUT_S) -> None:
        """Returns when the lifecycle node is in the given state."""
        deadline = time.monotonic() + timeout_s
        while (now := self.state(node_name, timeout_s)) != label:
            if time.monotonic() > deadline:
                pytest.fail(f"{node_name}: '{now}', not '{label}' after {timeout_s:g} s")
            time.sleep(0.05)

    def publishers_of(self, node_name: str) -> dict[str, str]:
        """Types by topic of what a node publishes; empty while it is not discovered."""
        return _of_node(self.node.get_publisher_names_and_types_by_node, node_name)

    def subscriptions_of(self, node_name: str) -> dict[str, str]:
        """Types by topic of what a node subscribes to; empty while it is not discovered."""
        return _of_node(self.node.get_subscriber_names_and_types_by_node, node_name)

    def services_of(self, node_name: str) -> dict[str, str]:
        """Types by name of the services a node offers; empty while it is not discovered."""
        return _of_node(self.node.get_service_names_and_types_by_node, node_name)


def _of_node(
    names_and_types: Callable[[str, str], list[tuple[str, list[str]]]], node_name: str
) -> dict[str, str]:
    from rclpy.node import NodeNameNonExistentError

    namespace, _, name = _absolute(node_name).rpartition('/')
    try:
        return {of: types[0] for of, types in names_and_types(name, namespace or '/')}
    except NodeNameNonExistentError:
        # A node's services and topics can be discovered, and used, before its name is: names
        # come in messages of their own (ros_discovery_info).
        return {}


def _absolute(node_name: str) -> str:
    return node_name if node_name.startswith('/') else f'/{node_name}'


class Process:
    """A node under test as a process of its own, in a process group of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        env: Mapping[str, str],
        ttl_s: float,
    ) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open('wb') as log_file:
            self.popen = subprocess.Popen(
                [sys.executable, '-ISc', _LEASH, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                cwd=log_path.parent,
                env=dict(env),
                start_new_session=True,
            )
        self._reaper = threading.Timer(ttl_s, self.kill)
        self._reaper.daemon = True
        self._reaper.start()

    @property
    def log(self) -> str:
        """Everything the process has written so far, both streams."""
        return self.log_path.read_text(errors='replace')

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.popen.poll() is None

    def wait_for_log(self, text: str, timeout_s: float = TIMEOUT_S) -> str:
        """The log, as soon as it contains ``text``; fails when the process ends without it."""
        deadline = time.monotonic() + timeout_s
        while True:
            running = self.is_running()  # Asked first: what was written before the end counts.
            log = self.log
            if text in log:
                return log
            if not running or time.monotonic() > deadline:
                why = 'timed out' if running else f'ended with {self.popen.returncode}'
                pytest.fail(f"{self.name} {why} without logging '{text}':\n{log}")
            time.sleep(0.02)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """The exit code of a process that ends by itself; fails when it does not in time."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f'{self.name} still runs after {timeout_s:g} s:\n{self.log}')
        finally:
            if not self.is_running():
                self._reaper.cancel()

    def stop(self, signal_number: int = signal.SIGINT, timeout_s: float = 10.0) -> int:
        """Signals the process (not its group) and returns its exit code."""
        if self.is_running():
            self.popen.send_signal(signal_number)
        return self.wait(timeout_s)

    def kill(self) -> bool:
        """Kills whatever is left of the group; whether there was anything."""
        self._reaper.cancel()
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            self.popen.poll()
        return True


class Spawner:
    """Starts processes for one test and sees to it that none survives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[tuple[Process, int | None]] = []

    def __call__(
        self,
        module: str,
        params: Mapping[str, Any] | None = None,
        *,
        args: Sequence[str] = (),
        remap: Mapping[str, str] | None = None,
        namespace: str = '',
        env: Mapping[str, str] | None = None,
        expect_exit: int | None = 0,
        ttl_s: float = 120.0,
    ) -> Process:
        """Starts ``python -m seg_perception.ros.<module>``.

        Args:
            module: the node's module below ``seg_perception.ros``, e.g. ``'node'``.
            params: parameters, handed over as a parameter file (an empty list has no type there
                and cannot be given).
            args: further ``--ros-args``, e.g. ``['--log-level', 'debug']``.
            remap: names to replace, ``{'image_raw': '/front/image_raw'}``.
            namespace: namespace of the node.
            env: changes to the environment.
            expect_exit: the exit code asserted when the test ends; None for any.
            ttl_s: the process is killed when it lives longer.
        """
        ros_args = list(args)
        if params:
            path = self.folder / f'params_{len(self._started)}.yaml'
            path.write_text(yaml.safe_dump({'/**': {'ros__parameters': dict(params)}}))
            ros_args += ['--params-file', str(path)]
        for old, new in (remap or {}).items():
            ros_args += ['-r', f'{old}:={new}']
        if namespace:
            ros_args += ['-r', f'__ns:={namespace}']
        command = [sys.executable, '-m', f'seg_perception.ros.{module}']
        if ros_args:
            command += ['--ros-args', *ros_args]
        return self.command(command, name=module, env=env, expect_exit=expect_exit, ttl_s=ttl_s)

    def command(
        self,
        command: Sequence[str],
        *,
        name: str = '',
        env: Mapping[str, str] | None = None,
        expect_exit: int | None = 0,
        ttl_s: float = 120.0,
    ) -> Process:
        """Starts any command in the same manner."""
        name = name or Path(command[0]).name
        process = Process(
            name,
            command,
            self.folder / f'{len(self._started)}_{name}.log',
            {
                **os.environ,
                'PYTHONUNBUFFERED': '1',
                'PYTHONFAULTHANDLER': '1',
                'RCUTILS_COLORIZED_OUTPUT': '0',
                'ROS_LOG_DIR': str(self.folder / 'ros_log'),
                **(env or {}),
            },
            ttl_s,
        )
        self._started.append((process, expect_exit))
        return process

    def stop_all(self) -> None:
        """Stops what still runs, as the user would, and complains about what did not stop well."""
        complaints = []
        for process, _ in reversed(self._started):
            if process.is_running():
                process.popen.send_signal(signal.SIGINT)
        for process, expect_exit in reversed(self._started):
            try:
                exit_code = process.popen.wait(10.0)
            except subprocess.TimeoutExpired:
                complaints.append(f'{process.name} did not end within 10 s of SIGINT')
            else:
                if expect_exit is not None and exit_code != expect_exit:
                    complaints.append(
                        f'{process.name} ended with {exit_code}, expected {expect_exit}'
                    )
            if process.kill():
                complaints.append(f'{process.name} left processes behind')
            # pytest shows what a fixture prints only when the test (or this) fails.
            print(f'----- {process.name} ({process.popen.poll()}) -----\n{process.log}')
        if complaints:
            pytest.fail('; '.join(complaints))


@pytest.fixture(scope='session')
def ros_executor() -> Iterator[Any]:
    """A background executor in a context of its own."""
    rclpy = pytest.importorskip(
        'rclpy', reason='rclpy is not installed: source a ROS 2 setup file or scripts/setup'
    )
    from rclpy.exceptions import InvalidHandle
    from rclpy.executors import SingleThreadedExecutor  # EventsExecutor hangs in some builds

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.leaving = queue.SimpleQueue()
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            with suppress(InvalidHandle):  # a test has destroyed what it has just looked at
                executor.spin_once(timeout_sec=0.1)
            # Here nothing of a node is in use.
            while not executor.leaving.empty():
                node, is_gone = executor.leaving.get()
                executor.remove_node(node)
                node.destroy_node()
                is_gone.set()

    thread = threading.Thread(target=spin, name='ros-test-executor', daemon=True)
    thread.start()
    yield executor
    stop.set()
    thread.join(5.0)
    executor.shutdown(timeout_sec=5.0)
    rclpy.shutdown(context=context)


@pytest.fixture
def ros(ros_executor: Any, request: pytest.FixtureRequest) -> Iterator[Ros]:
    """A node of the test's own with helpers; see :class:`Ros`."""
    import rclpy

    node = rclpy.create_node(
        f'test_{abs(hash(request.node.nodeid)) % 10**8}', context=ros_executor.context
    )
    ros_executor.add_node(node)
    yield Ros(node)
    is_gone = threading.Event()
    ros_executor.leaving.put((node, is_gone))
    if not is_gone.wait(TIMEOUT_S):
        pytest.fail('the executor of the tests does not spin any more')


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawner]:
    """Starts nodes as processes; see :class:`Spawner`."""
    pytest.importorskip(
        'rclpy', reason='rclpy is not installed: source a ROS 2 setup file or scripts/setup'
    )
    spawner = Spawner(tmp_path)
    yield spawner
    spawner.stop_all()
