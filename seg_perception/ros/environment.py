"""Where the package's files lie, whether there is ROS 2, and the environment of its nodes.

Knows ROS 2's environment variables, but needs no ROS to be imported.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path

from seg_perception.errors import MissingLibraryError

PACKAGE = 'seg_perception'
DDS_PROFILE = Path('config', 'dds', 'fastdds.xml')


def require_ros(purpose: str = 'run the nodes') -> None:
    """Says how to get ROS 2 where it cannot be imported.

    Args:
        purpose: what it is needed for, completing "… is needed to ‹purpose›".

    Raises:
        MissingLibraryError: it cannot.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise MissingLibraryError(
            'rclpy',
            purpose,
            'source /opt/ros/<distribution>/setup.bash, or on a machine without ROS 2: '
            "pip install 'seg_perception[ros]'",
        ) from error


def find_share_file(relative: Path) -> Path | None:
    """A file of the package's share folder, wherever it is installed; None where there is none.

    Looks through AMENT_PREFIX_PATH as ament does, then in this Python environment, then in the
    checkout that this module may be part of.
    """
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    folders = [Path(prefix, 'share', PACKAGE) for prefix in (*prefixes, sys.prefix)]
    folders.append(Path(__file__).resolve().parents[2])
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    return None


def profile_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where Fast DDS looks for its profile: both names where the distribution is not known.

    The name changed with Fast DDS 3 (Kilted), which still reads the older one but warns about it.
    """
    older, newer = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
    distribution = environ.get('ROS_DISTRO', '')
    if not distribution:
        return older, newer
    return (older,) if distribution in ('humble', 'iron', 'jazzy') else (newer,)


def node_environment(
    environ: Mapping[str, str], *, domain_id: int | None = None
) -> dict[str, str]:
    """The environment for a child process that runs one of the package's nodes.

    What the user has set stays, but for the domain.

    Args:
        environ: the environment to start from.
        domain_id: a ROS domain to keep the node in, on this machine only; None leaves both to
            ``environ``.
    """
    env = dict(environ)
    # ROS 2 wheels from PyPI install here and set nothing.
    env.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    # Lines of a child appear when they are written, not when a buffer is full.
    env.setdefault('PYTHONUNBUFFERED', '1')
    profile = find_share_file(DDS_PROFILE)
    if profile is not None:
        for variable in profile_variables(env):
            env.setdefault(variable, str(profile))
    if domain_id is not None:
        env['ROS_DOMAIN_ID'] = str(domain_id)
        env['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return env


def private_domain_id() -> int:
    """A domain that nobody else is likely to use; 0 to 99 are left to people."""
    return random.SystemRandom().randint(100, 230)
