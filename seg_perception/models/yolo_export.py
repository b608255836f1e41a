"""Cards of YOLO segmentation exports, made of what the exporter writes into an ONNX file.

Its metadata are texts: ``task`` ("segment"; older exporters leave it out), ``names`` ("{0:
'person', 1: 'bicycle'}"), ``imgsz`` ("[640, 640]"), ``stride``, ``license``, ``description``.
Images go in as RGB of 0 to 1, letterboxed on grey 114. Known are the texts, not the code that
writes them, which is under another licence than this package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from seg_perception.errors import ConfigurationError, ModelCardError
from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.input_spec import InputSpec
from seg_perception.models.output_spec import DecodingOptions, OutputSpec
from seg_perception.structures import ClassTable

_TASK = 'segment'
_PAD = 114.0
_SCORE_THRESHOLD = 0.25  # what the exporter's own runtime takes where nothing is said
_DEFAULT_SIZE = 640


def is_yolo_export(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata are such an exporter's."""
    return {'names', 'stride'} <= metadata.keys()


def card_of_export(
    path: Path,
    metadata: Mapping[str, str],
    class_names: Sequence[str],
    input_hw: tuple[int, int] | None,
    output_shapes: Sequence[Sequence[object]],
) -> ModelCard:
    """Makes the card.

    Args:
        path: the ONNX file.
        metadata: its custom metadata.
        class_names: what they say under ``names``.
        input_hw: the graph's input size, None where it is open.
        output_shapes: of the graph's outputs.

    Raises:
        ModelCardError: it is an export for another task, or its names are unusable.
    """
    task = metadata.get('task', _TASK)
    ranks = [len(shape) for shape in output_shapes]
    if task != _TASK or ranks[:2] != [3, 4]:
        raise ModelCardError(
            f'{path}: expected a YOLO export for the task {_TASK}, with boxes and mask '
            f"prototypes, got one for '{task}' with outputs {[list(s) for s in output_shapes]}; "
            f'export a segmentation model (-seg)'
        )
    try:
        classes = ClassTable(tuple(class_names))
    except ConfigurationError as error:
        raise ModelCardError(f'{path}: metadata names: {error}') from error
    return ModelCard(
        name=re.sub(r'[^a-z0-9_.+-]', '_', path.stem.lower()).lstrip('_.+-')[:100] or 'yolo_seg',
        summary=metadata.get('description', '') or f'YOLO segmentation, {len(classes)} classes',
        architecture=None,
        weights=WeightsSource(str(path), format='onnx'),
        input=InputSpec(
            size_hw=input_hw or _size_hw(metadata.get('imgsz', '')),
            resize='letterbox',
            mean_rgb=(0.0, 0.0, 0.0),
            std_rgb=(255.0, 255.0, 255.0),
            pad_rgb=(_PAD, _PAD, _PAD),
        ),
        output=OutputSpec('yolo_seg', options=DecodingOptions(score_threshold=_SCORE_THRESHOLD)),
        classes=classes,
        licence=metadata.get('license', '') or 'unknown (the file does not say)',
        source=metadata.get('docs', '') or str(path),
    )


def _size_hw(text: str) -> tuple[int, int]:
    """The size that the exporter was asked for; the family's usual one where it does not say."""
    try:
        value = ast.literal_eval(text)  # a literal; nothing is evaluated
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _DEFAULT_SIZE, _DEFAULT_SIZE
    sides = [value, value] if isinstance(value, int) else value
    is_size = isinstance(sides, (list, tuple)) and len(sides) == 2
    if not is_size or not all(type(side) is int and side > 0 for side in sides):
        return _DEFAULT_SIZE, _DEFAULT_SIZE
    return sides[0], sides[1]
