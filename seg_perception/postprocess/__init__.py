"""From the model's grid to label images, confidence, masks and pictures."""

from seg_perception.postprocess.overlay import draw_overlay
from seg_perception.postprocess.sampling import GridSampler

__all__ = ['GridSampler', 'draw_overlay']
