"""Runs a node as a process that starts clearly and stops quickly, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node

STOP_DEADLINE_S = 1.5
"""How long a node may take to finish what it is doing once it was told to stop."""


def prepare_environment() -> None:
    """Lets the ament index find this environment where no setup file was sourced (pip installs).

    The pip wheels of ROS 2 install into ``sys.prefix`` but leave AMENT_PREFIX_PATH unset.
    """
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)


def run_node(make_node: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Initialises rclpy, spins the node until SIGINT or SIGTERM and shuts down.

    The first signal ends the spinning after the running callback. What is not finished
    ``STOP_DEADLINE_S`` later (a forward pass, a model being loaded) is abandoned and the
    process leaves all the same. Later signals are ignored: a second SIGINT while rclpy shuts
    down would kill the process.

    Args:
        make_node: builds the node; called after ``rclpy.init``. A ``SegPerceptionError`` it
            raises is printed as one line and ends the process with 1. The node may have an
            ``exit_code`` attribute: once it is not None the process ends with it.
        args: command line arguments; None for ``sys.argv``.

    Returns:
        The process's exit code: 0 after a signal.
    """
    prepare_environment()
    import rclpy.utilities
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from seg_perception.errors import SegPerceptionError

    stopping = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        stopping.set()
        abandon = threading.Timer(STOP_DEADLINE_S, _leave_now, (0,))
        abandon.daemon = True
        abandon.start()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)

    rclpy.init(
        args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO
    )
    node = None
    exit_code = 0
    try:
        node = make_node()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not stopping.is_set() and getattr(node, 'exit_code', None) is None:
            # The timeout bounds how late a signal is noticed: handlers run between calls.
            executor.spin_once(timeout_sec=0.1)
        exit_code = getattr(node, 'exit_code', None) or 0
    except SegPerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        exit_code = 1
    except ExternalShutdownException:
        pass
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.utilities.try_shutdown()
    return exit_code


def _leave_now(exit_code: int) -> None:
    """Ends the process at once: no thread can be waited for any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
