"""Fixtures of the tests over live topics; skips them all, saying why, where rclpy is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite('ros_harness')

from ros_harness import ros, ros_executor, spawn  # noqa: E402  (prepares the environment first)

__all__ = ['ros', 'ros_executor', 'spawn']


class _SkippedModule(pytest.Module):
    """Stands for a test module whose imports would fail here."""

    def collect(self):
        pytest.skip(
            'rclpy is not installed: source a ROS 2 setup file or run scripts/setup',
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path, parent):
    """Skips, visibly, every test module of this folder where there is no ROS 2."""
    try:
        import rclpy  # noqa: F401
    except ImportError:
        return _SkippedModule.from_parent(parent, path=module_path)
    return None


def pytest_collection_modifyitems(items):
    """Marks the tests of this folder, so that ``-m 'not ros'`` leaves them out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)
