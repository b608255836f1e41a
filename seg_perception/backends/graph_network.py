"""Networks that a file holds as a finished graph, with what the file fixed."""

from __future__ import annotations

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
