"""Every engine gives the network's own logits, keeps what it made, and says what it lacks."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg_perception.backends import ENGINES, NETWORKS, RunOptions, load_backend, native_engine
from seg_perception.backends.engine_cache import EngineCache
from seg_perception.errors import (
    ConfigurationError,
    DeviceError,
    MissingExtraError,
    WeightsError,
)
from seg_perception.models import nets
from seg_perception.models.card import ModelCard, OutputSpec, WeightsSource
from seg_perception.models.input_spec import InputSpec
from seg_perception.structures import ClassTable

MakeCard = Callable[..., ModelCard]
NUM_CLASSES = 5
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    'U-Net': ('unet', {'base_channels': 4, 'num_stages': 3}),
    'SegNet': ('segnet', {'base_channels': 4}),
    'DeepLabV3': ('deeplabv3_mobilenetv2', {}),
    'DeepLabV3+': ('deeplabv3plus_mobilenetv2', {}),
}
LIBRARIES = {'onnxruntime': 'onnxruntime', 'openvino': 'openvino'}


def save_card(
    folder: Path, architecture: str, options: dict[str, Any]
) -> tuple[ModelCard, torch.nn.Module]:
    """A network with random weights as a file, its card, and the network itself."""
    from safetensors.torch import save_file

    torch.manual_seed(5)
    network = nets.build(architecture, NUM_CLASSES, **options).eval()
    for module in network.modules():  # as trained networks have them: none is the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    path = folder / f'{architecture}.safetensors'
    save_file(network.state_dict(), path)
    card = ModelCard(
        name=f'{architecture}.test',
        summary='',
        architecture=architecture,
        architecture_options=options,
        weights=WeightsSource(str(path)),
        input=InputSpec((64, 96), 'fit', 16),
        classes=ClassTable(tuple(f'class {i}' for i in range(NUM_CLASSES))),
        licence='Apache-2.0',
        source='test',
        output=OutputSpec('logits'),
    )
    return card, network


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[ModelCard, torch.nn.Module]:
    return save_card(tmp_path, 'unet', {'base_channels': 2, 'num_stages': 1})


def cpu(engine: Any, **options: Any) -> RunOptions:
    return RunOptions(device='cpu', engine=engine, num_threads=1, **options)


def assert_parity(
    card: ModelCard, network: torch.nn.Module, options: RunOptions, cache_dir: Path
) -> None:
    """The network's own logits at two sizes and batches."""
    backend = load_backend(card, options=options, cache_dir=cache_dir)
    assert backend.input_hw_fixed is None
    for shape in ((1, 3, 64, 96), (2, 3, 96, 64)):
        batch_B3HW = torch.randn(shape)
        with torch.inference_mode():
            expected_BCHW = network(batch_B3HW)
        actual_BCHW = backend.infer(batch_B3HW).logits_BCHW
        assert actual_BCHW is not None
        scale = float(expected_BCHW.abs().max())
        torch.testing.assert_close(actual_BCHW, expected_BCHW, atol=1e-4 * scale, rtol=1e-3)
    assert backend.description()['engine'] == options.engine
    backend.close()


