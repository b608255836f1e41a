"""Raw and compressed image bytes to pixels, and pixels to network inputs.

``preprocess`` (and ``device_resize``, its CUDA half) is the only part that needs torch and is not
imported from here: everything below works with NumPy and OpenCV alone.
"""

from __future__ import annotations

from seg_perception.imaging.compressed import check_compressed, decode, encode
from seg_perception.imaging.convert import (
    DEFAULT_MAX_PIXELS,
    check_frame,
    is_supported,
    to_bgr,
    to_rgb,
    to_uint8,
    view_chroma,
    view_frame,
)
from seg_perception.imaging.encodings import ENCODINGS, Encoding, Layout

__all__ = [
    'DEFAULT_MAX_PIXELS',
    'ENCODINGS',
    'Encoding',
    'Layout',
    'check_compressed',
    'check_frame',
    'decode',
    'encode',
    'is_supported',
    'to_bgr',
    'to_rgb',
    'to_uint8',
    'view_chroma',
    'view_frame',
]
