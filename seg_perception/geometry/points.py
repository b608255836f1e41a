"""Point clouds laid out as the data of a sensor_msgs/PointCloud2.

Legend: Y/X label pixels, N points.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import GeometryError
from seg_perception.geometry.deprojection import DepthGrid, Mask
from seg_perception.structures import U8, Labels

POINT_DTYPE = np.dtype(
    {
        'names': ['x', 'y', 'z', 'rgb', 'label', 'instance', 'confidence'],
        'formats': ['f4', 'f4', 'f4', 'f4', 'u4', 'u2', 'u1'],
        'offsets': [0, 4, 8, 12, 16, 20, 22],
        'itemsize': 24,
    }
)
"""One point; names, types and offsets are those of the cloud's fields, itemsize its point_step.

- ``x``, ``y``, ``z``: metres in the camera's optical frame.
- ``rgb``: the bits 0x00RRGGBB as a float32, PCL's convention. The top byte is 0, since 255 there
  would make the float a NaN, which readers that skip NaNs would skip.
- ``label``: class id, in the 32 bits of PCL's PointXYZL.
- ``instance``: object id, 0 for none, as in the ``instances`` image.
- ``confidence``: 0–255, as in the ``confidence`` image.

The last byte is padding, always 0. The step is a multiple of the largest field, so that every
field of every point is aligned.
"""

Points = npt.NDArray[np.void]


def organised_points(
    grid: DepthGrid,
    labels_YX: Labels,
    image_rgb_YX3: U8,
    *,
    instances_YX: npt.NDArray[np.uint16] | None = None,
    confidence_YX: U8 | None = None,
    out: Points | None = None,
) -> Points:
    """One point per pixel of the label image.

    Args:
        grid: where the pixels are.
        labels_YX: class ids.
        image_rgb_YX3: the colour image at the size of the labels.
        instances_YX: object ids; None for 0 everywhere.
        confidence_YX: None where the model has none: 0 everywhere, which says nothing, so that
            the field is better left out of the message.
        out: zeroed memory or an earlier result, of the same shape and type, to write into: the
            data of the message to be published, say, which saves copying the points there.

    Returns:
        Shape (Y, X) of `POINT_DTYPE`, C-contiguous; x, y and z are NaN where depth is unknown.

    Raises:
        GeometryError: the images differ in size.
    """
    _check_sizes(grid, labels_YX, image_rgb_YX3, instances_YX, confidence_YX, out)
    points_YX = np.zeros(grid.shape, POINT_DTYPE) if out is None else out
    z_m_YX = grid.z_m_YX
    # Column by column into the rows of points: faster than stacking the columns first, than
    # cv2.merge of six planes and than torch.
    np.multiply(grid.ray_x_YX, z_m_YX, out=points_YX['x'])
    np.multiply(grid.ray_y_YX, z_m_YX, out=points_YX['y'])
    points_YX['z'] = z_m_YX
    _paint(points_YX, image_rgb_YX3)
    points_YX['label'] = labels_YX
    points_YX['instance'] = 0 if instances_YX is None else instances_YX
    points_YX['confidence'] = 0 if confidence_YX is None else confidence_YX
    return points_YX


def selected_points(
    grid: DepthGrid,
    keep_YX: Mask,
    labels_YX: Labels,
    image_rgb_YX3: U8,
    *,
    instances_YX: npt.NDArray[np.uint16] | None = None,
    confidence_YX: U8 | None = None,
) -> Points:
    """The points of the pixels where ``keep_YX`` is not zero and depth is known.

    Costs in proportion to the pixels chosen: nothing is computed for the others.

    Returns:
        Shape (N,) of `POINT_DTYPE`, in the order of the pixels, row by row; the other arguments
        as for `organised_points`.

    Raises:
        GeometryError: the images differ in size.
    """
    _check_sizes(grid, keep_YX, labels_YX, image_rgb_YX3, instances_YX, confidence_YX)
    chosen_N = np.flatnonzero(np.logical_and(keep_YX, grid.z_m_YX > 0))
    if not chosen_N.size:
        return np.empty(0, POINT_DTYPE)

    def choose(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image of one row of the chosen pixels."""
        return pixels.reshape(-1, *pixels.shape[2:])[chosen_N][None]

    row_of_points = organised_points(
        DepthGrid(choose(grid.z_m_YX), choose(grid.ray_x_YX), choose(grid.ray_y_YX)),
        choose(labels_YX),
        choose(image_rgb_YX3),
        instances_YX=None if instances_YX is None else choose(instances_YX),
        confidence_YX=None if confidence_YX is None else choose(confidence_YX),
    )
    return row_of_points.reshape(-1)


def _paint(points_YX: Points, image_rgb_YX3: U8) -> None:
    # In little-endian memory blue comes first; OpenCV's alpha of 255 is masked out.
    bgra_YX4 = cv2.cvtColor(image_rgb_YX3, cv2.COLOR_RGB2BGRA)
    rgb_YX = points_YX['rgb'].view(np.uint32)
    np.bitwise_and(bgra_YX4.view('<u4')[..., 0], 0x00FFFFFF, out=rgb_YX)


def _check_sizes(grid: DepthGrid, *images: npt.NDArray[Any] | None) -> None:
    for image in images:
        if image is not None and image.shape[:2] != grid.shape:
            raise GeometryError(
                f'expected every image at the size of the labels, {grid.shape[1]}x'
                f'{grid.shape[0]}, got one of shape {image.shape}: resize it first'
            )
