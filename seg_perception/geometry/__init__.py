"""Camera geometry: intrinsics and how they change with the image's size."""

from seg_perception.geometry.intrinsics import Intrinsics

__all__ = ['Intrinsics']
