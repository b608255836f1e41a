"""Recordings need the rosbags library; some tests look at a live node beside them."""

from __future__ import annotations

import pytest

pytest.importorskip('rosbags', reason="rosbags (extra 'bag') is not installed")

from ros_harness import ros, ros_executor

__all__ = ['ros', 'ros_executor']
