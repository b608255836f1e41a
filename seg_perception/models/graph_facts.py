"""What a model file says about itself, for a card or for the template of one.

A graph knows its shapes. It does not know which mean and std its images need, so a card cannot
be made of shapes alone; only a card that the file carries is taken as one, and what an exporter
with one way of feeding its models says (`yolo_export`).
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from seg_perception.errors import MissingExtraError, WeightsError
from seg_perception.models.card import (
    FORMAT_BY_SUFFIX,
    ModelCard,
    WeightsFormat,
    parse_card,
)
from seg_perception.models.tflite_file import is_integer, read_tflite, tflite_shape
from seg_perception.models.yolo_export import card_of_export, is_yolo_export

CARD_KEY = 'seg_perception_card'
"""Key of the ONNX metadata that holds a card's YAML text."""

_UNKNOWN = '???'


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What is known of a model file.

    Attributes:
        input_hw: input size, None where it is dynamic or unknown.
        num_classes: channels of the output, None where unknown.
        kind: ``labels`` where the output is an integer map, else '' (logits or probabilities
            cannot be told apart).
        class_names: from the file's metadata, () where it has none.
        card: the card that the file carries.
        inspected: the card that can be made of the file's metadata.
    """

    input_hw: tuple[int, int] | None = None
    num_classes: int | None = None
    kind: str = ''
    class_names: tuple[str, ...] = ()
    card: ModelCard | None = None
    inspected: ModelCard | None = None

    @property
    def unknown(self) -> str:
        """What is missing for a card, in words."""
        parts = ['mean and std of its images', 'licence and source']
        parts += [] if self.class_names else ['the names of its classes']
        parts += [] if self.kind else ['whether it gives logits or probabilities']
        return ', '.join(parts)

    def template(self, title: str, uri: str, weights_format: str) -> str:
        """YAML text of a card with ``???`` for what is not known.

        Args:
            title: what the model is called, in any letters.
            uri: for the card's ``weights``.
            weights_format: likewise.
        """
        size = list(self.input_hw) if self.input_hw else _UNKNOWN
        names = list(self.class_names) or [
            f'class_{i}' for i in range(min(self.num_classes or 0, 1000))
        ]
        quoted = json.dumps(names, ensure_ascii=False) if names else _UNKNOWN
        name = re.sub(r'[^a-z0-9_.+-]', '_', title.lower()).lstrip('_.+-') or 'my_model'
        lines = [f'name: {name}', f'summary: {_UNKNOWN}']
        suffix = PurePosixPath(uri).suffix.lower()
        is_said = weights_format in ('triton', FORMAT_BY_SUFFIX.get(suffix))
        format_lines = [] if is_said else [f'  format: {weights_format}']
        if weights_format in ('safetensors', 'torch'):
            lines.append(f'architecture: {_UNKNOWN}')
        lines += [
            'weights:',
            f'  uri: {json.dumps(uri)}',
            *format_lines,
            'input:',
            f'  size_hw: {size}',
            '  resize: stretch        # stretch, letterbox, fit or shortest_edge',
            f'  mean_rgb: {_UNKNOWN}          # subtracted from pixels 0..255, as [r, g, b]',
            f'  std_rgb: {_UNKNOWN}           # then divided by',
            'output:',
            f'  kind: {self.kind or _UNKNOWN}',
            'classes:',
            f'  names: {quoted}',
            f'licence: {_UNKNOWN}',
            f'source: {_UNKNOWN}',
        ]
        return '\n'.join(lines) + '\n'


def format_of_file(path: Path) -> WeightsFormat:
    """The format of a model file with a suffix of `FORMAT_BY_SUFFIX`.

    ``.pt`` and ``.pth`` are names of two things: a checkpoint, and TorchScript, a zip archive with
    code and constants in it.
    """
    weights_format = FORMAT_BY_SUFFIX[path.suffix.lower()]
    if weights_format == 'torch' and is_torchscript(path):
        return 'torchscript'
    return weights_format


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive. Nothing in it is executed."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile's own, and what damaged archives lead it to
        return False
    return any(name.endswith('/constants.pkl') for name in names)


def read_graph_facts(path: Path, weights_format: str) -> GraphFacts:
    """Reads what a model file says about itself; nothing, where its format says nothing.

    Raises:
        WeightsError: the file is not what its suffix says.
        ModelCardError: the card that it carries is wrong.
        MissingExtraError: the format's library is not installed.
    """
    if weights_format == 'onnx':
        return _onnx_facts(path)
    if weights_format == 'tflite':
        return _tflite_facts(path)
    return GraphFacts()


def _onnx_facts(path: Path) -> GraphFacts:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError('onnxruntime', 'onnx', 'read .onnx models') from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        metadata = dict(session.get_modelmeta().custom_metadata_map)
        image, outputs = session.get_inputs()[0], session.get_outputs()
        output = outputs[0]
    except Exception as error:  # the runtime's own, and those of names that are no text
        raise WeightsError(f'{path}: is not a valid ONNX model: {str(error)[:300]}') from error
    carried = metadata.get(CARD_KEY)
    channels_last = len(image.shape) == 4 and image.shape[3] == 3 and image.shape[1] != 3
    input_hw = _sides(image.shape[1:3] if channels_last else image.shape[2:4])
    names = _class_names(metadata.get('names', ''))
    inspected = None
    if CARD_KEY not in metadata and is_yolo_export(metadata):
        shapes = [output.shape for output in outputs]
        inspected = card_of_export(path, metadata, names, input_hw, shapes)
    return GraphFacts(
        input_hw=input_hw,
        num_classes=_channels(output.shape, 1 if not channels_last else 3),
        kind='labels' if 'int' in output.type else '',
        class_names=names,
        card=parse_card(carried, f'{path}: metadata {CARD_KEY}') if carried else None,
        inspected=inspected,
    )


def _tflite_facts(path: Path) -> GraphFacts:
    graph = read_tflite(path).subgraphs[0]
    image, output = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    shape = tflite_shape(output)
    is_label_map = len(shape) == 3 and is_integer(output)
    return GraphFacts(
        input_hw=_sides(tflite_shape(image)[1:3]),
        num_classes=_channels(shape, 3),
        kind='labels' if is_label_map else '',
    )


def _sides(sides: Sequence[object]) -> tuple[int, int] | None:
    known = [side for side in sides if isinstance(side, int) and side > 0]
    return (known[0], known[1]) if len(known) == len(sides) == 2 else None


def _channels(shape: Sequence[object], axis: int) -> int | None:
    side = shape[axis] if len(shape) == 4 else None
    return side if isinstance(side, int) and side > 0 else None


def _class_names(text: str) -> tuple[str, ...]:
    """Names as exporters write them: a list, or a mapping of ids 0, 1, … to names."""
    try:
        # Python and JSON literals both; nothing is evaluated
        values: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    if isinstance(values, dict) and all(str(key).isdigit() for key in values):
        by_id = {int(key): value for key, value in values.items()}
        if sorted(by_id) != list(range(len(by_id))):
            return ()
        values = [by_id[i] for i in range(len(by_id))]
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        return ()
    return tuple(values)
