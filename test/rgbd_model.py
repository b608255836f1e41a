"""A network that names the flat colours of ``rgbd_scene``: the nearest of them at every pixel."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rgbd_scene
import yaml


def write(folder: Path) -> Path:
    """Writes the model and its card; returns the card's path."""
    onnx = pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed (extra onnx)')
    colors = (np.array(rgbd_scene.COLORS_RGB, np.float32) - 127.5) / 127.5
    # -|x - c|² = 2 c·x - |c|², but for what all classes share
    weights = (20.0 * colors)[:, :, None, None]
    bias = -10.0 * (colors**2).sum(1)
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node('Conv', ['image', 'weights', 'bias'], ['logits'])],
        'nearest_color',
        [helper.make_tensor_value_info('image', float32, ['batch', 3, 'height', 'width'])],
        [helper.make_tensor_value_info('logits', float32, ['batch', 4, 'height', 'width'])],
        [
            onnx.numpy_helper.from_array(weights, 'weights'),
            onnx.numpy_helper.from_array(bias, 'bias'),
        ],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(network, folder / 'model.onnx')
    card = {
        'name': 'nearest_color',
        'summary': 'names flat colours',
        'weights': {
            'uri': 'model.onnx',
            'sha256': hashlib.sha256((folder / 'model.onnx').read_bytes()).hexdigest(),
            'format': 'onnx',
        },
        'input': {
            'size_hw': [480, 640],
            'resize': 'stretch',
            'mean_rgb': [127.5] * 3,
            'std_rgb': [127.5] * 3,
        },
        'classes': {'names': list(rgbd_scene.CLASS_NAMES)},
        'output': {'kind': 'logits'},
        'licence': 'Apache-2.0',
        'source': 'made by the test',
    }
    (folder / 'card.yaml').write_text(yaml.safe_dump(card), encoding='utf-8')
    return folder / 'card.yaml'
