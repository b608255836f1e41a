"""Bird's-eye grids of hand-made scenes, against plain loops and values worked out by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import reference_navigation as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import ConfigurationError, GeometryError
from seg_perception.navigation import CellRule, GridLayout, GroundView, points_to_grid

WIDTH, HEIGHT, FOCAL, CENTER = 160, 120, 130.0, (83.25, 55.5)
RAYS = reference.pinhole_rays(WIDTH, HEIGHT, FOCAL, CENTER)
POSE = reference.camera_pose(height_m=1.0, pitch_down_deg=20.0)
LAYOUT = GridLayout(resolution_m=0.1, x_min_m=0.0, x_max_m=4.0, y_min_m=-2.0, y_max_m=2.0)


def scene(pose, box=None):
    """What the camera sees of the floor, painted in strips 0.5 m wide, and of a box on it.

    The strips run along y; every other one is drivable. Returns points in the optical frame,
    NaN at the sky, and the mask, in which the box is not drivable and the sky unknown.
    """
    points = np.full((HEIGHT, WIDTH, 3), np.nan)
    mask = np.full((HEIGHT, WIDTH), 127, np.uint8)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            ray = pose[:3, :3] @ RAYS[row, column]
            depth = -pose[2, 3] / ray[2] if ray[2] < 0 else np.inf
            value = 127
            if np.isfinite(depth):
                value = 255 if int(np.floor((pose[0, 3] + depth * ray[0]) / 0.5)) % 2 == 0 else 0
            if box is not None and (entry := enters(pose[:3, 3], ray, *box)) < depth:
                depth, value = entry, 0
            if np.isfinite(depth):
                points[row, column] = depth * RAYS[row, column]
                mask[row, column] = value
    return points, mask


def enters(origin, ray, low, high):
    """How far along the ray it enters the box, infinite where it does not (slab method)."""
    near, far = 0.0, np.inf
    for o, r, a, b in zip(origin, ray, low, high, strict=True):
        if r == 0:
            if not a <= o <= b:
                return np.inf
            continue
        first, last = sorted(((a - o) / r, (b - o) / r))
        near, far = max(near, first), min(far, last)
    return near if near <= far else np.inf


def test_layout_is_that_of_an_occupancy_grid():
    layout = GridLayout(0.5, -1.0, 1.2, -0.5, 0.5)
    assert layout.size_wh == (5, 2)  # 2.2 m in cells of 0.5 m, rounded up
    centers = layout.centers_JI3()
    # Row-major, from (x_min, y_min): x (forward) runs fastest.
    assert centers[0, 0].tolist() == [-0.75, -0.25, 0]
    assert centers[0, 1].tolist() == [-0.25, -0.25, 0]
    assert centers[1, 0].tolist() == [-0.75, 0.25, 0]
    assert GridLayout(0.05, 0.0, 5.0, -2.5, 2.5).size_wh == (100, 100)
    # 1.1 / 0.1 is 11.000000000000002 in binary, 0.7 / 0.1 is 6.999999999999999.
    assert GridLayout(0.1, 0.0, 1.1, 0.0, 0.7).size_wh == (11, 7)


@pytest.mark.parametrize(
    'numbers',
    [
        (0, 0, 1, 0, 1),
        (0.1, 1, 1, 0, 1),
        (0.1, 0, 1, 1, 0),
        (np.nan, 0, 1, 0, 1),
        (0.1, 0, np.inf, 0, 1),
        (1e-6, 0, 1, 0, 1),
    ],
)
def test_layouts_without_cells_or_with_too_many_are_refused(numbers):
    with pytest.raises(ConfigurationError, match='grid: expected x_min < x_max'):
        GridLayout(*numbers)


def test_ground_by_hand():
    """A camera 1 m up that looks straight ahead: the ground at x is seen at row FOCAL / x."""
    rays = reference.pinhole_rays(11, 11, 10.0, (5.0, 0.0))
    pose = reference.camera_pose(height_m=1.0, pitch_down_deg=0.0)
    mask = np.full((11, 11), 127, np.uint8)
    mask[5] = 255  # 10 / 5 = 2 m ahead
    mask[4, :5] = 0  # 2.5 m ahead, left of the middle
    layout = GridLayout(0.5, 0.25, 2.75, -0.75, 0.75)
    # Columns: x = 0.5 (row 20, below the image), 1 (row 10), 1.5 (6.67, nearest 7), 2, 2.5.
    # Rows: y = -0.5 (right), 0, 0.5 (left).
    assert GroundView(rays, layout).grid(mask, pose).tolist() == [
        [-1, -1, -1, 0, -1],
        [-1, -1, -1, 0, -1],
        [-1, -1, -1, 0, 100],
    ]
    pixels = GroundView(rays, layout).pixels_JI(pose)
    # y = 0.5 at x = 1 is 10 * 0.5 / 1 = 5 columns left of the middle: pixel (10, 0).
    assert pixels[:, 1].tolist() == [10 * 11 + 10, 10 * 11 + 5, 10 * 11 + 0]
    assert pixels[:, 0].tolist() == [-1, -1, -1]


@pytest.mark.parametrize('side', [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_ground_is_seen_to_the_edge_of_the_outermost_pixels(side):
    """A camera 1 m up that looks straight down: its 11 pixels of 0.1 m reach 0.55 m each way."""
    rays = reference.pinhole_rays(11, 11, 10.0, (5.0, 5.0))
    pose = reference.camera_pose(height_m=1.0, pitch_down_deg=90.0)
    mask = np.full((11, 11), 255, np.uint8)
    seen = []
    for distance_m in (0.54, 0.56):
        x, y = side[0] * distance_m, side[1] * distance_m
        cell = GridLayout(0.02, x - 0.01, x + 0.01, y - 0.01, y + 0.01)
        seen.append(GroundView(rays, cell).grid(mask, pose).tolist())
    assert seen == [[[0]], [[-1]]]


@pytest.mark.parametrize(
    'pose',
    [
        POSE,
        reference.camera_pose(0.4, 5.0, yaw_deg=35.0, x_m=0.3, y_m=-0.2),
        reference.camera_pose(1.3, 60.0, yaw_deg=-120.0, x_m=1.5),
    ],
)
def test_ground_strips(pose):
    _, mask = scene(pose)
    layout = GridLayout(0.1, -2.0, 4.0, -2.0, 2.0)
    expected = reference.ground_grid(mask, FOCAL, CENTER, pose, layout)
    grid = GroundView(RAYS, layout).grid(mask, pose)
    assert grid.dtype == np.int8
    np.testing.assert_array_equal(grid, expected)
    assert set(np.unique(grid)) == {-1, 0, 100}


def test_ground_strips_are_where_they_were_painted():
    _, mask = scene(POSE)
    grid = GroundView(RAYS, LAYOUT).grid(mask, POSE)
    x = LAYOUT.centers_JI3()[0, :, 0]
    strip = np.where(np.floor(x / 0.5) % 2 == 0, 0, 100)
    is_inner = np.abs(x / 0.5 - np.round(x / 0.5)) > 0.19  # not the cells at a strip's edge
    near = is_inner & (x < 3.0)
    is_seen = grid[:, near] >= 0
    assert is_seen.any(axis=0)[x[near] > 1.0].all()
    np.testing.assert_array_equal(
        grid[:, near][is_seen], np.broadcast_to(strip[near], is_seen.shape)[is_seen]
    )


@pytest.mark.parametrize('k1', [0.3, -0.25])
def test_ground_seen_through_a_distorting_lens(k1):
    """OpenCV's inverse of the lens gives the rays, its forward model tells where a cell is."""
    matrix = np.array([[FOCAL, 0, CENTER[0]], [0, FOCAL, CENTER[1]], [0, 0, 1]])
    coefficients = np.array([k1, 0.05, 0.002, -0.003])
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).reshape(-1, 1, 2)
    until = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 200, 1e-9)
    rays = cv2.convertPointsToHomogeneous(
        cv2.undistortPointsIter(
            pixels.astype(np.float64), matrix, coefficients, np.eye(3), np.eye(3), until
        )
    ).reshape(HEIGHT, WIDTH, 3)
    rays[0, :3] = np.nan  # where the lens model has no solution
    found = GroundView(rays, LAYOUT).pixels_JI(POSE)
    camera_from_base = np.array(reference.inverse(POSE))
    num_seen = 0
    for j, i in np.ndindex(found.shape):
        point = np.array(reference.transform(camera_from_base, LAYOUT.centers_JI3()[j, i]))
        zero = np.zeros(3)
        spot, _ = cv2.projectPoints(point.reshape(1, 1, 3), zero, zero, matrix, coefficients)
        x, y = spot.reshape(2)
        is_seen = point[2] > 0 and 0 < x < WIDTH - 1 and 0 < y < HEIGHT - 1
        is_hidden = point[2] <= 0 or not (-1 < x < WIDTH and -1 < y < HEIGHT)
        if is_seen:
            row, column = divmod(int(found[j, i]), WIDTH)
            assert max(abs(x - column), abs(y - row)) < 0.505
            num_seen += 1
        elif is_hidden:
            assert found[j, i] == -1
    assert num_seen > 500


