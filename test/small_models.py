"""Real ONNX models of a few nodes, with cards: each says the same of every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

SIDE_PX = 32


def write_model(
    folder: Path,
    name: str,
    classes: tuple[str, ...],
    winner: str,
    *,
    kind: str = 'logits',
    fails: str = '',
    num_channels: int | None = None,
    **card_fields: Any,
) -> Path:
    """Writes a model that finds one class everywhere, and its card.

    Args:
        folder: where to.
        name: the card's and the files'.
        classes: the card's.
        winner: the class it finds.
        kind: ``logits`` or ``labels``.
        fails: ``always`` gives NaN, ``on white`` gives NaN where the image is white, ``unknown
            operator`` has a node that nobody knows.
        num_channels: of the logits; as many as classes where None.
        **card_fields: put over the card's.

    Returns:
        The card's path.
    """
    onnx = pytest.importorskip('onnx', reason="onnx (extra 'onnx') is not installed")
    pytest.importorskip('onnxruntime', reason="onnxruntime (extra 'onnx') is not installed")
    helper, of = onnx.helper, onnx.numpy_helper.from_array
    num_channels = num_channels or len(classes)
    bias = np.zeros(num_channels, np.float32)
    bias[classes.index(winner)] = np.nan if fails == 'always' else 5.0
    tensors = [
        of(np.zeros((num_channels, 3, 1, 1), np.float32), 'weight'),
        of(bias, 'bias'),
        of(np.full((num_channels, 3, 1, 1), -1 / 3, np.float32), 'darkness'),
        of(np.full(num_channels, 0.9, np.float32), 'limit'),
    ]
    nodes = [helper.make_node('Conv', ['image', 'weight', 'bias'], ['scores'])]
    scores = 'scores'
    if fails == 'on white':
        nodes += [
            helper.make_node('Conv', ['image', 'darkness', 'limit'], ['room']),
            helper.make_node('Sqrt', ['room'], ['root']),
            helper.make_node('Add', ['scores', 'root'], ['unsure']),
        ]
        scores = 'unsure'
    if fails == 'unknown operator':
        nodes.append(helper.make_node('Frobnicate', ['scores'], ['frobnicated']))
        scores = 'frobnicated'
    shape: list[Any] = ['batch', num_channels, SIDE_PX, SIDE_PX]
    element = onnx.TensorProto.FLOAT
    if kind == 'labels':
        nodes.append(helper.make_node('ArgMax', [scores], ['labels'], axis=1, keepdims=0))
        scores, shape, element = 'labels', ['batch', SIDE_PX, SIDE_PX], onnx.TensorProto.INT64
    image = helper.make_tensor_value_info(
        'image', onnx.TensorProto.FLOAT, ['batch', 3, SIDE_PX, SIDE_PX]
    )
    output = helper.make_tensor_value_info(scores, element, shape)
    model = helper.make_model(
        helper.make_graph(nodes, name, [image], [output], tensors),
        opset_imports=[helper.make_opsetid('', 17)],
        ir_version=8,
    )
    (folder / f'{name}.onnx').write_bytes(model.SerializeToString())
    card = {
        'name': name,
        'summary': f'finds {winner}',
        'weights': {'uri': f'{name}.onnx'},
        'input': {
            'size_hw': [SIDE_PX, SIDE_PX],
            'resize': 'stretch',
            'mean_rgb': [0.0] * 3,
            'std_rgb': [255.0] * 3,
        },
        'output': {'kind': kind},
        'classes': {'names': list(classes)},
        'licence': 'Apache-2.0',
        'source': 'made by the tests',
        **card_fields,
    }
    path = folder / f'{name}.yaml'
    path.write_text(yaml.safe_dump(card, sort_keys=False), encoding='utf-8')
    return path
