"""The node's quality of service, each choice with its reason.

Functions, because rclpy writes QoS override parameters into the profile it is given.
"""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def sensor_input() -> QoSProfile:
    """For images and calibration in: matches every camera driver; only the newest is of use."""
    return _newest(ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)


def output() -> QoSProfile:
    """For images out: matches every subscriber; a slow one misses frames instead of lagging."""
    return _newest(ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def latched() -> QoSProfile:
    """For what late joiners must learn too, such as the class table."""
    return _newest(ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def heartbeat(period_s: float) -> QoSProfile:
    """For what is worth something only while it comes, and is offered with a deadline.

    Not latched: a late joiner would take the last word of a dead node for the truth.
    """
    profile = _newest(ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
    profile.deadline = Duration(seconds=2.0 * period_s)
    return profile


def _newest(reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability, durability=durability
    )
