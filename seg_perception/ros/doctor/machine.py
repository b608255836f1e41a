"""Whether this machine can run the node: Python, ROS 2, middleware, torch, driver, extras."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from seg_perception.ros.doctor.finding import Finding, Gravity
from seg_perception.ros.environment import DDS_PROFILE, find_share_file, profile_variables

MIN_PYTHON = (3, 10)
MAX_DOMAIN_ID = 232
"""The ports that DDS makes of larger ones do not exist."""
MIN_SHARED_MEMORY_BYTES = 256 * 2**20
"""A few processes' segments of the shipped DDS profile, 64 MiB each."""
MIN_RECEIVE_BUFFER_BYTES = 2**21
"""What images between machines need of the kernel."""
_NVIDIA_VERSION = Path('/proc/driver/nvidia/version')
_RECEIVE_BUFFER = Path('/proc/sys/net/core/rmem_max')
_SHARED_MEMORY = Path('/dev/shm')

# Of the ROS distribution, and what they are for.
_ROS_PACKAGES = {'tf2_ros': 'look up camera poses in TF', 'cv_bridge': 'decode unusual encodings'}
# What brings ROS itself, and what only works on this package need.
_NOT_FOR_USERS = frozenset({'ros', 'ros-kilted', 'test', 'check', 'fuzz'})


