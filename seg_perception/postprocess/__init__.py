"""From the model's grid to label images, confidence, masks, objects and pictures."""

from seg_perception.postprocess.association import ObjectAssociator
from seg_perception.postprocess.coco_export import to_coco_annotations, to_coco_categories
from seg_perception.postprocess.instances import label_objects
from seg_perception.postprocess.objects import (
    find_objects,
    objects_from_masks,
    objects_of_owners,
    select_objects,
)
from seg_perception.postprocess.overlay import draw_overlay
from seg_perception.postprocess.sampling import GridSampler

__all__ = [
    'GridSampler',
    'ObjectAssociator',
    'draw_overlay',
    'find_objects',
    'label_objects',
    'objects_from_masks',
    'objects_of_owners',
    'select_objects',
    'to_coco_annotations',
    'to_coco_categories',
]
