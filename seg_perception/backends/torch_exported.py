"""Reads ``.pt2`` files, networks written by ``torch.export.save``.

Loading one can execute code: ``torch.export.load`` falls back to plain pickle for the sample
inputs, evaluates symbolic expressions as Python, and calls whatever function of ``torch`` the
graph names (torch/export/pt2_archive/_package.py and torch/_export/serde/serialize.py, torch
2.13). There is no safe mode, so the user has to say that the file is trusted.
"""

from __future__ import annotations

from pathlib import Path

import torch

from seg_perception.backends.devices import select_device
from seg_perception.backends.failures import one_line, translated
from seg_perception.backends.graph_network import GraphNetwork
from seg_perception.backends.protocol import RunOptions
from seg_perception.errors import WeightsError
from seg_perception.models.card import ModelCard


def load_network(card: ModelCard, path: Path, options: RunOptions) -> GraphNetwork:
    """Loads an exported program that the user trusts, onto its device.

    Raises:
        WeightsError: it is not trusted, not a whole exported program, or takes no image.
        DeviceError: the device is not there.
    """
    if not options.trust_model_code:
        raise WeightsError(
            f'{path}: refused, because torch.export.load can execute code from a .pt2 '
            f'file; if you trust this file, say so with trust_model_code=true, else use '
            f'.safetensors, .onnx or .tflite'
        )
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise WeightsError(
            f'{path}: is not an exported program that torch {torch.__version__} can '
            f'load: {type(error).__name__}: {one_line(error)}'
        ) from error
    example = _image_input(program, card)
    batch, _, height, width = example.shape
    is_fixed = isinstance(height, int) and isinstance(width, int)
    device = select_device(options.device)
    with translated(card.name, f'on its way to {device}'):
        # What the graph makes by itself is named by device too, not only its weights.
        if example.device.type != device.type:
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(device))
        graph = program.module()
    return GraphNetwork(
        graph,
        example.dtype,
        (height, width) if is_fixed else None,
        batch if isinstance(batch, int) else None,
    )


def _image_input(program: torch.export.ExportedProgram, card: ModelCard) -> torch.Tensor:
    """The (fake) example of the program's only input."""
    names = program.graph_signature.user_inputs
    placeholders = {n.name: n for n in program.graph.nodes if n.op == 'placeholder'}
    examples = [placeholders[n].meta.get('val') for n in names if n in placeholders]
    example = examples[0] if len(examples) == 1 else None
    if (
        not isinstance(example, torch.Tensor)
        or example.ndim != 4
        or example.shape[1] != 3
        or not example.is_floating_point()
    ):
        shapes = [tuple(e.shape) if isinstance(e, torch.Tensor) else e for e in examples]
        raise WeightsError(
            f'{card.name}: expected a program of one floating-point input (B, 3, H, W), got '
            f'inputs {shapes}'
        )
    return example
