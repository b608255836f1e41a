"""Reads TorchScript, networks written by ``torch.jit.save``.

Such a file is a program in torch's own language: loading it runs code from the file, and so does
running it. There is no safe mode, so the user has to say that the file is trusted.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from seg_perception.backends.devices import select_device
from seg_perception.backends.failures import one_line, translated
from seg_perception.backends.graph_network import GraphNetwork
from seg_perception.backends.protocol import RunOptions
from seg_perception.errors import WeightsError
from seg_perception.models.card import ModelCard


def load_network(card: ModelCard, path: Path, options: RunOptions) -> GraphNetwork:
    """Loads a scripted or traced network that the user trusts, onto its device.

    Its precision is that of its first floating-point parameter or buffer. Which input sizes it
    takes is not written in the file: a traced network may work at the traced size only.

    Raises:
        WeightsError: it is not trusted, or not a whole TorchScript file.
        DeviceError: the device is not there.
    """
    if not options.trust_model_code:
        raise WeightsError(
            f'{path}: refused, because TorchScript is code that runs when it is loaded; if you '
            f'trust this file, say so with trust_model_code=true, else use .safetensors, .onnx '
            f'or .tflite'
        )
    device = select_device(options.device)
    with warnings.catch_warnings():
        # torch.jit is deprecated; the files that people have are not less real for it
        warnings.simplefilter('ignore', DeprecationWarning)
        try:
            graph = torch.jit.load(path, map_location='cpu')
        except Exception as error:
            raise WeightsError(
                f'{path}: is not a TorchScript file that torch {torch.__version__} can load: '
                f'{one_line(error)}'
            ) from error
        with translated(card.name, f'on its way to {device}'):
            graph = graph.eval().to(device)
    tensors = [*graph.parameters(), *graph.buffers()]
    dtypes = [t.dtype for t in tensors if t.is_floating_point()]
    return GraphNetwork(graph, dtypes[0] if dtypes else torch.float32)
