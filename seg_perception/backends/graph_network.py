"""Networks that a file holds as a finished graph, with what the file fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class GraphNetwork(torch.nn.Module):
    """A network whose precision, and perhaps input size and batch, its file has decided.

    It is on its device already. Loaders of `networks.NETWORKS` return one where a network cannot
    be moved, converted or fed as freely as one that was built from Python code.

    Args:
        graph: maps one image batch (B, 3, H, W) to the network's output.
        dtype: of its input.
        input_hw_fixed: the only input size it takes; None where any fits.
        batch_fixed: the only batch it takes; None where any fits.
    """

    def __init__(
        self,
        graph: torch.nn.Module,
        dtype: torch.dtype,
        input_hw_fixed: tuple[int, int] | None = None,
        batch_fixed: int | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.dtype = dtype
        self.input_hw_fixed = input_hw_fixed
        self.batch_fixed = batch_fixed

    def forward(self, batch_B3HW: torch.Tensor) -> Any:
        """Runs the graph."""
        return self.graph(batch_B3HW)


def checked_once(network: GraphNetwork) -> Callable[[torch.Tensor], Any]:
    """The same network to be called; an exported program checks its input once per shape.

    torch checks it, and takes apart and puts together what goes in and comes out, at every call:
    in Python, which costs as much as a small network.
    """
    program = network.graph
    specs = [getattr(program, name, None) for name in ('_in_spec', '_out_spec')]
    if not isinstance(program, torch.fx.GraphModule) or any(s is None for s in specs):
        return network
    if specs[0].num_leaves != 1 or not specs[1].is_leaf():  # type: ignore[union-attr]
        return network
    graph = torch.fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    for node in graph.find_nodes(op='call_module', target='_guards_fn'):  # the check again
        graph.erase_node(node)
    bare = torch.fx.GraphModule(program, graph)
    checked: set[tuple[int, ...]] = set()

    def call(batch_B3HW: torch.Tensor) -> Any:
        shape = tuple(batch_B3HW.shape)
        if shape in checked:
            return bare.forward(batch_B3HW)[0]
        output = network(batch_B3HW)
        checked.add(shape)
        return output

    return call
