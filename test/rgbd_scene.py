"""An RGB-D scene of known geometry: ground, boxes and balls, cast ray by ray in float64.

    view = rgbd_scene.render(rgbd_scene.camera((640, 480)))
    view.depth_m_YX, view.labels_YX, view.instances_YX, view.rgb_YX3     # what a camera would say
    view.points_m_YX3, view.up_xyz, view.truth[instance_id]              # what is true
    view.depth_frame('16UC1')                                            # as a driver sends it

The camera stands ``height_m`` above flat ground and looks ahead, ``pitch_deg`` down. Objects
stand in the ground frame: x right, y ahead, z up, the origin on the ground below the camera. What
`render` returns is in the camera's optical frame: x right, y down, z forward. Colours are flat,
one per class, so that a model of a single 1x1 convolution can label the picture.

Any `Intrinsics` will do: the distortion is inverted here by Newton's method, from the formulas of
OpenCV's manual and without OpenCV.

Legend: Y/X pixels, N pixels in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seg_perception.geometry import Intrinsics
from seg_perception.structures import Frame

CLASS_NAMES = ('background', 'floor', 'box', 'ball')
COLORS_RGB = ((110, 180, 240), (120, 120, 120), (200, 60, 40), (40, 170, 70))
BACKGROUND, FLOOR, BOX, BALL = range(4)


@dataclass(frozen=True)
class Box:
    """A box on the ground, its longer side turned by ``yaw_deg`` from x towards y."""

    center_xy_m: tuple[float, float]
    size_xyz_m: tuple[float, float, float]
    yaw_deg: float = 0.0


@dataclass(frozen=True)
class Ball:
    """A ball on the ground."""

    center_xy_m: tuple[float, float]
    radius_m: float


OBJECTS = (
    Box((-0.55, 2.1), (0.6, 0.4, 0.5), 25.0),
    Box((0.45, 1.9), (0.5, 0.3, 0.4), -35.0),
    Ball((0.0, 3.0), 0.25),
)
"""The scene of `render`: instances 1, 2 and 3, all within 640x480 of `camera`, none hidden."""


@dataclass(frozen=True)
class Truth:
    """Where an object is in the camera's frame; the columns of ``axes_33`` are its sides."""

    center_xyz_m: np.ndarray
    size_xyz_m: tuple[float, float, float]
    axes_33: np.ndarray


@dataclass(frozen=True)
class View:
    """What one camera sees; depth and points are NaN above the horizon and beyond 8 m."""

    intrinsics: Intrinsics
    depth_m_YX: np.ndarray
    points_m_YX3: np.ndarray
    labels_YX: np.ndarray
    instances_YX: np.ndarray
    rgb_YX3: np.ndarray
    up_xyz: tuple[float, float, float]
    truth: dict[int, Truth]

    def depth_frame(self, encoding: str = '32FC1', **header) -> Frame:
        """Depth as a driver sends it: 32FC1 metres with NaN, 16UC1 millimetres with 0."""
        if encoding == '32FC1':
            return Frame.from_array(self.depth_m_YX.astype(np.float32), encoding, **header)
        depth_mm_YX = np.rint(np.nan_to_num(self.depth_m_YX) * 1000).astype(np.uint16)
        return Frame.from_array(depth_mm_YX, encoding, **header)


def camera(
    size_wh: tuple[int, int] = (640, 480),
    *,
    center_offset_px: tuple[float, float] = (0.0, 0.0),
    distortion_model: str = 'plumb_bob',
    d: tuple[float, ...] = (0.0,) * 5,
) -> Intrinsics:
    """A camera of 67 degrees across, its principal point off the middle by an offset."""
    width, height = size_wh
    focal = 0.75 * width
    cx, cy = (width - 1) / 2 + center_offset_px[0], (height - 1) / 2 + center_offset_px[1]
    return Intrinsics(
        size_wh=size_wh,
        k=(focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0),
        p=(focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0),
        distortion_model=distortion_model,
        d=d,
    )


