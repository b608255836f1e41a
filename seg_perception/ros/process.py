"""Runs a node as a process that starts clearly and stops quickly, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from seg_perception.ros.environment import node_environment
from seg_perception.ros.log import first_line
from seg_perception.ros.shared_memory import remove_orphans

if TYPE_CHECKING:
    from rclpy.node import Node

STOP_DEADLINE_S = 1.0
"""How long a node may take to finish what it is doing once it was told to stop."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_S = 0.1
# The signals that came. No Event: handlers may come inside of its methods, and of each other.
_stopping: list[int] = []


def prepare_environment() -> None:
    """Completes this process's environment as the launch files and the demo do for theirs.

    Nodes started with ``ros2 run`` so use the same DDS profile: without it images are lost on
    their way. What the user has set stays.
    """
    os.environ.update(node_environment(os.environ))


def run_node(make_node: Callable[[], Node], args: Sequence[str] | None = None) -> NoReturn:
    """Initialises rclpy, spins the node until SIGINT or SIGTERM, shuts down, ends the process.

    It ends with 0 after a signal, without the interpreter's own clean-up: with torch loaded that
    takes another second or two, and everything is closed by then.

    The first signal ends the spinning after the running callback. What is not finished
    ``STOP_DEADLINE_S`` later (a forward pass, a model being loaded) is abandoned and the
    process leaves all the same. Later signals are ignored: a second SIGINT while rclpy shuts
    down would kill the process.

    Args:
        make_node: builds the node; called after ``rclpy.init``. A ``SegPerceptionError`` it
            raises is printed as one line and ends the process with 1. The node may have an
            ``exit_code`` attribute: once it is not None the process ends with it. A callback may
            raise ``SystemExit``.
        args: command line arguments; None for ``sys.argv``.
    """
    catch_signals()
    prepare_environment()
    import rclpy.logging
    import rclpy.utilities
    from rclpy.exceptions import NameValidationException, ParameterException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.signals import SignalHandlerOptions

    from seg_perception.errors import SegPerceptionError

    try:
        rclpy.init(
            args=None if args is None else list(args),
            signal_handler_options=SignalHandlerOptions.NO,
        )
    except Exception as error:  # rclpy's own, for arguments it cannot parse; it names them
        print(f'error: {first_line(error)}', file=sys.stderr)
        _leave_now(1)
    num_orphans, num_bytes = remove_orphans()
    if num_orphans:
        rclpy.logging.get_logger('shared_memory').info(
            f'removed {num_orphans} segments ({num_bytes / 2**20:.0f} MiB) of processes that were '
            'killed'
        )
    node = None
    exit_code = 0
    try:
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        _wake_on_signal(node)
        # A thread of the node may set it, which wakes nobody.
        timeout_s = _POLL_S if hasattr(node, 'exit_code') else None
        while not _stopping and getattr(node, 'exit_code', None) is None:
            try:
                executor.spin_once(timeout_s)
            except ExternalShutdownException:
                break
            except Exception as error:  # one callback's failure must not end the node
                node.get_logger().error(''.join(traceback.format_exception(error)).rstrip())
        exit_code = getattr(node, 'exit_code', None) or 0
    except (
        SegPerceptionError,
        NameValidationException,
        ParameterException,  # of rclpy's own, such as a use_sim_time that is a text
        rclpy_implementation.RCLError,
    ) as error:
        print(f'error: {first_line(error)}', file=sys.stderr)
        exit_code = 1
    except SystemExit as leaving:  # a callback's wish
        exit_code = leaving.code if isinstance(leaving.code, int) else 1
        _leave_soon(exit_code)
    finally:
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        if node is not None:
            _destroy(node)
        rclpy.utilities.try_shutdown()
    _leave_now(exit_code)


def catch_signals() -> None:
    """Makes SIGINT and SIGTERM end the process in order; calling it again changes nothing.

    `run_node` does it too; ``start`` does it before a node's libraries are imported.
    """
    for signum in _SIGNALS:
        signal.signal(signum, _stop)


def _stop(signum: int, _frame: FrameType | None) -> None:
    if _stopping:
        return
    _stopping.append(signum)
    _leave_soon(0)


def _leave_soon(exit_code: int) -> None:
    """Ends the process in a while, should what is still to be done not come to an end."""
    abandon = threading.Timer(STOP_DEADLINE_S, _leave_now, (exit_code,))
    abandon.daemon = True
    abandon.start()


def _wake_on_signal(node: Node) -> None:
    """Has the executor return when a signal comes: it waits in C, where no handler runs."""
    from rclpy.callback_groups import ReentrantCallbackGroup
    from rclpy.exceptions import InvalidHandle

    woken = node.create_guard_condition(lambda: None, ReentrantCallbackGroup())
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)

    def wait() -> None:
        while os.read(reader, 1)[0] not in _SIGNALS:
            pass  # somebody else's
        with suppress(InvalidHandle):  # the node may have ended by itself just now
            woken.trigger()

    threading.Thread(target=wait, name='signals', daemon=True).start()


def _destroy(node: Node) -> None:
    """Destroys a node and what rclpy keeps of a managed one.

    Its state machine would keep the node, and with it the participant, whose shared memory then
    stays in /dev/shm.
    """
    node.destroy_node()
    state_machine = getattr(node, '_state_machine', None)
    if state_machine is not None:
        state_machine.destroy_when_not_in_use()


def _leave_now(exit_code: int) -> NoReturn:
    """Ends the process at once: no thread can be waited for any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