def check_machine(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Everything about this machine; imports torch, which takes a second or two."""
    findings = [_check_python(), *_check_ros(environ)]
    findings += [*_check_transport(environ), *_check_torch(), _check_opencv(), _check_extras()]
    return findings


def _check_python() -> Finding:
    version = platform.python_version()
    if sys.version_info < MIN_PYTHON:
        fix = f'use Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer'
        return Finding('Python', Gravity.ERROR, version, fix)
    return Finding('Python', Gravity.OK, f'{version} ({sys.executable})')


def _check_ros(environ: Mapping[str, str]) -> Iterator[Finding]:
    distribution = environ.get('ROS_DISTRO', '')
    try:
        import rclpy
    except ImportError as error:
        yield Finding(
            'ROS 2',
            Gravity.ERROR,
            f'rclpy cannot be imported: {error}',
            'source /opt/ros/<distribution>/setup.bash, or run scripts/setup',
        )
        return
    named = distribution or 'no ROS_DISTRO'
    yield Finding('ROS 2', Gravity.OK, f'{named}, rclpy of {Path(rclpy.__file__).parent}')
    yield _check_middleware()
    domain = environ.get('ROS_DOMAIN_ID') or '0'
    if not (domain.isascii() and domain.isdigit() and int(domain) <= MAX_DOMAIN_ID):
        fix = f'export ROS_DOMAIN_ID=0, or another whole number up to {MAX_DOMAIN_ID}'
        yield Finding('domain', Gravity.ERROR, f"ROS_DOMAIN_ID is '{domain}'", fix)
        return
    only_here = environ.get('ROS_LOCALHOST_ONLY') == '1'
    discovery = environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')
    reach = 'this machine only' if only_here or discovery == 'LOCALHOST' else discovery.lower()
    yield Finding('domain', Gravity.OK, f'ROS_DOMAIN_ID {domain}, discovery: {reach}')
    if importlib.util.find_spec('vision_msgs') is None:
        yield Finding(
            'vision_msgs',
            Gravity.ERROR,
            'is not installed; label_info and objects need it',
            'apt install ros-$ROS_DISTRO-vision-msgs, or run scripts/setup',
        )


def _check_middleware() -> Finding:
    from rclpy.utilities import get_rmw_implementation_identifier

    try:
        name = str(get_rmw_implementation_identifier())
    except Exception as error:  # rmw's own: the library named cannot be loaded
        fix = 'unset RMW_IMPLEMENTATION, or install what it names'
        return Finding('middleware', Gravity.ERROR, str(error).splitlines()[0], fix)
    if name == 'rmw_fastrtps_cpp':
        return Finding('middleware', Gravity.OK, name)
    return Finding(
        'middleware',
        Gravity.WARNING,
        f'{name}: the node is tested with rmw_fastrtps_cpp, whose profile for images it ships',
        'export RMW_IMPLEMENTATION=rmw_fastrtps_cpp, or give yours buffers for images '
        '(Cyclone: SocketReceiveBufferSize in CYCLONEDDS_URI)',
    )


def _check_transport(environ: Mapping[str, str]) -> Iterator[Finding]:
    variables = profile_variables(environ)
    given = [environ[name] for name in variables if environ.get(name)]
    shipped = find_share_file(DDS_PROFILE)
    check = 'DDS profile'
    missing = [path for path in given if not Path(path).is_file()]
    if missing:
        fix = f'export {variables[0]}={shipped}' if shipped else f'unset {variables[0]}'
        yield Finding(check, Gravity.ERROR, f'{missing[0]} does not exist', fix)
    elif given:
        yield Finding(check, Gravity.OK, given[0])
    elif shipped is None:
        yield Finding(
            check, Gravity.ERROR, f'{DDS_PROFILE} is not installed', 'install the package anew'
        )
    else:
        yield Finding(
            check,
            Gravity.WARNING,
            "not set in this shell: this package's nodes use theirs, camera drivers do not, and "
            'images over 0.5 MB get lost',
            f'before starting the drivers: export {variables[0]}={shipped}',
        )
    if _SHARED_MEMORY.is_dir():
        free_bytes = shutil.disk_usage(_SHARED_MEMORY).free
        enough = free_bytes >= MIN_SHARED_MEMORY_BYTES
        yield Finding(
            'shared memory',
            Gravity.OK if enough else Gravity.WARNING,
            f'{free_bytes / 2**20:.0f} MiB free in {_SHARED_MEMORY}',
            '' if enough else 'fastdds shm clean; in Docker: --ipc=host or --shm-size=1g',
        )
    if _RECEIVE_BUFFER.is_file():
        size = int(_RECEIVE_BUFFER.read_text(encoding='ascii'))
        enough = size >= MIN_RECEIVE_BUFFER_BYTES
        yield Finding(
            'receive buffer',
            Gravity.OK if enough else Gravity.WARNING,
            f'net.core.rmem_max is {size / 2**20:.1f} MiB'
            + ('' if enough else ': images from other machines get lost'),
            '' if enough else 'sudo sysctl -w net.core.rmem_max=4194304 (and in /etc/sysctl.d)',
        )


def _check_torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding('torch', Gravity.ERROR, f'cannot be imported: {error}', 'pip install torch')
        return
    yield Finding('torch', Gravity.OK, torch.__version__)
    has_driver = _NVIDIA_VERSION.is_file() or shutil.which('nvidia-smi') is not None
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding(
            'GPU',
            Gravity.OK,
            f'{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, '
            f'{free / 2**30:.1f} of {total / 2**30:.1f} GiB free',
        )
    elif has_driver and torch.version.cuda is None:
        yield Finding(
            'GPU',
            Gravity.WARNING,
            f'there is an NVIDIA driver, and torch {torch.__version__} is built for CPUs only',
            'pip install torch --index-url https://download.pytorch.org/whl/cu126 (or the '
            "JetPack's wheel on a Jetson)",
        )
    elif has_driver:
        yield Finding(
            'GPU',
            Gravity.WARNING,
            f'torch is built for CUDA {torch.version.cuda} and sees no GPU',
            'compare with nvidia-smi: a newer driver, or --gpus all for a container',
        )
    else:
        yield Finding('GPU', Gravity.OK, 'none: models run on the CPU')


def _check_opencv() -> Finding:
    try:
        import cv2
    except ImportError as error:
        fix = "pip install 'opencv-python>=4.5,<5'"
        return Finding('OpenCV', Gravity.ERROR, f'cannot be imported: {error}', fix)
    version = str(cv2.__version__)
    if int(version.partition('.')[0]) >= 5:
        return Finding(
            'OpenCV',
            Gravity.WARNING,
            f'{version}: its type codes are other ones, which breaks cv_bridge',
            "pip install 'opencv-python>=4.5,<5'",
        )
    return Finding('OpenCV', Gravity.OK, version)


def _check_extras() -> Finding:
    """What is not installed costs a feature and is no fault."""
    missing = {extra: names for extra, names in _missing_of_extras().items() if names}
    parts = [f'{extra} ({", ".join(names)})' for extra, names in missing.items()]
    fixes = [f"pip install 'seg_perception[{','.join(missing)}]'"] if missing else []
    for package, purpose in _ROS_PACKAGES.items():
        if importlib.util.find_spec(package) is None:
            parts.append(f'{package} to {purpose}')
            fixes.append(f'apt install ros-$ROS_DISTRO-{package.replace("_", "-")}')
    what = f'not installed: {"; ".join(parts)}' if parts else 'all there'
    return Finding('optional', Gravity.OK, what, f'where wanted: {"; ".join(fixes)}' * bool(fixes))


def _missing_of_extras() -> dict[str, list[str]]:
    """Of each extra, the distributions that are not installed."""
    try:
        requirements = importlib.metadata.requires('seg_perception') or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return {}
    missing: dict[str, list[str]] = {}
    for text in requirements:
        found = re.match(r'([\w.-]+).*extra == [\'"]([\w-]+)', text)
        if found is None or found[2] in _NOT_FOR_USERS:
            continue
        names = missing.setdefault(found[2], [])
        try:
            importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            names.append(found[1])
    return missing


def versions() -> dict[str, str]:
    """Version of every Python distribution here, for a bug report."""
    return {
        distribution.metadata['Name']: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.metadata['Name']
    }
