"""The node's quality of service, each choice with its reason.

Functions, because rclpy writes QoS override parameters into the profile it is given.
"""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def sensor_input() -> QoSProfile:
    """For calibration in: matches every camera driver; only the newest is of use."""
    return _newest(ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)


def image_input(node: Node, topic: str, reliability: str) -> QoSProfile:
    """For images in, as ``image_reliability`` says.

    Args:
        node: knows the graph.
        topic: of the images; who publishes it now decides where ``auto`` is asked for.
        reliability: ``best_effort``, ``reliable`` or ``auto``.
    """
    if reliability == 'auto':
        offers = [
            info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)
        ]
        is_reliable = bool(offers) and ReliabilityPolicy.BEST_EFFORT not in offers
    else:
        is_reliable = reliability == 'reliable'
    policy = ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT
    return _newest(policy, DurabilityPolicy.VOLATILE)


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
