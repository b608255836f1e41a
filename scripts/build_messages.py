#!/usr/bin/env python3
"""Build vision_msgs and tf2_msgs into an environment whose ROS 2 comes from pip wheels.

Run it with that environment's Python. It does nothing where both can be imported already.
They have no wheels, so the message definitions beside this file are built with the
``ament`` and ``rosidl`` wheels of the same distribution, CMake and ninja from PyPI and the
machine's C and C++ compiler, and installed into ``sys.prefix``. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE_DIR = Path(__file__).resolve().parent
MESSAGES = {'vision_msgs': 'LabelInfo', 'tf2_msgs': 'TFMessage'}
"""The packages that are built, with a message of each."""

# CMake 4 dropped policies that some of the exported files still ask for.
BUILD_REQUIREMENTS = ('cmake>=3.22,<4', 'ninja', 'catkin-pkg>=1')
# What turns .msg files into C, C++ and Python, released per distribution as ros-DISTRO-NAME. The
# wheels do not name all that they need to build with, hence the length of the list.
GENERATORS = (
    'ament-cmake',
    'ament-cmake-gmock',
    'ament-cmake-gtest',
    'ament-cmake-include-directories',
    'ament-cmake-pytest',
    'ament-cmake-python',
    'ament-cmake-ros',
    'ament-package',
    'rosidl-core-generators',
    'rosidl-default-generators',
)
# Only some distributions have these.
EXTRA_GENERATORS: dict[str, tuple[str, ...]] = {
    'jazzy': ('python-cmake-module',),
    'kilted': ('ament-cmake-ros-core',),
}

# Libraries of the wheels' build machine that the exported targets still name. They are linked into
# the shared libraries of the wheels themselves; nothing that is built here needs them.
FOREIGN_LIBRARIES = re.compile(
    r'/usr/lib64/lib(?:tinyxml2|ssl|crypto)\.so(?:;)?|(?<=[;"])(?:lttng-ust(?:-common)?|dl);?'
)
FOREIGN_NUMPY = re.compile(r'/opt/python/cp3[^;"]*/site-packages/numpy/(?:_core|core)/include')
FOREIGN_PYTHON = re.compile(r'/opt/python/cp3[^;"]*/include/python3\.\d+')


class BuildError(Exception):
    """Messages cannot be built here; the text says what is missing."""


def is_importable(package: str) -> bool:
    """Whether a fresh interpreter can import the package's messages and their C type support."""
    probe = (
        f'from {package}.msg import {MESSAGES[package]} as message; '
        'from rclpy.type_support import check_for_type_support as check; check(message)'
    )
    return subprocess.run([sys.executable, '-c', probe], capture_output=True).returncode == 0


def check_toolchain() -> None:
    """Raise BuildError, naming the remedy, where there is no compiler or no Python.h."""
    for variable, names in (('CC', ('cc', 'gcc', 'clang')), ('CXX', ('c++', 'g++', 'clang++'))):
        candidates = (os.environ[variable].split()[0],) if os.environ.get(variable) else names
        if not any(shutil.which(name) for name in candidates):
            raise BuildError(
                f'messages are built from source and need a C and a C++ compiler, but none of '
                f'{", ".join(candidates)} is on PATH. Debian and Ubuntu: apt install g++'
            )
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.is_file():
        raise BuildError(
            f'messages are built from source and need {header}, which is missing. '
            f'Debian and Ubuntu: apt install python3-dev'
        )


def rewrite_exported_paths(prefix: Path) -> int:
    """Point the wheels' exported CMake files at this machine; returns how many changed.

    They carry include folders and libraries of the machine that built the wheels. Idempotent.
    """
    import numpy

    num_changed = 0
    for path in sorted((prefix / 'share').glob('*/cmake/*.cmake')):
        before = path.read_text(encoding='utf-8')
        after = FOREIGN_NUMPY.sub(numpy.get_include(), before)
        after = FOREIGN_PYTHON.sub(sysconfig.get_path('include'), after)
        after = FOREIGN_LIBRARIES.sub('', after)
        if after != before:
            path.write_text(after, encoding='utf-8')
            num_changed += 1
    return num_changed


def run(command: list[str], env: dict[str, str] | None = None) -> None:
    """Run quietly; on failure raise BuildError with the end of what it printed."""
    result = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors='replace',
    )
    if result.returncode:
        lines = (result.stdout + result.stderr).splitlines()
        tail = '\n'.join([line for line in lines if not line.startswith('WARNING:')][-40:])
        raise BuildError(f'{" ".join(command[:4])} … failed ({result.returncode}):\n{tail}')


def install_generators(distro: str) -> None:
    """Install the interface generators of the distribution into this environment."""
    requirements = [f'ros-{distro}-{name}' for name in GENERATORS + EXTRA_GENERATORS[distro]]
    command = [sys.executable, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check']
    run([*command, *BUILD_REQUIREMENTS, *requirements])


def build(package: str, prefix: Path, num_jobs: int) -> None:
    """Configure, build and install a package's definitions into the environment."""
    env = dict(os.environ)
    env['AMENT_PREFIX_PATH'] = env['CMAKE_PREFIX_PATH'] = str(prefix)
    env['PATH'] = os.pathsep.join([str(prefix / 'bin'), env.get('PATH', os.defpath)])
    env.pop('PYTHONPATH', None)
    site_packages = Path(sysconfig.get_path('purelib')).relative_to(prefix)
    with tempfile.TemporaryDirectory(prefix=f'{package}-') as build_dir:
        cmake = str(prefix / 'bin' / 'cmake')
        run(
            [
                cmake,
                *('-S', str(SOURCE_DIR / package), '-B', build_dir, '-G', 'Ninja'),
                f'-DCMAKE_INSTALL_PREFIX={prefix}',
                '-DCMAKE_BUILD_TYPE=Release',
                '-DBUILD_TESTING=OFF',
                f'-DPython3_EXECUTABLE={sys.executable}',
                f'-DPYTHON_INSTALL_DIR={site_packages}',
                # The wheels' folder: libraries find each other without LD_LIBRARY_PATH.
                f'-DCMAKE_INSTALL_RPATH={prefix / "lib"}',
            ],
            env,
        )
        run([cmake, '--build', build_dir, '--parallel', str(num_jobs)], env)
        run([cmake, '--install', build_dir], env)


def main() -> int:
    """Entry point; 0 when all of them can be imported afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--distro', choices=sorted(EXTRA_GENERATORS), default=os.environ.get('ROS_DISTRO', 'jazzy')
    )
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='parallel compilers')
    parser.add_argument('--force', action='store_true', help='build even if they can be imported')
    arguments = parser.parse_args()
    packages = [name for name in MESSAGES if arguments.force or not is_importable(name)]
    if not packages:
        return 0
    prefix = Path(sys.prefix)
    if sys.prefix == sys.base_prefix:
        print('build_messages: run it with the Python of a virtual environment', file=sys.stderr)
        return 1
    try:
        check_toolchain()
        install_generators(arguments.distro)
        rewrite_exported_paths(prefix)
        for package in packages:
            build(package, prefix, arguments.jobs)
            if not is_importable(package):
                raise BuildError(f'{package} was built and installed but cannot be imported')
    except BuildError as error:
        print(f'build_messages: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
