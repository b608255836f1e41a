"""The demo's camera: it pans and zooms over photographs that come with scikit-image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from seg_perception.errors import MissingExtraError
from seg_perception.geometry.intrinsics import Intrinsics
from seg_perception.sources.source import SourceFrame
from seg_perception.structures import U8, Frame

SIZE_WH = (640, 480)
RATE_HZ = 10.0
SCENE_S = 5.0
"""How long the camera looks at each photograph."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph and the camera's way over it.

    Attributes:
        name: function of ``skimage.data`` that gives the photograph, first of several where it
            gives a stereo pair.
        start: centre x, centre y, in shares of the photograph, and height of the view, in shares
            of the largest view that fits.
        end: the same at the end of the scene.
    """

    name: str
    start: tuple[float, float, float]
    end: tuple[float, float, float]


SCENES = (
    Scene('astronaut', (0.45, 0.35, 1.0), (0.45, 0.30, 0.80)),
    Scene('chelsea', (0.45, 0.50, 1.0), (0.40, 0.50, 0.85)),
    Scene('coffee', (0.42, 0.50, 0.85), (0.50, 0.50, 1.0)),
    Scene('stereo_motorcycle', (0.60, 0.50, 1.0), (0.42, 0.50, 0.95)),
)


class PhotographsSource:
    """Looks at an astronaut, a cat, a coffee table and a motorbike, in rgb8 at 640x480.

    Every picture is another one, as from a real camera that moves. A full round takes
    ``SCENE_S`` for each of ``SCENES``.

    Args:
        rate_hz: pictures per second; 0 for ``RATE_HZ``.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """

    is_live = False

    def __init__(self, rate_hz: float = 0.0) -> None:
        self._rate_hz = rate_hz or RATE_HZ
        self._photographs = [load_photograph(scene.name) for scene in SCENES]
        self.description = f'demo: a camera moving over {len(SCENES)} photographs'
        self.intrinsics: Intrinsics | None = None

    def frames(self) -> Iterator[SourceFrame]:
        """One round over all photographs."""
        num_per_scene = max(1, round(SCENE_S * self._rate_hz))
        index = 0
        for scene, photograph in zip(SCENES, self._photographs, strict=True):
            for i in range(num_per_scene):
                view = look(photograph, view_at(scene, i / num_per_scene))
                yield SourceFrame(
                    Frame.from_array(view, 'rgb8'), index / self._rate_hz, scene.name
                )
                index += 1

    def close(self) -> None:
        """Nothing to let go of."""


def load_photograph(name: str) -> U8:
    """A photograph of scikit-image's wheel, rgb8 of shape (Y, X, 3); nothing is downloaded."""
    try:
        import skimage.data
    except ImportError as error:
        raise MissingExtraError('scikit-image', 'demo', "play the demo's photographs") from error
    load: Callable[[], U8 | tuple[U8, ...]] = getattr(skimage.data, name)
    loaded = load()
    return np.ascontiguousarray(loaded[0] if isinstance(loaded, tuple) else loaded)


def view_at(scene: Scene, progress: float) -> tuple[float, float, float]:
    """Where the camera looks: (centre x, centre y, height), in the units of ``Scene.start``.

    Starts and ends gently (a half cosine), so that no picture equals its neighbour but the
    motion has no jerks.

    Args:
        scene: the way.
        progress: 0 at its start, 1 at its end.
    """
    eased = (1.0 - math.cos(math.pi * progress)) / 2.0
    x, y, height = (a + (b - a) * eased for a, b in zip(scene.start, scene.end, strict=True))
    return x, y, height


def look(photograph: U8, view: tuple[float, float, float]) -> U8:
    """The part of a photograph that the view shows, (480, 640, 3), sampled between pixels."""
    photo_h, photo_w = photograph.shape[:2]
    width, height = SIZE_WH
    view_h = view[2] * min(photo_h, photo_w * height / width)
    scale = view_h / height
    view_w = width * scale
    # The view stays within the photograph: its centre keeps half a view from every edge.
    center_x = min(max(view[0] * photo_w, view_w / 2), photo_w - view_w / 2)
    center_y = min(max(view[1] * photo_h, view_h / 2), photo_h - view_h / 2)
    output_to_photo = np.array(
        [
            [scale, 0.0, center_x - view_w / 2 + (scale - 1.0) / 2],
            [0.0, scale, center_y - view_h / 2 + (scale - 1.0) / 2],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(
        photograph, output_to_photo, SIZE_WH, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled.astype(np.uint8, copy=False)