def test_ground_look_up_is_kept_until_the_camera_moves():
    view = GroundView(RAYS, LAYOUT)
    first = view.pixels_JI(POSE)
    assert view.pixels_JI(POSE.copy()) is first
    assert view.pixels_JI(POSE.tolist()) is first
    moved = view.pixels_JI(reference.camera_pose(1.1, 20.0))
    assert moved is not first
    assert (moved != first).any()


def test_camera_that_sees_no_ground():
    # Behind it, as far away as the mirrored directions need to point into the image.
    layout = GridLayout(1.0, -30.0, -10.0, -1.0, 1.0)
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert (GroundView(RAYS, layout).grid(mask, POSE) == -1).all()


POINT_RULE = CellRule(min_points=1)


@pytest.mark.parametrize(
    ('point', 'value', 'rule', 'expected'),
    [
        ((1.0, 0.0, 0.0), 255, POINT_RULE, 0),
        ((1.0, 0.0, 0.15), 255, POINT_RULE, 0),
        ((1.0, 0.0, 0.2), 255, POINT_RULE, -1),  # says ground, but lies too high
        ((1.0, 0.0, -0.2), 255, POINT_RULE, -1),
        ((1.0, 0.0, 0.0), 127, POINT_RULE, -1),
        ((1.0, 0.0, 0.5), 127, POINT_RULE, -1),
        ((1.0, 0.0, 0.0), 0, POINT_RULE, 100),  # grass, say
        ((1.0, 0.0, 0.0), 0, CellRule(obstacle_min_m=0.1, min_points=1), -1),
        ((1.0, 0.0, 0.5), 0, POINT_RULE, 100),
        ((1.0, 0.0, 2.5), 0, POINT_RULE, -1),  # hangs above
        ((1.0, 0.0, -1.0), 0, POINT_RULE, -1),
        ((1.0, 0.0, 0.5), 0, CellRule(min_points=2), -1),
        ((4.5, 0.0, 0.0), 255, POINT_RULE, -1),
        ((-0.1, 0.0, 0.0), 255, POINT_RULE, -1),
        ((np.nan, 0.0, 0.0), 255, POINT_RULE, -1),
        ((np.inf, 0.0, 0.0), 0, POINT_RULE, -1),
        ((1.0, 0.0, np.inf), 0, POINT_RULE, -1),
    ],
)
def test_one_point(point, value, rule, expected):
    layout = GridLayout(4.0, 0.0, 4.0, -2.0, 2.0)
    grid = points_to_grid(
        np.array([[point]]), np.array([[value]], np.uint8), np.eye(4), layout, rule
    )
    assert grid.tolist() == [[expected]]
    assert grid.dtype == np.int8


