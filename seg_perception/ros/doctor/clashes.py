"""Whether another node has this one's name, or publishes where it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rclpy.node import Node

from seg_perception.ros.doctor.finding import Finding, Gravity
from seg_perception.ros.doctor.graph import publishers_of
from seg_perception.ros.doctor.wiring import Publisher


def find_clashes(node: Node, namespaces: Mapping[str, str]) -> list[Finding]:
    """Clashes in the graph as it is seen now; a node that was killed stays in it for a while.

    Args:
        node: a configured segmentation node.
        namespaces: where it publishes, by camera.
    """
    own = (node.get_name(), node.get_namespace())
    num_of_name = node.get_node_names_and_namespaces().count(own)
    beats = {name: publishers_of(node, f'{where}/status') for name, where in namespaces.items()}
    return list(_findings(node.get_fully_qualified_name(), num_of_name, namespaces, beats))


def _findings(
    own_name: str,
    num_of_name: int,
    namespaces: Mapping[str, str],
    beats: Mapping[str, Sequence[Publisher]],
) -> Iterator[Finding]:
    if num_of_name > 1:
        yield Finding(
            'node name',
            Gravity.WARNING,
            f'{num_of_name} nodes are called {own_name}: services and parameters reach either',
            'stop one, or start it with another name (-r __node:=…) or ROS_DOMAIN_ID',
        )
    for camera, publishers in beats.items():
        if len(publishers) > 1:
            nodes = ', '.join(sorted({p.node for p in publishers}))
            yield Finding(
                f'{camera}: outputs',
                Gravity.WARNING,
                f'{len(publishers)} nodes publish in {namespaces[camera]} ({nodes}): who listens '
                'gets the outputs of all',
                'stop all but one; one node serves several cameras (parameter cameras)',
            )
