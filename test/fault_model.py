"""A real ONNX model that fails on marked images: each fault happens inside onnxruntime.

An image filled with one colour is the mark; on any other image the model names the strongest
colour of each cell. Nothing is patched: the node loads the file as it loads anybody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import yaml

CLASSES = ('dark', 'red', 'green', 'blue')
STRIDE = 8
INPUT_HW = (48, 64)
MARKS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        'nan': (255, 0, 0),
        'raise': (0, 255, 0),
        'hang': (0, 0, 255),
        'memory': (255, 255, 255),
        'slow': (255, 0, 255),
    }
)
"""Colour of the image that provokes each fault."""
_SLOW_TURNS = 400_000
_ENDLESS_TURNS = 2**40
_TOO_MANY_FLOATS = 2**46


def marked(fault: str, size_hw: tuple[int, int] = INPUT_HW) -> np.ndarray:
    """The image (Y, X, 3) that provokes a fault."""
    return np.full((*size_hw, 3), MARKS[fault], np.uint8)


def harmless(size_hw: tuple[int, int] = INPUT_HW) -> np.ndarray:
    """An image of four quarters: dark, red, green, blue."""
    image = np.zeros((*size_hw, 3), np.uint8)
    half_h, half_w = size_hw[0] // 2, size_hw[1] // 2
    image[:half_h, half_w:, 0] = image[half_h:, :half_w, 1] = image[half_h:, half_w:, 2] = 200
    return image


def write_fault_model(folder: Path, name: str = 'faulty', *, ballast_mib: int = 0) -> Path:
    """Writes the model and its card; returns the card's path.

    Args:
        folder: where to.
        name: of the files.
        ballast_mib: weights of no use, to be heavy.
    """
    import onnx

    path = folder / f'{name}.onnx'
    onnx.save(_model(ballast_mib), path)
    card = {
        'name': f'test.{name}',
        'summary': 'fails on marked images',
        'weights': {
            'uri': path.name,
            'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        'input': {
            'size_hw': list(INPUT_HW),
            'resize': 'stretch',
            'mean_rgb': [0.0] * 3,
            'std_rgb': [255.0] * 3,
        },
        'output': {'kind': 'logits', 'align_corners': False},
        'classes': {'names': list(CLASSES)},
        'licence': 'Apache-2.0',
        'source': 'test/fault_model.py',
    }
    card_path = folder / f'{name}.yaml'
    card_path.write_text(yaml.safe_dump(card, sort_keys=False), encoding='utf-8')
    return card_path


def _model(ballast_mib):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(name, value, dtype=np.float32):
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(kind, *inputs, **attributes):
        output = f'{kind}_{len(nodes)}'
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def is_marked(fault):
        """Per image (B,): 1 where it is filled with the fault's colour, else 0."""
        mark = constant(f'mark_{fault}', np.array(MARKS[fault]) / 255.0)
        distance = node('ReduceMax', node('Abs', node('Sub', means, mark)), axes_1, keepdims=0)
        return node('Cast', node('Less', distance, constant(f'near_{fault}', 0.01)), to=1)

    def turns(fault, num_turns):
        """How often a loop turns: not at all unless an image of the batch is marked."""
        flag = node('Cast', node('ReduceMax', is_marked(fault), axes_0, keepdims=0), to=7)
        return node('Mul', flag, constant(f'turns_{fault}', num_turns, np.int64))

    axes_0 = constant('axes_0', [0], np.int64)
    axes_1 = constant('axes_1', [1], np.int64)
    means = node('ReduceMean', 'image', constant('axes_23', [2, 3], np.int64), keepdims=0)

    colors = np.zeros((4, 3, 1, 1))
    colors[1:, :, 0, 0] = np.eye(3)
    pooled = node('AveragePool', 'image', kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2)
    bias = constant('bias', [0.2, 0.0, 0.0, 0.0])
    logits = node('Conv', pooled, constant('colors', colors), bias)

    # nan: 0 / 0 for the marked image alone
    flag_nan = is_marked('nan')
    one_less = node('Sub', constant('one', 1.0), flag_nan)
    nan = node('Sub', node('Div', one_less, one_less), constant('minus', 1.0))
    shape = constant('shape_b111', [-1, 1, 1, 1], np.int64)
    logits = node('Add', logits, node('Reshape', nan, shape))

    # raise: an index out of bounds
    far = turns('raise', 100)
    gathered = node('Gather', constant('two_zeros', [0.0, 0.0]), far, axis=0)
    logits = node('Add', logits, gathered)

    if ballast_mib:
        index = node('Cast', node('ReduceMax', flag_nan, axes_0, keepdims=0), to=7)
        ballast = constant('ballast', np.zeros((ballast_mib * 2**18,)))
        logits = node('Add', logits, node('Gather', ballast, index, axis=0))

    # memory: more floats than any machine has
    zero_shape = constant('one_element', [1], np.int64)
    huge = node('Add', zero_shape, turns('memory', _TOO_MANY_FLOATS))
    filled = node('ConstantOfShape', huge)
    logits = node('Add', logits, node('ReduceMax', filled, keepdims=0))

    # slow and hang: a loop that adds zero to zero
    for fault, num_turns in (('slow', _SLOW_TURNS), ('hang', _ENDLESS_TURNS)):
        body = helper.make_graph(
            [
                helper.make_node('Identity', ['goes_on'], ['goes_on_next']),
                helper.make_node('Add', ['total', 'total'], ['total_next']),
            ],
            f'{fault}_body',
            [
                helper.make_tensor_value_info('turn', TensorProto.INT64, []),
                helper.make_tensor_value_info('goes_on', TensorProto.BOOL, []),
                helper.make_tensor_value_info('total', TensorProto.FLOAT, []),
            ],
            [
                helper.make_tensor_value_info('goes_on_next', TensorProto.BOOL, []),
                helper.make_tensor_value_info('total_next', TensorProto.FLOAT, []),
            ],
        )
        start = constant(f'start_{fault}', 0.0)
        always = constant(f'always_{fault}', True, np.bool_)
        looped = node('Loop', turns(fault, num_turns), always, start, body=body)
        logits = node('Add', logits, looped)

    nodes.append(helper.make_node('Identity', [logits], ['logits']))
    graph = helper.make_graph(
        nodes,
        'faulty',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['B', 3, 'H', 'W'])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, ['B', 4, 'h', 'w'])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
