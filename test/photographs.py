"""A real photograph for tests that need a model to see something in it."""

from __future__ import annotations

import cv2
import pytest


def astronaut(height: int = 96, width: int = 128):
    """NASA's portrait of Eileen Collins (public domain), RGB, at a size of the test's own."""
    data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    return cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_AREA)
