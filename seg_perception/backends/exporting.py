"""Torch networks as graphs: exported programs and ONNX files, of any batch and input size.

B batch, H/W network input.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from seg_perception.backends.failures import one_line
from seg_perception.backends.graph_network import GraphNetwork
from seg_perception.backends.outputs import all_tensors
from seg_perception.errors import MissingExtraError, ModelError
from seg_perception.models.card import ModelCard

WITHOUT_EXPORT = "engine 'eager' runs it as it is, 'cuda_graph' does on a GPU"
"""What to do where a network cannot be exported, for the end of messages."""


class _FlatNetwork(torch.nn.Module):
    """A network whose output is a tensor or a tuple of them, whatever they were wrapped in."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_B3HW: torch.Tensor) -> Any:
        tensors = all_tensors(self.network(x_B3HW))
        return tensors if len(tensors) > 1 else tensors[0]


def example_batch(
    card: ModelCard, network: torch.nn.Module, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Zeros that a network can be traced with: two images, or as many as its file fixes.

    An example of one image would make the batch a constant.
    """
    batch, input_hw = 2, card.input.size_hw
    if isinstance(network, GraphNetwork):
        batch = network.batch_fixed or batch
        input_hw = network.input_hw_fixed or input_hw
    return torch.zeros(batch, 3, *input_hw, device=device, dtype=dtype)


def export_program(
    network: torch.nn.Module, example_B3HW: torch.Tensor, name: str
) -> torch.export.ExportedProgram:
    """Traces a network; batch, height and width stay open where the network allows it.

    Args:
        network: in evaluation mode, on the example's device and in its precision. One that is
            known to fail says why in ``not_exportable``.
        example_B3HW: more than one image.
        name: of the model, for messages.

    Raises:
        ModelError: torch cannot trace it.
    """
    if reason := getattr(network, 'not_exportable', ''):
        raise ModelError(f'{name}: cannot be exported: {reason}; {WITHOUT_EXPORT}')
    auto = torch.export.Dim.AUTO
    shapes = ({0: auto, 2: auto, 3: auto},)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.export.export(
                _FlatNetwork(network), (example_B3HW,), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:
        raise ModelError(
            f'{name}: torch cannot export it: {type(error).__name__}: {one_line(error)}; '
            f'{WITHOUT_EXPORT}'
        ) from error


def export_onnx(
    network: torch.nn.Module, example_B3HW: torch.Tensor, path: Path, name: str
) -> None:
    """Writes a network as an ONNX file: input ``image``, a single output is called ``logits``.

    Args:
        network: in evaluation mode, on the example's device and in its precision.
        example_B3HW: more than one image.
        path: of the file.
        name: of the model, for messages.

    Raises:
        MissingExtraError: the exporter's libraries are not installed.
        ModelError: torch cannot export it.
    """
    for library in ('onnx', 'onnxscript'):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise MissingExtraError(
                library, 'onnx', 'make .onnx files of torch networks'
            ) from error
    program = export_program(network, example_B3HW, name)
    is_single = len(program.graph_signature.user_outputs) == 1
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells of operators of libraries that are not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            onnx_program = torch.onnx.export(
                program,
                (example_B3HW,),
                input_names=['image'],
                output_names=['logits'] if is_single else None,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ModelError(
            f'{name}: torch cannot write it as ONNX: {type(error).__name__}: '
            f'{one_line(error)}; {WITHOUT_EXPORT}'
        ) from error
    finally:
        logger.setLevel(level)
    assert onnx_program is not None
    onnx_program.save(str(path), external_data=False)


def fixed_sides(
    program: torch.export.ExportedProgram, example_B3HW: torch.Tensor
) -> tuple[tuple[int, int] | None, int | None]:
    """What tracing has fixed of the input: height and width, and the batch; None where open.

    Where one side is fixed, both count as fixed.
    """
    names = program.graph_signature.user_inputs
    [node] = [n for n in program.graph.nodes if n.op == 'placeholder' and n.name == names[0]]
    batch, _, *sides = node.meta['val'].shape
    height, width = example_B3HW.shape[2:]
    is_fixed = any(isinstance(side, int) for side in sides)
    return (height, width) if is_fixed else None, batch if isinstance(batch, int) else None
