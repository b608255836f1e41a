"""Everything a bug report needs, in one zip file; nothing of what cameras saw."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seg_perception.benchmarks.machine import hardware
from seg_perception.errors import ConfigurationError
from seg_perception.ros.doctor.finding import Finding
from seg_perception.ros.doctor.machine import versions
from seg_perception.ros.environment import profile_variables

# Variables of ROS, the middleware and the libraries below; no other ones, which may hold secrets.
_PREFIXES = (
    *('ROS_', 'RMW_', 'FASTRTPS_', 'FASTDDS_', 'CYCLONEDDS_', 'AMENT_'),
    *('CUDA_', 'NVIDIA_', 'OMP_', 'MALLOC_', 'SEG_PERCEPTION_'),
)
_SECRET = ('KEY', 'TOKEN', 'PASSWORD', 'SECRET')


def write_bundle(
    path: Path, findings: Sequence[Finding], parameters: Mapping[str, Any]
) -> list[str]:
    """Writes the file.

    Returns:
        The names of what is inside.

    Raises:
        ConfigurationError: it cannot be written.
    """
    environment = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_PREFIXES) and not any(word in name.upper() for word in _SECRET)
    }
    contents = {
        'findings.json': _json([finding.to_document() for finding in findings]),
        'parameters.json': _json(dict(parameters)),
        'environment.json': _json(environment),
        'versions.json': _json(dict(sorted(versions().items()))),
        'hardware.json': _json(hardware()),
    }
    for variable in profile_variables(os.environ):
        profile = Path(os.environ.get(variable, ''))
        if profile.is_file():
            contents['dds_profile.xml'] = profile.read_text(encoding='utf-8', errors='replace')
    try:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, text in contents.items():
                archive.writestr(name, text)
    except OSError as error:
        raise ConfigurationError(f'--bundle {path}: cannot be written: {error}') from error
    return list(contents)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str) + '\n'
