"""How commands end: exit codes, and one explained line instead of a traceback."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import sys
import traceback
from collections.abc import Callable

from seg_perception.cli.output import print_json
from seg_perception.errors import SegPerceptionError
from seg_perception.interruption import terminable

DONE = 0
FAILED = 1
"""An error that was explained, or a check that did not pass."""
WRONG_ARGUMENTS = 2
"""As argparse has it."""
OUR_BUG = 70
"""Something that nobody foresaw; EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
READER_GONE = 141
"""What read our output has closed it, as ``head`` does: 128 + SIGPIPE, as the shell has it."""

DEBUG_VARIABLE = 'SEG_PERCEPTION_DEBUG'

_REMEDIES: dict[int, str] = {
    errno.ENOENT: 'check the path',
    errno.EACCES: 'check who owns it and its mode (ls -l), or choose another place',
    errno.EPERM: 'check who owns it and its mode (ls -l), or choose another place',
    errno.EROFS: 'choose a place that can be written to',
    errno.EISDIR: 'a file is expected, this is a folder',
    errno.ENOTDIR: 'a folder is expected, this is a file',
    errno.EEXIST: 'remove it, or choose another name',
    errno.ENOSPC: 'free some space (df -h), or choose another disk',
    errno.EDQUOT: 'free some space (quota), or choose another disk',
    errno.EMFILE: 'allow more open files: ulimit -n 4096',
    errno.ENAMETOOLONG: 'choose a shorter name',
    errno.ELOOP: 'links that point to each other lead to it: check the path',
    errno.ECONNREFUSED: 'check the address, and that the server runs',
}

_ROS_SUFFIXES = ('_msgs', '_srvs', '_interfaces')
_PIP_NAMES = {'cv2': "'opencv-python<5'", 'yaml': 'PyYAML'}
"""Where a module's name is not the one that pip knows."""


def run_command(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Runs a command, and explains on stderr (with ``--json`` on stdout too) why it failed.

    Args:
        run: the command: returns 0 or 1.
        arguments: its arguments; ``debug`` and ``json``, where there, are used here too.

    Returns:
        The exit code.
    """
    try:
        with terminable():
            exit_code = int(run(arguments))
        sys.stdout.flush()  # what cannot be written is an error, and not only at exit
        return exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_reader_gone():
            _leave_stdout()
            return READER_GONE
        if getattr(arguments, 'debug', False) or os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        explanation = explain(error)
        message = explanation or f'{type(error).__name__}: {error}'
        if explanation is not None:
            print(f'error: {message}', file=sys.stderr)
        else:
            _confess(message)
        if getattr(arguments, 'json', False):
            with contextlib.suppress(OSError):  # what stdout cannot take was explained above
                print_json({'error': {'kind': type(error).__name__, 'message': message}})
        flush_stdout()
        return FAILED if explanation is not None else OUR_BUG


def explain(error: BaseException) -> str | None:
    """Says what is wrong and what to do, of errors that users and machines can cause.

    Returns:
        The message; None of what nobody but us can cause.
    """
    if isinstance(error, SegPerceptionError):
        return str(error)
    if isinstance(error, OSError):
        return _explain_os_error(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _explain_missing_module(error.name)
    if isinstance(error, MemoryError):
        return 'there is not enough memory: close other programs, or give smaller images'
    if isinstance(error, UnicodeDecodeError):
        return f'expected text in UTF-8, got something else ({error})'
    return None


def flush_stdout() -> None:
    """Writes out what was printed; where it cannot be, lets nothing complain of it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _leave_stdout()


def _explain_missing_module(name: str) -> str:
    package = name.partition('.')[0]
    if package == __package__.partition('.')[0]:
        return (
            f'this installation of {package} is not complete, it lacks {name}: install it anew, '
            f'with pip install --force-reinstall --no-deps, or with colcon build in a workspace'
        )
    missing = f'the Python module {package} is needed and not installed'
    if package.endswith(_ROS_SUFFIXES):
        return f'{missing}: sudo apt install ros-$ROS_DISTRO-{package.replace("_", "-")}'
    return f'{missing}: pip install {_PIP_NAMES.get(package, package)}'


def _explain_os_error(error: OSError) -> str:
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    what = error.strerror or str(error) or type(error).__name__
    message = f'{" -> ".join(paths)}: {what}' if paths else what
    remedy = _REMEDIES.get(error.errno or 0)
    return f'{message}; {remedy}' if remedy else message


def _confess(message: str) -> None:
    print(
        f'internal error: {message}\n'
        'This is a bug of seg_perception. Please report it with the file that\n'
        '`seg-perception doctor --bundle report.zip` writes, and with the traceback, which the '
        'same\ncommand shows with --debug.',
        file=sys.stderr,
    )


def _is_reader_gone() -> bool:
    """Whether it is our output's pipe that broke, and not one to another process."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _leave_stdout() -> None:
    """What is left to be flushed goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