def render(
    intrinsics: Intrinsics,
    objects: tuple[Box | Ball, ...] = OBJECTS,
    *,
    height_m: float = 1.0,
    pitch_deg: float = 20.0,
    max_range_m: float = 8.0,
) -> View:
    """The raw (distorted) image of a camera; instance ids are positions in ``objects`` plus 1."""
    width, height = intrinsics.size_wh
    x, y = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    rays_x, rays_y = pixels_to_rays(x.ravel(), y.ravel(), intrinsics)
    rays_3N = np.stack((rays_x, rays_y, np.ones_like(rays_x)))
    sin, cos = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
    ground_from_camera = np.array([[1.0, 0.0, 0.0], [0.0, -sin, cos], [0.0, -cos, -sin]])
    directions_3N = ground_from_camera @ rays_3N
    eye = np.array([0.0, 0.0, height_m])

    hits_m = [_hit_ground(eye, directions_3N)]
    truth = {}
    for instance, item in enumerate(objects, start=1):
        if isinstance(item, Ball):
            center = np.array([*item.center_xy_m, item.radius_m])
            size, turn = (2 * item.radius_m,) * 3, np.eye(3)
            hits_m.append(_hit_ball(eye - center, directions_3N, item.radius_m))
        else:
            center = np.array([*item.center_xy_m, item.size_xyz_m[2] / 2])
            size, turn = item.size_xyz_m, _turn_about_z(item.yaw_deg)
            hits_m.append(
                _hit_box(turn.T @ (eye - center), turn.T @ directions_3N, np.array(size) / 2)
            )
        camera_from_ground = ground_from_camera.T
        truth[instance] = Truth(
            camera_from_ground @ (center - eye), size, camera_from_ground @ turn
        )
    # Rays have z = 1, so what they are multiplied by to reach a surface is the depth.
    nearest = np.argmin(hits_m, axis=0)
    depth_m = np.min(hits_m, axis=0)
    is_seen = depth_m <= max_range_m
    classes = [FLOOR, *(BALL if isinstance(item, Ball) else BOX for item in objects)]
    labels = np.where(is_seen, np.array(classes, np.uint8)[nearest], np.uint8(BACKGROUND))
    depth_m = np.where(is_seen, depth_m, np.nan)
    shape = (height, width)
    return View(
        intrinsics=intrinsics,
        depth_m_YX=depth_m.reshape(shape),
        points_m_YX3=(rays_3N * depth_m).T.reshape(*shape, 3),
        labels_YX=labels.reshape(shape),
        instances_YX=np.where(is_seen, nearest, 0).astype(np.uint16).reshape(shape),
        rgb_YX3=np.array(COLORS_RGB, np.uint8)[labels].reshape(*shape, 3),
        up_xyz=tuple(ground_from_camera[2]),
        truth=truth,
    )


def _turn_about_z(yaw_deg: float) -> np.ndarray:
    sin, cos = math.sin(math.radians(yaw_deg)), math.cos(math.radians(yaw_deg))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _hit_ground(eye: np.ndarray, directions_3N: np.ndarray) -> np.ndarray:
    down_N = -directions_3N[2]
    return np.where(down_N > 0, eye[2] / np.where(down_N > 0, down_N, 1.0), np.inf)


def _hit_ball(eye: np.ndarray, directions_3N: np.ndarray, radius_m: float) -> np.ndarray:
    a = (directions_3N**2).sum(axis=0)
    b = eye @ directions_3N
    discriminant = b**2 - a * (eye @ eye - radius_m**2)
    return np.where(discriminant >= 0, (-b - np.sqrt(np.maximum(discriminant, 0.0))) / a, np.inf)


def _hit_box(eye: np.ndarray, directions_3N: np.ndarray, half_xyz_m: np.ndarray) -> np.ndarray:
    """Slabs: a ray is inside of the box from the last entry to the first exit."""
    directions_3N = np.where(directions_3N == 0, 1e-300, directions_3N)
    walls_m = np.stack(
        [(side * half_xyz_m - eye)[:, None] / directions_3N for side in (-1.0, 1.0)]
    )
    entry_N, exit_N = walls_m.min(axis=0).max(axis=0), walls_m.max(axis=0).min(axis=0)
    return np.where((entry_N <= exit_N) & (entry_N > 0), entry_N, np.inf)


# --- cameras, from the formulas in OpenCV's manual -----------------------------------------------


def rays_to_pixels(x, y, intrinsics: Intrinsics):
    """Pixel coordinates of directions x / z and y / z, through K and the distortion."""
    k = intrinsics.k
    x, y = _distort(np.asarray(x, float), np.asarray(y, float), intrinsics)
    return k[0] * x + k[2], k[4] * y + k[5]


def pixels_to_rays(x, y, intrinsics: Intrinsics):
    """The inverse of `rays_to_pixels`: Newton's method on both coordinates at once."""
    k = intrinsics.k
    goal_x, goal_y = (np.asarray(x) - k[2]) / k[0], (np.asarray(y) - k[5]) / k[4]
    ray_x, ray_y = goal_x.copy(), goal_y.copy()
    h = 1e-6
    for _ in range(30):
        now = np.stack(_distort(ray_x, ray_y, intrinsics))
        error_x, error_y = goal_x - now[0], goal_y - now[1]
        if max(np.abs(error_x).max(), np.abs(error_y).max()) < 1e-12:
            break
        xx, yx = (np.stack(_distort(ray_x + h, ray_y, intrinsics)) - now) / h
        xy, yy = (np.stack(_distort(ray_x, ray_y + h, intrinsics)) - now) / h
        determinant = xx * yy - xy * yx
        ray_x += (yy * error_x - xy * error_y) / determinant
        ray_y += (xx * error_y - yx * error_x) / determinant
    return ray_x, ray_y


def _distort(x: np.ndarray, y: np.ndarray, intrinsics: Intrinsics):
    if intrinsics.distortion_model == 'equidistant':
        r = np.hypot(x, y)
        angle = np.arctan(r)
        scale = sum(c * angle ** (2 * i) for i, c in enumerate((1.0, *intrinsics.d)))
        scale = np.where(r > 0, scale * angle / np.where(r > 0, r, 1.0), 1.0)
        return x * scale, y * scale
    k1, k2, p1, p2, k3, k4, k5, k6 = (*intrinsics.d, *(0.0,) * 8)[:8]
    r2 = x**2 + y**2
    scale = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * scale + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * scale + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )
