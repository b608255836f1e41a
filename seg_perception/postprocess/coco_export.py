"""Objects in the terms of COCO, for people who store results."""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numpy as np

from seg_perception.errors import ConfigurationError, InputError, MissingExtraError
from seg_perception.structures import U8, ClassTable, ObjectInstance, Objects

Geometry = Literal['rle', 'polygon']


def to_coco_categories(classes: ClassTable) -> list[dict[str, Any]]:
    """The ``categories`` of a COCO file; their ids are the class ids."""
    return [{'id': i, 'name': name} for i, name in enumerate(classes.names)]


def to_coco_annotations(
    objects: Objects, image_id: int | str, classes: ClassTable, *, geometry: Geometry = 'rle'
) -> list[dict[str, Any]]:
    """One JSON-ready dictionary per object, in the order of their ids.

    They are what ``pycocotools.coco.COCO.loadRes`` reads. In the ``annotations`` of a dataset
    file each needs an ``id`` too, unique over all images.

    Args:
        objects: of one image.
        image_id: COCO's id of that image.
        classes: what the objects' class ids mean; see `to_coco_categories`.
        geometry: ``'rle'`` for compressed run lengths, which are exact; ``'polygon'`` for outlines
            along the edges of pixels, several for an object in several parts. COCO's polygons
            cannot have holes, so an object with a hole is given as run lengths all the same.

    Returns:
        Dictionaries with image_id, category_id, bbox (left, top, width, height in px), area (px),
        segmentation, iscrowd and score; none where there are no objects.

    Raises:
        ConfigurationError: there is no such geometry.
        InputError: an object's class is not in the table.
        MissingExtraError: run lengths are needed and pycocotools is not installed.
    """
    if geometry not in get_args(Geometry):
        raise ConfigurationError(
            f"expected geometry {' or '.join(get_args(Geometry))}, got '{geometry}'"
        )
    return [
        {
            'image_id': image_id,
            'category_id': _category(item, classes),
            'bbox': [left, top, right - left, bottom - top],
            'area': item.area_px,
            'segmentation': _segmentation(objects, item, geometry),
            'iscrowd': 0,
            'score': item.score,
        }
        for item in objects.items
        for left, top, right, bottom in [item.box_xyxy_px]
    ]


def _category(item: ObjectInstance, classes: ClassTable) -> int:
    if not 0 <= item.class_id < len(classes):
        raise InputError(
            f'object {item.id}: expected a class id below {len(classes)}, got {item.class_id}; '
            'pass the class table of the model that found it'
        )
    return item.class_id


def _segmentation(
    objects: Objects, item: ObjectInstance, geometry: Geometry
) -> dict[str, Any] | list[list[int]]:
    mask_YX = objects.mask(item.id)
    polygons = _polygons(mask_YX, item) if geometry == 'polygon' else None
    return _run_lengths(mask_YX) if polygons is None else polygons


def _run_lengths(mask_YX: U8) -> dict[str, Any]:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError('pycocotools', 'coco', 'write COCO run lengths') from error
    encoded = mask.encode(np.asfortranarray(mask_YX))
    return {'size': list(mask_YX.shape), 'counts': encoded['counts'].decode('ascii')}


def _polygons(mask_YX: U8, item: ObjectInstance) -> list[list[int]] | None:
    """Outlines along the edges of pixels as x y x y ..., or None for an object with holes."""
    left, top, right, bottom = item.box_xyxy_px
    # OpenCV's contours go through the centres of pixels. At twice the size even coordinates are
    # left or top edges and odd ones right or bottom edges, so halving rounded up gives the edges.
    doubled = np.repeat(np.repeat(mask_YX[top:bottom, left:right], 2, axis=0), 2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if (np.asarray(hierarchy)[0, :, 3] >= 0).any():
        return None
    corners = [(np.asarray(contour, np.intp)[:, 0] + 1) // 2 for contour in contours]
    return [(corners_K2 + np.array((left, top))).reshape(-1).tolist() for corners_K2 in corners]
