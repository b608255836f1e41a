"""Reads a camera's calibration, or makes one up from its field of view."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from seg_perception.errors import ConfigurationError
from seg_perception.geometry.intrinsics import Intrinsics

_MAX_NUMBER = 1e12
"""Beyond any focal length in pixels; leaves out what is not finite."""


def intrinsics_from_fov(size_wh: tuple[int, int], horizontal_fov_deg: float) -> Intrinsics:
    """An ideal pinhole camera: square pixels, centred, without distortion.

    Args:
        size_wh: size of its image.
        horizontal_fov_deg: angle between the left and the right edge of the image.

    Raises:
        ConfigurationError: the angle is not between 0 and 180 degrees.
    """
    if not 0.0 < horizontal_fov_deg < 180.0:
        raise ConfigurationError(
            f'expected a field of view between 0 and 180 degrees, got {horizontal_fov_deg:g}'
        )
    width, height = size_wh
    focal_px = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    return Intrinsics(
        size_wh=size_wh,
        k=(focal_px, 0.0, center_x, 0.0, focal_px, center_y, 0.0, 0.0, 1.0),
        p=(focal_px, 0.0, center_x, 0.0, 0.0, focal_px, center_y, 0.0, 0.0, 0.0, 1.0, 0.0),
        distortion_model='plumb_bob',
        d=(0.0,) * 5,
    )


def read_calibration(path: Path) -> Intrinsics:
    """Reads the YAML that camera_calibration writes and camera_info_manager reads.

    Raises:
        ConfigurationError: the file is missing, no YAML, or a field is missing or malformed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigurationError(f'calibration {path} cannot be read: {error}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f'calibration {path} is no YAML: {error}') from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f'calibration {path}: expected image_width, image_height, camera_matrix, … ; '
            f'got a {type(content).__name__}'
        )
    width = _positive_int(path, content, 'image_width')
    height = _positive_int(path, content, 'image_height')
    return Intrinsics(
        size_wh=(width, height),
        k=_matrix(path, content, 'camera_matrix', 3, 3),
        p=_matrix(path, content, 'projection_matrix', 3, 4),
        distortion_model=str(content.get('distortion_model', 'plumb_bob')),
        d=_matrix(path, content, 'distortion_coefficients', 1, None),
        r=_matrix(path, content, 'rectification_matrix', 3, 3),
    )


def _positive_int(path: Path, content: dict[Any, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(
            f'calibration {path}: expected {name} to be a positive whole number, got {value!r}'
        )
    return value


def _matrix(
    path: Path, content: dict[Any, Any], name: str, rows: int, columns: int | None
) -> tuple[float, ...]:
    """A matrix in OpenCV's notation, row-major; any number of columns where None."""
    expected = f'{rows}x{"N" if columns is None else columns} numbers under {name}.data'
    entry = content.get(name)
    data = entry.get('data') if isinstance(entry, dict) else None
    if (
        not isinstance(data, list)
        or not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in data)
        or (columns is not None and len(data) != rows * columns)
        or not all(abs(x) < _MAX_NUMBER for x in data)
    ):
        raise ConfigurationError(f'calibration {path}: expected {expected}, got {entry!r:.200}')
    return tuple(float(x) for x in data)
