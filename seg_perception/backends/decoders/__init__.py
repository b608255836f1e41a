"""From the tensors of graphs that do not give labels outright to a `ModelOutput`.

A decoder works on the device where the tensors are, and for every engine alike. One that is new
is a file here, a line in `DECODERS` and a kind in ``models.output_spec``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from seg_perception.backends.decoders import detections, queries, yolo_seg
from seg_perception.backends.protocol import ModelOutput
from seg_perception.models.card import ModelCard
from seg_perception.models.output_spec import OutputKind

Decoder = Callable[[Sequence[torch.Tensor], tuple[int, int], ModelCard], ModelOutput]
"""Called with all tensors of a graph in its order, none with a NaN, the size of the model's input
and the card; gives one item per image of the batch. Raises InferenceError for tensors that are
not what the card says."""

DECODERS: Mapping[OutputKind, Decoder] = {
    'queries': queries.decode,
    'yolo_seg': yolo_seg.decode,
    'detections': detections.decode,
}
"""Decoder by the card's ``output.kind``; other kinds are one tensor that needs none."""
