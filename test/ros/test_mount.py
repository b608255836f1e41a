"""Where cameras are on the robot."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')

from seg_perception.ros.mount import base_from_optical, transform_matrix

pytestmark = [pytest.mark.ros, pytest.mark.distro]


def apply(transform, point):
    return (transform @ (*point, 1.0))[:3]


def test_a_level_camera_looks_ahead() -> None:
    transform = base_from_optical((0.2, 0.0, 1.0, 0.0, 0.0, 0.0))
    np.testing.assert_allclose(apply(transform, (0, 0, 2)), (2.2, 0, 1), atol=1e-12)
    np.testing.assert_allclose(apply(transform, (1, 0, 0)), (0.2, -1, 1), atol=1e-12)  # right
    np.testing.assert_allclose(apply(transform, (0, 1, 0)), (0.2, 0, 0), atol=1e-12)  # down


def test_a_positive_pitch_looks_down_and_a_positive_yaw_left() -> None:
    down = apply(base_from_optical((0, 0, 1.0, 0, 30.0, 0)), (0, 0, 2))
    np.testing.assert_allclose(down, (2 * np.cos(np.pi / 6), 0, 0), atol=1e-12)
    left = apply(base_from_optical((0, 0, 0, 0, 0, 90.0)), (0, 0, 2))
    np.testing.assert_allclose(left, (0, 2, 0), atol=1e-12)
    rolled = apply(base_from_optical((0, 0, 0, 90.0, 0, 0)), (1, 0, 0))
    np.testing.assert_allclose(rolled, (0, 0, -1), atol=1e-12)


def test_transform_matrix_is_scipys() -> None:
    rotation = pytest.importorskip('scipy.spatial.transform').Rotation
    generator = np.random.default_rng(0)
    for quaternion in generator.normal(size=(20, 4)):
        matrix = transform_matrix((1, 2, 3), quaternion)
        np.testing.assert_allclose(
            matrix[:3, :3], rotation.from_quat(quaternion).as_matrix(), atol=1e-12
        )
        np.testing.assert_allclose(matrix[:, 3], (1, 2, 3, 1))