def test_obstacle_wins_over_ground_in_its_cell():
    points = np.array([[(1, 0, 0.0)] * 9 + [(1, 0, 0.4)]])
    mask = np.array([[255] * 9 + [0]], np.uint8)
    layout = GridLayout(4.0, 0.0, 4.0, -2.0, 2.0)
    grids = [
        points_to_grid(points, mask, np.eye(4), layout, CellRule(min_points=n)) for n in (1, 2, 10)
    ]
    assert [grid.item() for grid in grids] == [100, 0, -1]


@pytest.mark.parametrize('rule', [CellRule(), CellRule(obstacle_min_m=0.1, min_points=2)])
def test_points_of_a_box_on_strips(rule):
    box = ((2.03, -0.2, 0.0), (2.43, 0.2, 0.5))
    points, mask = scene(POSE, box)
    grid = points_to_grid(points, mask, POSE, LAYOUT, rule)
    np.testing.assert_array_equal(grid, reference.points_grid(points, mask, POSE, LAYOUT, rule))
    # Its front, 2.03 m ahead and 0.4 m wide, fills four cells of column 20.
    assert (grid[18:22, 20] == 100).all()
    # The strip before it, 1.5 to 2 m, is not drivable: an obstacle only where flat ones count.
    before = grid[18:22, 16:19]
    assert (before == (-1 if rule.obstacle_min_m > 0 else 100)).all()
    # 1.2 to 1.5 m ahead is drivable ground.
    assert (grid[18:22, 12:15] == 0).all()
    # In its shadow nothing is known: seen from 1 m up, 0.5 m high hides the floor up to 4.86 m.
    assert (grid[19:21, 25:] == -1).all()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_any_points(seed, min_points):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, 2))
    points = rng.uniform(-3, 3, (*shape, 3)).astype(np.float32)
    points[rng.random(shape) < 0.2] = np.nan
    mask = rng.choice([0, 127, 255], shape).astype(np.uint8)
    pose = reference.camera_pose(*rng.uniform((0.2, -30, -180), (2, 90, 180)))
    layout = GridLayout(0.7, -2.0, 2.0, -2.0, 2.5)
    rule = CellRule(-0.3, 1.0, 0.5, min_points)
    # Nothing so close to a limit that float32 and float64 may differ about it.
    x, y, z = np.moveaxis(points @ pose[:3, :3].T + pose[:3, 3], -1, 0)
    cells = np.stack([(x - layout.x_min_m) / 0.7, (y - layout.y_min_m) / 0.7])
    points[(np.abs(cells - np.round(cells)) < 1e-4).any(axis=0)] = np.nan
    for limit in (-0.5, -0.3, 0.5, 1.0):
        points[np.abs(z - limit) < 1e-4] = np.nan
    np.testing.assert_array_equal(
        points_to_grid(points, mask, pose, layout, rule),
        reference.points_grid(points, mask, pose, layout, rule),
    )


def test_chosen_points_give_the_same_grid():
    points, mask = scene(POSE)
    chosen = mask != 127
    np.testing.assert_array_equal(
        points_to_grid(points[chosen], mask[chosen], POSE, LAYOUT, CellRule()),
        points_to_grid(points, mask, POSE, LAYOUT, CellRule()),
    )


def test_no_valid_depth_gives_an_unknown_grid():
    points = np.full((HEIGHT, WIDTH, 3), np.nan, np.float32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert (points_to_grid(points, mask, POSE, LAYOUT, CellRule()) == -1).all()
    empty = points_to_grid(points[:0], mask[:0], POSE, LAYOUT, CellRule())
    assert empty.shape == (40, 40)
    assert (empty == -1).all()


SHEARED = np.eye(4)
SHEARED[0, 1] = 0.1
MIRRORED = np.diag([1.0, 1.0, -1.0, 1.0])


@pytest.mark.parametrize('pose', [np.eye(3), SHEARED, MIRRORED, np.full((4, 4), np.nan)])
def test_transforms_that_are_none_are_refused(pose):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    with pytest.raises(GeometryError, match='expected a 4x4 transform'):
        points_to_grid(np.zeros((HEIGHT, WIDTH, 3)), mask, pose, LAYOUT, CellRule())
    with pytest.raises(GeometryError, match='expected a 4x4 transform'):
        GroundView(RAYS, LAYOUT).grid(mask, pose)


def test_what_does_not_belong_together_is_refused():
    mask = np.zeros((4, 5), np.uint8)
    with pytest.raises(GeometryError, match='expected one point per pixel'):
        points_to_grid(RAYS, mask, POSE, LAYOUT, CellRule())
    with pytest.raises(GeometryError, match='expected a mask of'):
        GroundView(RAYS, LAYOUT).grid(mask, POSE)
    with pytest.raises(GeometryError, match='expected rays of shape'):
        GroundView(RAYS[:1], LAYOUT)
    with pytest.raises(GeometryError, match='expected finite rays'):
        GroundView(np.full((4, 5, 3), np.nan), LAYOUT)
    with pytest.raises(GeometryError, match='camera above the ground'):
        GroundView(RAYS, LAYOUT).pixels_JI(reference.camera_pose(0.0, 20.0))
    with pytest.raises(ConfigurationError, match='obstacle_min < obstacle_max'):
        CellRule(obstacle_min_m=2.0, obstacle_max_m=1.0)
