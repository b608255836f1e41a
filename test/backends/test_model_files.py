"""Exported networks (.pt2, .onnx), reloaded and compared with the network they came from."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import (
    ConfigurationError,
    DeviceError,
    InferenceError,
    MissingExtraError,
    ModelCardError,
    SegPerceptionError,
    WeightsError,
)
from seg_perception.models.card import ModelCard

MakeCard = Callable[..., ModelCard]
Export = Callable[..., Path]
TRUSTED = RunOptions(device='cpu', trust_model_code=True, num_threads=1)
CPU = RunOptions(device='cpu', num_threads=1)
EXAMPLE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def export_pt2(tmp_path: Path) -> Export:
    def export(network: torch.nn.Module, example: torch.Tensor, *, dynamic: bool = False) -> Path:
        auto = torch.export.Dim.AUTO
        shapes = ({0: auto, 2: auto, 3: auto},) if dynamic else None
        program = torch.export.export(network, (example,), dynamic_shapes=shapes)
        torch.export.save(program, tmp_path / 'small.pt2')
        return tmp_path / 'small.pt2'

    return export


@pytest.fixture(params=['pt2', 'onnx'])
def export(request: pytest.FixtureRequest) -> Export:
    made: Export = request.getfixturevalue(f'export_{request.param}')
    return made


def test_dynamic_file_equals_eager_at_two_sizes(
    network: torch.nn.Module, make_card: MakeCard, export: Export
) -> None:
    path = export(network, EXAMPLE, dynamic=True)
    backend = load_backend(make_card(str(path)), options=TRUSTED)
    assert backend.input_hw_fixed is None
    assert backend.max_batch is None
    for shape in ((1, 3, 64, 96), (3, 3, 40, 56)):
        batch = torch.randn(shape)
        backend.warm_up((shape[2], shape[3]), shape[0])
        with torch.inference_mode():
            expected = network(batch)
        output = backend.infer(batch)
        assert output.labels_BHW is None
        torch.testing.assert_close(output.logits_BCHW, expected, atol=1e-5, rtol=1e-4)


def test_fixed_file_says_so_and_fills_smaller_batches_up(
    network: torch.nn.Module, make_card: MakeCard, export: Export
) -> None:
    path = export(network, EXAMPLE)
    backend = load_backend(make_card(str(path)), options=TRUSTED)
    assert backend.input_hw_fixed == (64, 96)
    assert backend.max_batch == 2
    backend.warm_up((64, 96), 8)
    one = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = network(one)
    torch.testing.assert_close(backend.infer(one).logits_BCHW, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(InferenceError, match='expected input of 64x96 px'):
        backend.infer(torch.zeros(1, 3, 96, 64))
    with pytest.raises(InferenceError, match='at most 2 images'):
        backend.infer(torch.zeros(3, 3, 64, 96))
    assert backend.description()['device'] == 'cpu'
    backend.close()
    backend.close()
    with pytest.raises(InferenceError, match='closed'):
        backend.infer(one)


def test_class_count_of_the_file_must_be_the_cards(
    network: torch.nn.Module, make_card: MakeCard, export: Export
) -> None:
    path = export(network, EXAMPLE)
    with pytest.raises((ModelCardError, InferenceError), match='7 channels, one per class'):
        load_backend(make_card(str(path), num_classes=7), options=TRUSTED).infer(EXAMPLE)


def test_a_single_score_for_two_classes(make_card: MakeCard, export: Export) -> None:
    class Binary(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x[:, :1] * 2)

    path = export(Binary(), EXAMPLE)
    backend = load_backend(make_card(str(path), 2, 'probabilities'), options=TRUSTED)
    output = backend.infer(EXAMPLE)
    assert output.is_probabilities
    assert output.logits_BCHW is not None
    expected = torch.sigmoid(EXAMPLE[:, 0] * 2)
    torch.testing.assert_close(output.logits_BCHW[:, 1], expected)
    torch.testing.assert_close(output.logits_BCHW[:, 0], 1 - expected)


@pytest.mark.parametrize('keepdim', [True, False])
def test_label_maps(
    network: torch.nn.Module, make_card: MakeCard, export: Export, keepdim: bool
) -> None:
    class ArgMax(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).argmax(1, keepdim=keepdim)

    path = export(ArgMax().eval(), EXAMPLE)
    output = load_backend(make_card(str(path), kind='labels'), options=TRUSTED).infer(EXAMPLE)
    assert output.logits_BCHW is None
    assert output.labels_BHW is not None
    with torch.inference_mode():
        assert torch.equal(output.labels_BHW.long(), network(EXAMPLE).argmax(1))
    too_few = load_backend(make_card(str(path), num_classes=2, kind='labels'), options=TRUSTED)
    with pytest.raises(InferenceError, match='expected labels 0 to 1'):
        too_few.infer(EXAMPLE)


def test_logits_are_not_labels(
    network: torch.nn.Module, make_card: MakeCard, export: Export
) -> None:
    path = export(network, EXAMPLE)
    with pytest.raises((ModelCardError, InferenceError), match='is it logits'):
        load_backend(make_card(str(path), kind='labels'), options=TRUSTED).infer(EXAMPLE)


def test_precision_is_the_files(
    network: torch.nn.Module, make_card: MakeCard, export: Export
) -> None:
    path = export(network, EXAMPLE)
    options = RunOptions(device='cpu', precision='bf16', trust_model_code=True)
    with pytest.raises(DeviceError, match='precision'):
        load_backend(make_card(str(path)), options=options)


def test_no_image_input(make_card: MakeCard, export: Export) -> None:
    class OneChannel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.expand(-1, 5, -1, -1) * 2

    path = export(OneChannel(), torch.zeros(1, 1, 8, 8))
    with pytest.raises(WeightsError, match=r'expected .*one .*input'):
        load_backend(make_card(str(path)), options=TRUSTED)


@pytest.mark.parametrize('suffix', ['pt2', 'onnx', 'tflite'])
@pytest.mark.parametrize('content', [b'', b'no model at all', bytes(2000)])
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_damaged_files(suffix: str, content: bytes, make_card: MakeCard, tmp_path: Path) -> None:
    library = {'onnx': 'onnxruntime', 'tflite': 'ai_edge_litert'}.get(suffix, 'torch')
    pytest.importorskip(library, reason=f'{library} is not installed')
    path = tmp_path / f'small.{suffix}'
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f'small.{suffix}'):
        load_backend(make_card(str(path)), options=TRUSTED)


@pytest.mark.parametrize(
    ('suffix', 'library', 'extra'),
    [('onnx', 'onnxruntime', 'onnx'), ('tflite', 'ai_edge_litert', 'tflite')],
)
def test_a_missing_library_names_its_extra(
    suffix: str,
    library: str,
    extra: str,
    make_card: MakeCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_find = importlib.util.find_spec

    def no_library(name: str, *args: Any) -> Any:
        return None if name == library else real_find(name, *args)

    (tmp_path / f'small.{suffix}').write_bytes(b'x')
    monkeypatch.setattr(importlib.util, 'find_spec', no_library)
    with pytest.raises(MissingExtraError, match=rf'seg_perception\[{extra}\]'):
        load_backend(make_card(str(tmp_path / f'small.{suffix}')), options=CPU)


@pytest.mark.parametrize('suffix', ['onnx', 'tflite'])
@pytest.mark.parametrize('engine', ['compile', 'cuda_graph', 'eager'])
def test_torch_engines_are_refused_elsewhere(
    suffix: str, engine: Any, make_card: MakeCard, tmp_path: Path
) -> None:
    able = {'onnx': 'onnxruntime', 'tflite': 'litert'}[suffix]
    (tmp_path / f'small.{suffix}').write_bytes(b'x')
    options = RunOptions(device='cpu', engine=engine)
    with pytest.raises(ConfigurationError, match=rf"that runs {suffix} .*{able}.*got '{engine}'"):
        load_backend(make_card(str(tmp_path / f'small.{suffix}')), options=options)


class TestOnnx:
    def test_nhwc_uint8_input(self, make_card: MakeCard, export_onnx: Export) -> None:
        class FromPixels(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                pixels = x.to(torch.float32).permute(0, 3, 1, 2)
                return torch.cat([pixels, pixels[:, :2] + 1], 1)

        pixels = torch.randint(0, 256, (1, 16, 24, 3), dtype=torch.uint8)
        path = export_onnx(FromPixels(), pixels)
        backend = load_backend(make_card(str(path)), options=CPU)
        assert backend.dtype == torch.float32
        assert backend.input_hw_fixed == (16, 24)
        logits = backend.infer(pixels.permute(0, 3, 1, 2).float() + 0.3).logits_BCHW
        assert logits is not None
        assert torch.equal(logits[:, :3], pixels.permute(0, 3, 1, 2).float())

    def test_fp16_file(
        self, network: torch.nn.Module, make_card: MakeCard, export_onnx: Export
    ) -> None:
        batch = torch.randn(1, 3, 32, 32)
        with torch.inference_mode():
            expected = network(batch)
        path = export_onnx(network.half(), batch.half())
        backend = load_backend(make_card(str(path)), options=CPU)
        assert backend.dtype == torch.float16
        logits = backend.infer(batch).logits_BCHW
        assert logits is not None
        torch.testing.assert_close(logits.float(), expected, atol=5e-3, rtol=5e-3)

    def test_forced_cuda_without_its_provider(
        self,
        network: torch.nn.Module,
        make_card: MakeCard,
        export_onnx: Export,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import onnxruntime

        card = make_card(str(export_onnx(network, EXAMPLE)))
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
        monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
        monkeypatch.setattr(
            onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider']
        )
        with pytest.raises(DeviceError, match='onnxruntime-gpu'):
            load_backend(card, options=RunOptions(device='cuda'))
        assert load_backend(card, options=RunOptions(device='auto')).device.type == 'cpu'

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='torch sees no CUDA device')
    def test_cuda_agrees_with_cpu(
        self, network: torch.nn.Module, make_card: MakeCard, export_onnx: Export
    ) -> None:
        onnxruntime = pytest.importorskip('onnxruntime')
        if 'CUDAExecutionProvider' not in onnxruntime.get_available_providers():
            pytest.skip('this onnxruntime has no CUDA provider')
        card = make_card(str(export_onnx(network, EXAMPLE)))
        on_cuda = load_backend(card, options=RunOptions(device='cuda'))
        actual = on_cuda.infer(EXAMPLE.to('cuda')).logits_BCHW
        expected = load_backend(card, options=CPU).infer(EXAMPLE).logits_BCHW
        assert actual is not None
        torch.testing.assert_close(actual.cpu(), expected, atol=1e-2, rtol=1e-2)


class TestTrust:
    def test_a_pt2_file_needs_trust(
        self, network: torch.nn.Module, make_card: MakeCard, export_pt2: Export
    ) -> None:
        path = export_pt2(network, EXAMPLE)
        with pytest.raises(WeightsError, match=r'can execute code.*trust_model_code'):
            load_backend(make_card(str(path)), options=CPU)

    @pytest.mark.filterwarnings('ignore')
    def test_because_torch_does_run_what_is_in_it(
        self,
        network: torch.nn.Module,
        make_card: MakeCard,
        export_pt2: Export,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        witness = tmp_path / 'witness'

        class Payload:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f'touch {witness}',)

        path, evil = export_pt2(network, EXAMPLE), tmp_path / 'evil.pt2'
        torch.save((Payload(),), tmp_path / 'payload')
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(evil, 'w') as altered:
            for name in whole.namelist():
                is_sample = 'sample_inputs' in name
                content = (tmp_path / 'payload').read_bytes() if is_sample else whole.read(name)
                altered.writestr(name, content)
        card = make_card(str(evil))
        with pytest.raises(WeightsError, match='refused'):
            load_backend(card, options=CPU)
        assert not witness.exists()
        # were it safe to load, the refusal would be needless: this is the evidence that it is not
        monkeypatch.setattr(logging, 'raiseExceptions', False)  # torch misformats its warning
        with contextlib.suppress(SegPerceptionError):
            load_backend(card, options=TRUSTED)
        assert witness.exists()
