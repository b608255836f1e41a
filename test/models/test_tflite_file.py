"""TFLite files are read within bounds; what refers to nothing is refused before native code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

flatbuffers = pytest.importorskip('flatbuffers', reason='flatbuffers is not installed')
schema = pytest.importorskip(
    'ai_edge_litert.schema_py_generated', reason='ai-edge-litert is not installed'
)

from seg_perception.errors import WeightsError  # noqa: E402
from seg_perception.models.tflite_file import is_integer, read_tflite, tflite_shape  # noqa: E402


def add_model() -> Any:
    """y = x + w, of four numbers."""

    def tensor(name: str, buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, [1, 2, 2], buffer
        made.type = schema.TensorType.FLOAT32
        return made

    weights = schema.BufferT()
    weights.data = np.arange(4, dtype='<f4').view(np.uint8)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.ADD
    graph = schema.SubGraphT()
    graph.tensors = [tensor('x', 0), tensor('w', 1), tensor('y', 0)]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT(), weights]
    return model


def written(model: Any, path: Path) -> Path:
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b'TFL3')
    path.write_bytes(bytes(builder.Output()))
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    graph = read_tflite(written(add_model(), tmp_path / 'a.tflite')).subgraphs[0]
    assert [tflite_shape(tensor) for tensor in graph.tensors] == [[1, 2, 2]] * 3
    assert not is_integer(graph.tensors[0])
    graph.tensors[0].type = schema.TensorType.UINT8
    graph.tensors[0].shapeSignature = [-1, 2, 2]
    assert is_integer(graph.tensors[0])
    assert tflite_shape(graph.tensors[0]) == [-1, 2, 2]


def break_input(model: Any) -> None:
    model.subgraphs[0].inputs = [7]


def break_operator(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = [0, 99]


def break_code(model: Any) -> None:
    model.subgraphs[0].operators[0].opcodeIndex = 5


def break_buffer(model: Any) -> None:
    model.subgraphs[0].tensors[1].buffer = 2


def break_size(model: Any) -> None:
    model.subgraphs[0].tensors[1].shape = [1, 200, 200]


def break_shape(model: Any) -> None:
    model.subgraphs[0].tensors[0].shape = [-5, 2, 2]


def remove_outputs(model: Any) -> None:
    model.subgraphs[0].outputs = []


def remove_graphs(model: Any) -> None:
    model.subgraphs = []


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (break_input, 'tensor 7 of 3'),
        (break_operator, 'tensor 99 of 3'),
        (break_code, 'operator 5 of 1'),
        (break_buffer, 'buffer 2 of 2'),
        (break_size, r'16 B of data for a tensor of shape \[1, 200, 200\]'),
        (break_shape, r'a tensor of shape \[-5, 2, 2\]'),
        (remove_outputs, 'a graph without input or output'),
        (remove_graphs, 'it has no graph'),
    ],
)
def test_what_refers_to_nothing(
    change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    model = add_model()
    change(model)
    with pytest.raises(WeightsError, match=f'not a valid TFLite model: ValueError: {message}'):
        read_tflite(written(model, tmp_path / 'a.tflite'))


def test_files_cut_short(tmp_path: Path) -> None:
    whole = written(add_model(), tmp_path / 'a.tflite').read_bytes()
    for length in range(0, len(whole) // 2, 5):
        path = tmp_path / 'short.tflite'
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r'short\.tflite: is not a valid TFLite model'):
            read_tflite(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r'gone\.tflite: cannot be read'):
        read_tflite(tmp_path / 'gone.tflite')
