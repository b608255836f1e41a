"""Real numbers as integers: how quantised models store what they take and give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Quantisation:
    """An integer ``q`` stands for the number ``(q - zero_point) * scale``.

    Attributes:
        dtype: name of the integers, ``uint8`` or ``int8``.
        scale: 0 means that the integers are the numbers themselves.
        zero_point: the integer that stands for 0.
    """

    dtype: str
    scale: float
    zero_point: int

    def stored(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.integer]:
        """The integers of float32 numbers: rounded half to even, saturated."""
        bounds = np.iinfo(self.dtype)
        factor = np.float32(1.0 / self.scale if self.scale else 1.0)
        scaled = values * factor + np.float32(self.zero_point)
        stored: npt.NDArray[np.integer] = np.clip(np.rint(scaled), bounds.min, bounds.max).astype(
            self.dtype
        )
        return stored
