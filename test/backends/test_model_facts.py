"""What a cached file was made of: whatever changes it has to change its facts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_perception.backends.model_facts import model_facts
from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.output_spec import DecodingOptions, OutputSpec


@pytest.fixture
def card(make_card: Callable[..., ModelCard], tmp_path: Path) -> ModelCard:
    """Of weights in two files beside their config, as transformers writes large models."""
    index = tmp_path / 'model.safetensors.index.json'
    shards = {'a': 'one.safetensors', 'b': 'two.safetensors'}
    index.write_text(json.dumps({'weight_map': shards}))
    for name in shards.values():
        (tmp_path / name).write_bytes(b'tensors')
    (tmp_path / 'config.json').write_text('{}')
    return dataclasses.replace(
        make_card('model.onnx'),
        weights=WeightsSource(str(index), format='transformers'),
        output=OutputSpec('queries'),
    )


@pytest.mark.parametrize('changed', ['two.safetensors', 'config.json'])
def test_files_beside_the_weights_count(card: ModelCard, changed: str) -> None:
    path = Path(card.weights.uri)
    before = model_facts(card, path, None)
    assert model_facts(card, path, None) == before
    (path.parent / changed).write_bytes(b'{"other": 1}')
    assert model_facts(card, path, None) != before


def test_the_task_counts(card: ModelCard) -> None:
    """OneFormer's is a part of its graph."""
    path = Path(card.weights.uri)
    output = OutputSpec('queries', options=DecodingOptions(task='panoptic'))
    panoptic = dataclasses.replace(card, output=output)
    assert model_facts(panoptic, path, None) != model_facts(card, path, None)