@pytest.mark.parametrize('engine', ['eager', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('family', FAMILIES)
def test_each_family_on_each_engine_at_two_sizes(family: str, engine: str, tmp_path: Path) -> None:
    if engine in LIBRARIES:
        pytest.importorskip(LIBRARIES[engine], reason=f'{engine} is not installed')
    if engine == 'onnxruntime':
        pytest.importorskip('onnxscript', reason='the ONNX exporter (extra onnx) is not here')
    card, network = save_card(tmp_path, *FAMILIES[family])
    assert_parity(card, network, cpu(engine), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # torch's own, on import
@pytest.mark.parametrize(
    ('family', 'engine'),
    [
        # One in every run; the others with `-m long`.
        pytest.param(f, e, marks=[] if (f, e) == ('U-Net', 'compile') else [pytest.mark.long])
        for f in FAMILIES
        for e in ('compile', 'aot')
    ],
)
def test_each_family_compiled_at_two_sizes(
    family: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
    card, network = save_card(tmp_path, *FAMILIES[family])
    try:
        assert_parity(card, network, cpu(engine), tmp_path)
    finally:
        torch.compiler.reset()


class TestCache:
    @pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
    def test_what_an_engine_made_is_used_again(
        self, engine: str, tiny: tuple[ModelCard, torch.nn.Module], tmp_path: Path
    ) -> None:
        pytest.importorskip(LIBRARIES[engine], reason=f'{engine} is not installed')
        card, network = tiny
        remarks = []
        for _ in range(2):
            backend = load_backend(card, options=cpu(engine), cache_dir=tmp_path)
            remarks.append(backend.description()['cache'])
        assert remarks == ['made now', 'kept']
        [entry] = EngineCache(tmp_path).root.iterdir()
        [model] = entry.glob('model.onnx' if engine == 'onnxruntime' else 'model.bin')
        model.write_bytes(model.read_bytes()[:-100])
        assert_parity(card, network, cpu(engine), tmp_path)  # damaged: made anew

    def test_other_weights_are_another_entry(
        self, tiny: tuple[ModelCard, torch.nn.Module], tmp_path: Path
    ) -> None:
        pytest.importorskip('openvino', reason='openvino is not installed')
        from safetensors.torch import save_file

        card, network = tiny
        load_backend(card, options=cpu('openvino'), cache_dir=tmp_path)
        with torch.no_grad():
            next(network.parameters()).add_(0.5)
        save_file(network.state_dict(), card.weights.uri)
        assert_parity(card, network, cpu('openvino'), tmp_path)
        assert len(list(EngineCache(tmp_path).root.iterdir())) == 2

    def test_a_cache_that_cannot_be_written_is_told_of(
        self, tiny: tuple[ModelCard, torch.nn.Module], tmp_path: Path
    ) -> None:
        pytest.importorskip('openvino', reason='openvino is not installed')
        card, network = tiny
        (tmp_path / 'engines').write_text('in the way')
        backend = load_backend(card, options=cpu('openvino'), cache_dir=tmp_path)
        assert 'cannot be written' in backend.description()['cache']
        assert_parity(card, network, cpu('openvino'), tmp_path)

    @pytest.mark.slow
    @pytest.mark.filterwarnings('ignore::DeprecationWarning')  # torch's own, on import
    def test_a_compiled_package_needs_no_compiler(
        self,
        tiny: tuple[ModelCard, torch.nn.Module],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
        card, network = tiny
        assert_parity(card, network, cpu('aot'), tmp_path)
        monkeypatch.setenv('PATH', '/nowhere')
        monkeypatch.delenv('CXX', raising=False)
        assert_parity(card, network, cpu('aot'), tmp_path)
        [entry] = EngineCache(tmp_path).root.iterdir()
        (entry / 'model.pt2').write_bytes(b'no package')
        with pytest.raises(ConfigurationError, match=r'C\+\+ compiler'):
            load_backend(card, options=cpu('aot'), cache_dir=tmp_path)


class TestPrecision:
    def test_bf16_on_openvino(
        self, tiny: tuple[ModelCard, torch.nn.Module], tmp_path: Path
    ) -> None:
        openvino = pytest.importorskip('openvino', reason='openvino is not installed')
        card, network = tiny
        if 'BF16' not in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
            with pytest.raises(DeviceError, match='AVX512-BF16'):
                load_backend(card, options=cpu('openvino', precision='bf16'), cache_dir=tmp_path)
            return
        exact = load_backend(card, options=cpu('openvino'), cache_dir=tmp_path)
        rounded = load_backend(card, options=cpu('openvino', precision='bf16'), cache_dir=tmp_path)
        assert exact.description()['precision'] == 'fp32'
        assert rounded.description()['precision'] == 'bf16'
        batch_B3HW = torch.randn(1, 3, 64, 96)
        with torch.inference_mode():
            expected_BCHW = network(batch_B3HW)
        actual_BCHW = rounded.infer(batch_B3HW).logits_BCHW
        assert actual_BCHW is not None
        assert float((actual_BCHW - expected_BCHW).abs().mean()) < 0.02
        assert not torch.equal(actual_BCHW, exact.infer(batch_B3HW).logits_BCHW)

    @pytest.mark.parametrize(
        ('engine', 'precision'), [('openvino', 'fp16'), ('onnxruntime', 'bf16')]
    )
    def test_what_an_engine_does_not_have(
        self,
        engine: str,
        precision: Any,
        tiny: tuple[ModelCard, torch.nn.Module],
        tmp_path: Path,
    ) -> None:
        pytest.importorskip(LIBRARIES[engine], reason=f'{engine} is not installed')
        with pytest.raises(DeviceError, match=f'precision: .*got {precision}'):
            load_backend(tiny[0], options=cpu(engine, precision=precision), cache_dir=tmp_path)


class TestTable:
    def test_every_engine_is_named_as_users_name_it(self) -> None:
        from typing import get_args

        from seg_perception.backends import EngineName

        assert set(ENGINES) | {'auto', 'native'} == set(get_args(EngineName))
        for engine in ENGINES.values():
            assert engine.summary
            formats = [f for f in (*NETWORKS, 'onnx', 'tflite', 'triton') if engine.runs(f)]
            assert formats
        assert native_engine('safetensors').name == 'eager'

    @pytest.mark.parametrize(
        ('engine', 'module', 'extra'),
        [
            ('onnxruntime', 'onnxruntime', 'onnx'),
            ('tensorrt', 'onnxruntime', 'onnx'),
            ('openvino', 'openvino', 'openvino'),
        ],
    )
    def test_a_forced_engine_that_is_missing_names_its_extra(
        self,
        engine: Any,
        module: str,
        extra: str,
        tiny: tuple[ModelCard, torch.nn.Module],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        real_find = importlib.util.find_spec

        def not_found(name: str, *args: Any) -> Any:
            return None if name == module else real_find(name, *args)

        monkeypatch.setattr(importlib.util, 'find_spec', not_found)
        assert f'seg_perception[{extra}]' in ENGINES[engine].missing
        with pytest.raises(MissingExtraError, match=rf'seg_perception\[{extra}\]'):
            load_backend(tiny[0], options=cpu(engine))

    def test_tensorrt_says_what_it_needs(
        self, tiny: tuple[ModelCard, torch.nn.Module], tmp_path: Path
    ) -> None:
        onnxruntime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
        if 'TensorrtExecutionProvider' in onnxruntime.get_available_providers():
            pytest.skip('this onnxruntime has TensorRT')
        with pytest.raises(DeviceError, match=r'onnxruntime-gpu and tensorrt'):
            load_backend(tiny[0], options=cpu('tensorrt'), cache_dir=tmp_path)

    @pytest.mark.parametrize('engine', ['litert', 'cuda_graph'])
    def test_an_engine_that_cannot_run_the_model(
        self, engine: Any, tiny: tuple[ModelCard, torch.nn.Module]
    ) -> None:
        with pytest.raises(ConfigurationError, match=r'engine: .*expect.*'):
            load_backend(tiny[0], options=cpu(engine))


class TestOpenVino:
    @pytest.fixture(autouse=True)
    def needs_openvino(self) -> None:
        pytest.importorskip('openvino', reason='openvino is not installed')

    def test_an_onnx_file(
        self, network: torch.nn.Module, make_card: MakeCard, export_onnx: Any
    ) -> None:
        path = export_onnx(network, torch.zeros(2, 3, 64, 96), dynamic=True)
        backend = load_backend(make_card(str(path)), options=cpu('openvino'))
        batch_B3HW = torch.randn(3, 3, 40, 56)
        backend.warm_up((40, 56), 3)
        with torch.inference_mode():
            expected_BCHW = network(batch_B3HW)
        actual_BCHW = backend.infer(batch_B3HW).logits_BCHW
        torch.testing.assert_close(actual_BCHW, expected_BCHW, atol=1e-5, rtol=1e-4)

    def test_a_quantised_tflite_file_is_litert_s(self, make_card: MakeCard) -> None:
        data = Path(__file__).parents[3] / 'shared' / 'data' / 'weights'
        path = data / 'ade20k31' / 'deeplabv3_mnv2_ade20k_int8.tflite'
        if not path.is_file():
            pytest.skip('../shared/data/weights is not here')
        with pytest.raises(WeightsError, match="use engine 'litert'"):
            load_backend(make_card(str(path), 32, 'labels'), options=cpu('openvino'))

    @pytest.mark.parametrize(
        'content', [b'', b'no model at all', bytes(2000)], ids=['empty', 'text', 'zeros']
    )
    def test_damaged_files(self, content: bytes, make_card: MakeCard, tmp_path: Path) -> None:
        path = tmp_path / 'small.onnx'
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r'small\.onnx'):
            load_backend(make_card(str(path)), options=cpu('openvino'))

    def test_only_on_the_cpu(
        self, tiny: tuple[ModelCard, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
        monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
        with pytest.raises(DeviceError, match='runs on the CPU'):
            load_backend(tiny[0], options=RunOptions(device='cuda', engine='openvino'))
