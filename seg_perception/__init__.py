"""Camera topics in, label images and object masks out.

    from seg_perception import Segmenter, read_image

    [result] = Segmenter().segment([read_image('photo.jpg')])
    print(result.class_fractions())

Works without ROS; the nodes are in ``seg_perception.ros``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_perception.pipeline import Segmenter
    from seg_perception.postprocess.objects import find_objects
    from seg_perception.postprocess.overlay import draw_overlay
    from seg_perception.sources.stills import read_image
    from seg_perception.structures import ClassTable, CompressedFrame, Frame, Prompt, Segmentation

__all__ = [
    'ClassTable',
    'CompressedFrame',
    'Frame',
    'Prompt',
    'Segmentation',
    'Segmenter',
    'draw_overlay',
    'find_objects',
    'read_image',
]

# Imported on first use: a process that only plays images must not load torch.
_HOME = {
    'ClassTable': 'structures',
    'CompressedFrame': 'structures',
    'Frame': 'structures',
    'Prompt': 'structures',
    'Segmentation': 'structures',
    'Segmenter': 'pipeline',
    'draw_overlay': 'postprocess.overlay',
    'find_objects': 'postprocess.objects',
    'read_image': 'sources.stills',
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f'{__name__}.{_HOME[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
