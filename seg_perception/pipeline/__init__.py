"""The only place that sequences the stages: images in, segmentations out."""

from __future__ import annotations

from seg_perception.pipeline.images import Image
from seg_perception.pipeline.pending import PendingSegmentations
from seg_perception.pipeline.segmenter import Segmenter

__all__ = ['Image', 'PendingSegmentations', 'Segmenter']
