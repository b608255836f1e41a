"""Depth images to metres, and whether they belong to the colour image.

Legend: V/U depth pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_perception.errors import EncodingError, GeometryError, ImageLayoutError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.structures import Frame

F32 = npt.NDArray[np.float32]

# REP 118: type and unit in metres follow the encoding. mono16 is what some drivers call 16UC1.
_SAMPLES = {'16UC1': ('u2', 0.001), 'mono16': ('u2', 0.001), '32FC1': ('f4', 1.0)}


def depth_samples(frame: Frame) -> npt.NDArray[Any]:
    """The samples of a depth image as an array over its own bytes; never a copy.

    Returns:
        Shape (V, U), uint16 or float32 in the *frame's* byte order, rows ``step`` bytes apart.

    Raises:
        EncodingError: an encoding that is none of REP 118 for depth.
        ImageLayoutError: no pixels, or size, step and byte count contradict each other.
    """
    if frame.encoding not in _SAMPLES:
        raise EncodingError(
            f'expected depth as one of {", ".join(_SAMPLES)} (REP 118), got {frame.encoding!r}'
        )
    dtype = np.dtype(_SAMPLES[frame.encoding][0]).newbyteorder('>' if frame.is_bigendian else '<')
    data = memoryview(frame.data).cast('B')  # type: ignore[arg-type]
    height, width, step = frame.height, frame.width, frame.step
    if min(height, width) < 1 or step < width * dtype.itemsize or len(data) != height * step:
        raise ImageLayoutError(
            f'expected {height} rows of {width} px * {dtype.itemsize} B ({frame.encoding}), '
            f'got {len(data)} B of data in rows of {step} B'
        )
    return np.ndarray((height, width), dtype, data, strides=(step, dtype.itemsize))


def depth_to_m(frame: Frame) -> F32:
    """Depth in metres along the optical axis, from the encodings of REP 118.

    Args:
        frame: millimetres with 0 for "no depth" (``16UC1``, ``mono16``) or metres with anything
            that is not a positive, finite number for it (``32FC1``).

    Returns:
        Shape (V, U), a new array; NaN where there is no depth.

    Raises:
        InputError: as ``depth_samples``.
    """
    samples_VU = depth_samples(frame)
    unit_m = np.float32(_SAMPLES[frame.encoding][1])
    with np.errstate(invalid='ignore'):  # NaNs may be of the signalling kind
        depth_m_VU: F32 = np.multiply(samples_VU, unit_m, dtype=np.float32)
    depth_m_VU[~((depth_m_VU > 0) & (depth_m_VU < np.inf))] = np.nan
    return depth_m_VU


def check_registered(
    color: Intrinsics,
    depth: Intrinsics | None,
    depth_hw: tuple[int, int],
    *,
    is_rectified: bool = False,
    tolerance_px: float = 1.0,
) -> None:
    """Checks that depth was registered to the colour image: the same view, at any resolution.

    The distortion is not compared: drivers that register depth in hardware often leave it out of
    the depth's calibration. The frame ids are the caller's to compare.

    Args:
        color: calibration of the colour image.
        depth: calibration of the depth image; None where unknown, which leaves its size to check.
        depth_hw: size of the depth image.
        is_rectified: whether the images are rectified, so that P describes them, else K.
        tolerance_px: how far apart, in pixels of the depth image, the two calibrations may see
            any direction. Half a pixel is what drivers' conventions of scaling differ by.

    Raises:
        GeometryError: the depth image has another aspect ratio or another size than its own
            calibration, or the calibrations differ.
    """
    height, width = depth_hw
    scaled = color.resized((width, height))
    color_width, color_height = color.size_wh
    if abs(color_height * width / color_width - height) >= 1.0:
        raise GeometryError(
            f'expected depth registered to the colour image, of the aspect of {color_width}x'
            f'{color_height}, got {width}x{height}: {_REMEDY}'
        )
    if depth is None:
        return
    if depth.size_wh != (width, height):
        raise GeometryError(
            f'expected depth of {depth.size_wh[0]}x{depth.size_wh[1]} as its camera_info says, '
            f'got {width}x{height}: the camera_info is of another image'
        )
    corners_3N = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
    seen_3N = scaled.pinhole(is_rectified) @ np.linalg.solve(
        depth.pinhole(is_rectified), corners_3N
    )
    distance_px = float(np.abs(seen_3N - corners_3N).max())
    if not distance_px <= tolerance_px:
        raise GeometryError(
            f'expected depth registered to the colour image within {tolerance_px:g} px, but their '
            f'camera_infos are {distance_px:.1f} px apart at a corner: {_REMEDY}'
        )


_REMEDY = (
    "take the driver's registered (aligned) depth topic, or register it with depth_image_proc"
)
