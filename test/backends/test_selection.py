"""``engine: auto``: what may be chosen, what is, and that it stays."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_perception.backends import RunOptions, load_backend, selection
from seg_perception.backends.agreement import agreement
from seg_perception.backends.engine_cache import EngineCache
from seg_perception.backends.protocol import InstanceOutput, ModelOutput
from seg_perception.errors import ModelError
from seg_perception.models import resolve
from seg_perception.models.card import ModelCard

pytest.importorskip('openvino', reason='openvino is not installed')
pytest.importorskip('onnxscript', reason='the ONNX exporter (extra onnx) is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime (extra onnx) is not installed')

AUTO = RunOptions(device='cpu', engine='auto', num_threads=1)


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a robot should."""
    monkeypatch.setattr(selection, 'BUDGET_S', 600.0)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Whoever loads a model sets torch's threads, for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    from safetensors.torch import save_file

    from seg_perception.models import nets

    torch.manual_seed(1)
    network = nets.build('unet', 4, base_channels=2, num_stages=1)
    save_file(network.state_dict(), tmp_path / 'tiny.safetensors')
    (tmp_path / 'tiny.yaml').write_text(
        'name: tiny\nsummary: tiny\narchitecture: unet\n'
        'architecture_options: {base_channels: 2, num_stages: 1}\n'
        'weights: {uri: tiny.safetensors}\n'
        'input: {size_hw: [32, 48], resize: stretch, mean_rgb: [127, 127, 127], '
        'std_rgb: [128, 128, 128]}\n'
        'classes: {names: [a, b, c, d]}\nlicence: Apache-2.0\nsource: test\n'
    )
    return resolve(str(tmp_path / 'tiny.yaml'))


def times(monkeypatch: pytest.MonkeyPatch, **ms: float) -> list[set[str]]:
    """Lets the engines take these times; gives the sets of engines that were timed."""
    timed: list[set[str]] = []

    def measured(loaded: Any, batch: torch.Tensor) -> dict[str, float]:
        timed.append(set(loaded))
        return {name: ms[name] for name in loaded}

    monkeypatch.setattr(selection, '_timed', measured)
    return timed


def load(card: ModelCard, cache_dir: Path, options: RunOptions = AUTO) -> dict[str, str]:
    backend = load_backend(card, options=options, cache_dir=cache_dir)
    logits_BCHW = backend.infer(torch.zeros(1, 3, 32, 48)).logits_BCHW
    assert logits_BCHW is not None
    return backend.description()


def test_a_real_measurement_is_made_once_and_kept(card: ModelCard, tmp_path: Path) -> None:
    first = load(card, tmp_path)
    assert first['engine'] in ('eager', 'onnxruntime', 'openvino')
    for name in ('eager', 'onnxruntime', 'openvino'):
        assert f'{name} ' in first['chosen']
    assert first['chosen'].count(' ms') == 3
    again = load(card, tmp_path)
    assert again['engine'] == first['engine']
    assert again['chosen'] == first['chosen'] + ', as measured before'


@pytest.mark.parametrize(
    ('eager', 'openvino', 'chosen'), [(66.0, 22.0, 'openvino'), (23.0, 22.0, 'eager')]
)
def test_the_quickest_wins_by_a_margin(
    eager: float,
    openvino: float,
    chosen: str,
    card: ModelCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = times(monkeypatch, eager=eager, openvino=openvino, onnxruntime=31.0)
    description = load(card, tmp_path)
    assert description['engine'] == chosen
    assert description['chosen'].startswith(f'{chosen} 2')
    assert 'onnxruntime 31 ms' in description['chosen']
    other = RunOptions(device='cpu', engine='auto', num_threads=2)  # another question
    load(card, tmp_path, other)
    load(card, tmp_path, other)
    assert timed == [{'eager', 'openvino', 'onnxruntime'}] * 2


def test_what_disagrees_cannot_win(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, eager=66.0, openvino=22.0, onnxruntime=31.0)
    openvino = selection.ENGINES['openvino']
    real_load = openvino.load

    def disturbed(*args: Any) -> Any:
        backend = real_load(*args)
        infer = backend.infer
        backend.infer = lambda batch: ModelOutput(logits_BCHW=-infer(batch).logits_BCHW)
        return backend

    object.__setattr__(openvino, 'load', disturbed)
    try:
        description = load(card, tmp_path)
    finally:
        object.__setattr__(openvino, 'load', real_load)
    assert description['engine'] == 'onnxruntime'
    assert 'openvino agrees on' in description['chosen']


def test_what_fails_cannot_win(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, eager=66.0, openvino=22.0, onnxruntime=70.0)
    monkeypatch.setattr(
        'seg_perception.backends.openvino_runtime.export_program',
        lambda *args: (_ for _ in ()).throw(ModelError('cannot be exported')),
    )
    description = load(card, tmp_path)
    assert description['engine'] == 'eager'
    assert 'openvino failed: cannot be exported' in description['chosen']


def test_nothing_is_tried_after_the_budget(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = times(monkeypatch, eager=66.0)
    monkeypatch.setattr(selection, 'BUDGET_S', -1.0)
    assert 'openvino no time left' in load(card, tmp_path)['chosen']
    assert timed == [{'eager'}]


def test_without_other_engines_nothing_is_measured(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = times(monkeypatch)
    real_find = importlib.util.find_spec
    absent = ('openvino', 'onnxruntime')
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda n, *a: None if n in absent else real_find(n, *a)
    )
    description = load(card, tmp_path)
    assert description['chosen'] == 'eager is the only engine here for safetensors models'
    assert timed == []
    assert not EngineCache(tmp_path).root.exists()


def test_without_a_cache_the_native_engine_runs(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = times(monkeypatch)
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache' / 'engines').write_text('in the way')
    description = load(card, tmp_path / 'cache')
    assert description['engine'] == 'eager'
    assert 'cannot be written' in description['chosen']
    assert timed == []


def test_a_damaged_choice_is_made_anew(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = times(monkeypatch, eager=66.0, openvino=22.0, onnxruntime=31.0)
    load(card, tmp_path)
    [entry] = EngineCache(tmp_path).root.glob('tiny-auto-*')
    (entry / 'entry.json').write_text('{"files": {}, "notes"')
    assert load(card, tmp_path)['engine'] == 'openvino'
    assert len(timed) == 2


class TestAgreement:
    def test_of_labels_and_logits(self) -> None:
        logits_BCHW = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        ours = ModelOutput(logits_BCHW=logits_BCHW)
        assert agreement(ours, ModelOutput(labels_BHW=torch.tensor([[[0, 1]]]))) == 1.0
        assert agreement(ours, ModelOutput(labels_BHW=torch.tensor([[[1, 1]]]))) == 0.5
        assert agreement(ours, ModelOutput(labels_BHW=torch.tensor([[[1]]]))) == 0.0

    def test_of_objects(self) -> None:
        def found(score: float = 0.9, class_id: int = 2, num: int = 1) -> ModelOutput:
            masks_NHW = torch.tensor([[[1.0, -1.0]]]).repeat(num, 1, 1)
            one = InstanceOutput(
                masks_NHW, torch.full((num,), score), torch.full((num,), class_id)
            )
            return ModelOutput(instances=(one,))

        assert agreement(found(), found(0.88)) == 1.0
        assert agreement(found(num=0), found(num=0)) == 1.0
        assert agreement(found(), found(0.5)) == 0.0
        assert agreement(found(), found(class_id=1)) == 0.0
        assert agreement(found(num=2), found()) == 0.0
