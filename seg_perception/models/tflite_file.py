"""What is inside a TFLite file, read in Python before any native code sees it.

The interpreter trusts offsets and indices of the file: a damaged one ends the process. Reading it
with the schema's own classes, which check bounds, and comparing what refers to what turns that
into an error.

Source: tensorflow/lite/schema/schema.fbs.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from seg_perception.errors import MissingExtraError, WeightsError

_IDENTIFIER = b'TFL3'
_ITEM_BYTES = {'FLOAT32': 4, 'FLOAT16': 2, 'INT32': 4, 'UINT8': 1, 'INT64': 8, 'BOOL': 1}
_ITEM_BYTES |= {'INT16': 2, 'INT8': 1, 'FLOAT64': 8, 'UINT64': 8, 'UINT32': 4, 'UINT16': 2}


def read_tflite(path: Path) -> Any:
    """The model as ``ModelT`` of the schema; weights are views of the file's bytes.

    Raises:
        MissingExtraError: ai-edge-litert, which has the schema, is not installed.
        WeightsError: the file is missing, no TFLite model, or refers to what it does not have.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingExtraError('ai-edge-litert', 'tflite', 'read .tflite models') from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read: {error.strerror}') from error
    if data[4:8] != _IDENTIFIER:
        raise WeightsError(
            f'{path}: is not a valid TFLite model: expected the identifier TFL3, got {data[4:8]!r}'
        )
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        _check(model, {getattr(schema.TensorType, n): b for n, b in _ITEM_BYTES.items()})
    except _READING as error:
        raise WeightsError(
            f'{path}: is not a valid TFLite model: {type(error).__name__}: {str(error)[:200]}'
        ) from error
    return model


def tflite_shape(tensor: Any) -> list[int]:
    """A tensor's sides, -1 for those that may vary."""
    signature = tensor.shapeSignature
    shape = tensor.shape if signature is None or not len(signature) else signature
    return [] if shape is None else [int(side) for side in shape]


def is_integer(tensor: Any) -> bool:
    """Whether a tensor holds integers."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = vars(schema.TensorType).items()
    return any(number == tensor.type and 'INT' in kind for kind, number in kinds)


# What the schema's classes raise where an offset or length leaves the file.
_READING = (
    *(AttributeError, IndexError, MemoryError, OverflowError, RecursionError, TypeError),
    *(ValueError, struct.error),
)


def _check(model: Any, item_bytes: dict[int, int]) -> None:
    """Raises ValueError where something refers to what is not there."""
    if not model.subgraphs:
        raise ValueError('it has no graph')
    for graph in model.subgraphs:
        tensors = list(graph.tensors or ())
        for tensor in tensors:
            _check_tensor(tensor, model.buffers, item_bytes)
        num_codes = len(model.operatorCodes or ())
        for operator in graph.operators or ():
            _check_index(operator.opcodeIndex, 0, num_codes, 'operator')
            _check_indices(operator.inputs, -1, len(tensors))  # -1: an input that is left out
            _check_indices(operator.outputs, 0, len(tensors))
        for ends in (graph.inputs, graph.outputs):
            if ends is None or not len(ends):
                raise ValueError('a graph without input or output')
            _check_indices(ends, 0, len(tensors))


def _check_tensor(tensor: Any, buffers: Any, item_bytes: dict[int, int]) -> None:
    (tensor.name or b'').decode()  # LiteRT's Python side does so too
    shape = [int(side) for side in (() if tensor.shape is None else tensor.shape)]
    if any(side < 0 for side in shape):
        raise ValueError(f'a tensor of shape {shape}')
    _check_index(tensor.buffer, 0, len(buffers), 'buffer')
    data = buffers[tensor.buffer].data
    size = item_bytes.get(tensor.type)
    if data is None or not len(data) or size is None or tensor.sparsity is not None:
        return
    if len(data) != math.prod(shape) * size:
        raise ValueError(f'{len(data)} B of data for a tensor of shape {shape} and {size} B items')


def _check_indices(values: Any, minimum: int, end: int) -> None:
    for value in () if values is None else values:
        _check_index(int(value), minimum, end, 'tensor')


def _check_index(value: int, minimum: int, end: int, what: str) -> None:
    if not minimum <= value < end:
        raise ValueError(f'{what} {value} of {end}')
