"""A real scene: the motorbike that the default model finds, where the stereo disparity puts it.

Middlebury's Motorcycle (2014) as scikit-image ships it, with the calibration its docstring gives.
"""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception import Segmenter
from seg_perception.geometry import (
    Deprojector,
    Intrinsics,
    depth_to_m,
    object_boxes,
    selected_points,
)
from seg_perception.structures import Frame

FOCAL_PX, CENTER_XY_PX, OFFSET_PX, BASELINE_M = 994.978, (311.193, 254.877), 31.086, 0.193001
# The floor of the picture: a plane fitted to the depth of its lowest rows.
UP = (0.0136, -0.9702, -0.2421)


@pytest.fixture(scope='module')
def scene():
    """Image, mask of the motorbike, disparity and where the pixels are."""
    data = pytest.importorskip('skimage.data', reason='scikit-image is not installed')
    try:
        image, _, disparity_px = data.stereo_motorcycle()
    except (ImportError, OSError):
        pytest.skip('scikit-image has not brought the pictures along')
    [result] = Segmenter().segment([image])
    mask = result.mask('motorbike') > 0
    depth_m = BASELINE_M * FOCAL_PX / (np.float32(disparity_px) + np.float32(OFFSET_PX))
    p = (
        FOCAL_PX,
        0.0,
        CENTER_XY_PX[0],
        0.0,
        0.0,
        FOCAL_PX,
        CENTER_XY_PX[1],
        0.0,
        0.0,
        0.0,
        1.0,
        0.0,
    )
    intrinsics = Intrinsics(size_wh=(741, 500), k=(0.0,) * 9, p=p)
    locate = Deprojector(is_rectified=True).locate
    depth = depth_to_m(Frame.from_array(depth_m, '32FC1'))
    return image, result, mask, disparity_px, locate(depth, intrinsics, mask.shape)


def test_the_cloud_is_where_the_disparity_says(scene):
    image, result, mask, disparity_px, grid = scene
    points = selected_points(grid, mask, result.labels_YX, image)
    rows, columns = np.nonzero(mask & np.isfinite(disparity_px))
    z_m = BASELINE_M * FOCAL_PX / (np.float64(disparity_px[rows, columns]) + OFFSET_PX)
    np.testing.assert_allclose(points['z'], z_m, rtol=1e-5)
    np.testing.assert_allclose(
        points['x'], (columns - CENTER_XY_PX[0]) * z_m / FOCAL_PX, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        points['y'], (rows - CENTER_XY_PX[1]) * z_m / FOCAL_PX, rtol=1e-4, atol=1e-5
    )
    assert set(points['label']) == {result.classes.id_of('motorbike')}
    assert 1.9 < np.median(points['z']) < 2.7


def test_the_box_is_around_the_motorbike_and_not_the_wall_in_its_mask(scene):
    _, _, mask, _, grid = scene
    box = object_boxes(grid, mask.astype(np.uint16), up_xyz=UP)[1]
    length_m, width_m, height_m = box.size_xyz_m
    # 615 px long and 379 px high at the 2.3 m of its near side.
    assert 1.3 < length_m < 1.6
    assert 0.4 < width_m < 0.7
    assert 0.8 < height_m < 1.0
    assert box.center_xyz_m == pytest.approx((0.17, 0.0, 2.5), abs=0.1)
    # Handlebar and mask have gaps that show the shelf 2 m behind.
    whole = object_boxes(grid, mask.astype(np.uint16), up_xyz=UP, erosion_px=0)[1]
    assert whole.size_xyz_m[1] > 2
