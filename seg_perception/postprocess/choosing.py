"""The objects of an image that are wanted, whoever finds them."""

from __future__ import annotations

from collections.abc import Sequence

from seg_perception.errors import ConfigurationError
from seg_perception.postprocess.objects import find_objects, select_objects
from seg_perception.structures import BACKGROUND_NAMES, ClassTable, Objects, Segmentation

_MAX_OBJECTS = 500
"""More would be noise, and following them from frame to frame would take too long."""


def chosen_objects(
    segmentation: Segmentation, names: Sequence[str], *, min_area_px: int
) -> Objects:
    """The model's own objects where it tells them apart, else connected regions.

    Args:
        segmentation: of an image.
        names: classes that have objects; ``'*'`` for all but background.
        min_area_px: smaller ones are none.
    """
    classes = segmentation.classes
    wanted = None
    if '*' not in names:
        # Of models that take prompts, names come and go.
        wanted = [classes.id_of(name) for name in names if name in classes.names]
    if segmentation.objects is not None:
        return select_objects(
            segmentation.objects,
            classes,
            wanted,
            min_area_px=min_area_px,
            max_objects=_MAX_OBJECTS,
        )
    return find_objects(segmentation, wanted, min_area_px=min_area_px, max_objects=_MAX_OBJECTS)


def object_class_ids(classes: ClassTable, names: Sequence[str]) -> list[int] | None:
    """The classes that have objects; None for all but background.

    Raises:
        ConfigurationError: the model has no class of a name, or it is background.
    """
    if '*' in names:
        return None
    if background := [name for name in names if name in BACKGROUND_NAMES]:
        raise ConfigurationError(
            f'object_classes: expected classes of things, got {", ".join(background)}'
        )
    return [classes.id_of(name) for name in names if name]
