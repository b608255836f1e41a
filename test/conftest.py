"""What holds for all tests, and how two processes share them (``-n 2 --dist loadgroup``)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

TEST = Path(__file__).parent
LIVE_FOLDERS = ('launch', 'ros')
"""Folders whose tests start nodes, or measure what a process costs."""
LIVE_FIXTURES = {'ros', 'ros_executor', 'spawn'}

if worker := os.environ.get('PYTEST_XDIST_WORKER'):
    # Before anything imports torch or rclpy: the processes share the cores, and no topics.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    if domain := os.environ.get('ROS_DOMAIN_ID'):
        number = int(worker.removeprefix('gw'))
        os.environ['ROS_DOMAIN_ID'] = str((int(domain) - 1 + 10 * number) % 100 + 1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a script; all children would inherit it, and Ctrl-C is tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)

with contextlib.suppress(ImportError):  # where only some extras are installed
    from hypothesis import settings

    # Examples take as long as a busy machine lets them; the first one loads type support too.
    settings.register_profile('unhurried')
    settings.load_profile('unhurried')


# Marks before xdist reads them.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Gives what is live to one process, one test after the other; each other file is a unit."""
    if not config.pluginmanager.hasplugin('xdist'):
        return
    live = {item.path for item in items if _is_live(item)}
    for item in items:
        unit = 'live' if item.path in live else item.path.relative_to(TEST).as_posix()
        item.add_marker(pytest.mark.xdist_group(unit))


def _is_live(item) -> bool:
    folder = item.path.relative_to(TEST).parts[0]
    return folder in LIVE_FOLDERS or bool(LIVE_FIXTURES & set(item.fixturenames))
