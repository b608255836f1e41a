"""Torch networks run as their options say, and give what the plain network gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from seg_perception.backends import (
    ENGINES,
    RunOptions,
    load_backend,
    native_engine,
    select_device,
    torch_eager,
)
from seg_perception.backends.devices import select_dtype
from seg_perception.backends.torch_eager import TorchBackend
from seg_perception.errors import (
    ConfigurationError,
    DeviceError,
    InferenceError,
    WeightsError,
)
from seg_perception.models import DEFAULT_MODEL, nets, resolve
from seg_perception.models.card import FORMAT_BY_SUFFIX, ModelCard

CPU = RunOptions(device='cpu')
MakeCard = Callable[..., ModelCard]


@pytest.mark.parametrize('hw', [(64, 96), (33, 47)])
@pytest.mark.parametrize('channels_last', ['on', 'off'])
def test_equals_the_plain_network(
    network: torch.nn.Module, make_card: MakeCard, hw: tuple[int, int], channels_last: Any
) -> None:
    batch = torch.randn(2, 3, *hw)
    with torch.inference_mode():
        expected = network(batch)
    options = RunOptions(device='cpu', channels_last=channels_last, num_threads=1)
    backend = TorchBackend(network, make_card(), options)
    assert backend.channels_last is (channels_last == 'on')
    output = backend.infer(batch)
    assert output.labels_BHW is None
    assert not output.is_probabilities
    torch.testing.assert_close(output.logits_BCHW, expected)


def test_bf16_is_close_and_takes_any_input_precision(
    network: torch.nn.Module, make_card: MakeCard
) -> None:
    batch = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = network(batch)
    backend = TorchBackend(network, make_card(), RunOptions(device='cpu', precision='bf16'))
    assert backend.dtype == torch.bfloat16
    output = backend.infer(batch).logits_BCHW
    assert output is not None
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # torch's own, on import
def test_compiled_network_agrees(
    make_card: MakeCard, tmp_path_factory: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path_factory.mktemp('inductor')))
    # one small layer: a compilation takes many seconds on a busy machine
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.Sigmoid())
    eager = TorchBackend(network, make_card(), CPU)
    backend = TorchBackend(network, make_card(), CPU, torch_eager.as_compiled)
    batch = torch.randn(1, 3, 32, 48)
    backend.warm_up((32, 48))
    torch.testing.assert_close(backend.infer(batch).logits_BCHW, eager.infer(batch).logits_BCHW)
    torch.compiler.reset()


def test_compile_without_a_compiler(
    network: torch.nn.Module, make_card: MakeCard, monkeypatch: Any
) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(ConfigurationError, match=r'C\+\+ compiler.*apt install'):
        TorchBackend(network, make_card(), CPU, torch_eager.as_compiled)


@pytest.mark.parametrize(
    ('batch', 'expected'),
    [
        (torch.zeros(3, 8, 8), r'shape \(B, 3, H, W\)'),
        (torch.zeros(1, 4, 8, 8), r'\(1, 4, 8, 8\)'),
        (torch.zeros(0, 3, 8, 8), r'\(0, 3, 8, 8\)'),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 'torch.uint8'),
        (torch.zeros(1, 3, 8, 8, device='meta'), 'on cpu, got meta'),
    ],
)
def test_bad_batches(
    network: torch.nn.Module, make_card: MakeCard, batch: torch.Tensor, expected: str
) -> None:
    with pytest.raises(InferenceError, match=expected):
        TorchBackend(network, make_card(), CPU).infer(batch)


def test_a_failing_network_and_a_wrong_class_count(
    network: torch.nn.Module, make_card: MakeCard
) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError('tried to allocate 3 GiB\nmore')

    backend = TorchBackend(Broken(), make_card(), CPU)
    with pytest.raises(InferenceError, match=r'out of device memory.*smaller input size'):
        backend.infer(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InferenceError, match=r'failed on a batch of \(1, 3, 8, 8\): RuntimeError'):
        TorchBackend(torch.nn.Conv2d(3, 5, 11), make_card(), CPU).infer(torch.zeros(1, 3, 8, 8))


def test_close_refuses_further_work(network: torch.nn.Module, make_card: MakeCard) -> None:
    backend = TorchBackend(network, make_card(), CPU)
    backend.close()
    backend.close()
    with pytest.raises(InferenceError, match='closed'):
        backend.infer(torch.zeros(1, 3, 8, 8))


def test_captured_graphs_are_freed_with_the_caches(
    network: torch.nn.Module, make_card: MakeCard
) -> None:
    graphs = torch_eager.CudaGraphs(network)

    def prepare(network: torch.nn.Module, placement: torch_eager.Placement) -> Any:
        return torch_eager.Prepared(graphs)

    backend = TorchBackend(network, make_card(), CPU, prepare)
    graphs._captured[1, 3, 8, 8] = ('graph', torch.zeros(1), ())  # type: ignore[assignment]
    graphs._pool = (0, 1)
    backend.free_caches()
    assert not graphs._captured
    assert graphs._pool is None  # torch takes no new graph into the pool of those that are gone
    TorchBackend(network, make_card(), CPU).free_caches()  # nothing to free


def test_threads_are_set_in_the_thread_that_works(
    network: torch.nn.Module, make_card: MakeCard
) -> None:
    before = torch.get_num_threads()
    backend = TorchBackend(network, make_card(), RunOptions(device='cpu', num_threads=3))
    seen: list[int] = []

    def work() -> None:
        backend.infer(torch.zeros(1, 3, 8, 8))
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert seen == [3]
    assert backend.description()['num_threads'] == '3'


class TestDefaultModel:
    """The embedded model, from its card to logits."""

    def test_loads_and_runs_at_two_sizes(self) -> None:
        card = resolve(DEFAULT_MODEL)
        backend = load_backend(card, options=RunOptions(device='cpu', num_threads=1))
        for hw in ((128, 160), (65, 97)):
            backend.warm_up(hw)
            logits = backend.infer(torch.zeros(2, 3, *hw)).logits_BCHW
            assert logits is not None
            assert logits.shape[:2] == (2, 21)
            assert bool(logits.isfinite().all())
        assert backend.input_hw_fixed is None
        assert backend.max_batch is None
        assert int(backend.description()['num_parameters']) > 2_000_000
        backend.close()

    def test_weights_of_another_architecture_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        card = resolve(DEFAULT_MODEL)
        monkeypatch.setattr(nets, 'build', lambda *a, **k: torch.nn.Conv2d(3, 21, 1))
        with pytest.raises(WeightsError, match=r'tensors of Conv2d.* 2 missing: weight, bias'):
            load_backend(card, options=CPU)


def test_every_format_has_an_engine() -> None:
    for weights_format in FORMAT_BY_SUFFIX.values():
        assert any(engine.runs(weights_format) for engine in ENGINES.values())
        assert native_engine(weights_format).runs(weights_format)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'precision': 'fp8'}, 'precision: expected one of auto, fp32, fp16, bf16, int8'),
        ({'engine': 'tvm'}, 'engine: expected one of auto, native, eager'),
        ({'channels_last': True}, 'channels_last: expected one of auto, on, off'),
        ({'num_threads': -1}, 'num_threads'),
    ],
)
def test_options_are_checked(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        RunOptions(**options)


class TestDevice:
    @pytest.mark.parametrize('name', ['gpu', 'cuda:', 'cuda:-1', 'CPU', '', 'mps'])
    def test_unknown_names(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match='auto, cpu, cuda or cuda:N'):
            select_device(name)

    @pytest.mark.parametrize('name', ['cuda', 'cuda:0', 'cuda:2'])
    def test_cuda_is_never_replaced(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        assert select_device('auto') == torch.device('cpu')
        with pytest.raises(DeviceError, match='sees no CUDA device') as caught:
            select_device(name)
        assert name in str(caught.value)
        assert torch.__version__ in str(caught.value)

    def test_a_device_number_too_high(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
        monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: f'card {index}')
        assert select_device('auto') == torch.device('cuda', 0)
        assert select_device('cuda:1') == torch.device('cuda', 1)
        with pytest.raises(DeviceError, match=r'cuda:1 \(card 1\); use cuda:0 to cuda:1'):
            select_device('cuda:2')

    @pytest.mark.parametrize(
        ('capability', 'precision', 'expected'),
        [
            (None, 'auto', torch.float32),
            (None, 'bf16', torch.bfloat16),
            (None, 'fp16', None),
            (None, 'int8', None),
            ((6, 1), 'auto', torch.float32),
            ((6, 1), 'fp16', torch.float16),
            ((7, 0), 'auto', torch.float16),
            ((7, 5), 'bf16', None),
            ((8, 0), 'bf16', torch.bfloat16),
            ((9, 0), 'fp32', torch.float32),
        ],
    )
    def test_precision_by_device(
        self,
        capability: tuple[int, int] | None,
        precision: Any,
        expected: torch.dtype | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'card')
        device = torch.device('cpu' if capability is None else 'cuda:0')
        if expected is None:
            with pytest.raises(DeviceError, match=precision):
                select_dtype(device, RunOptions(precision=precision))
        else:
            assert select_dtype(device, RunOptions(precision=precision)) == expected

    def test_cuda_graphs_need_cuda(self, network: torch.nn.Module, make_card: MakeCard) -> None:
        with pytest.raises(ConfigurationError, match='cuda_graph'):
            TorchBackend(network, make_card(), CPU, torch_eager.as_cuda_graph)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch sees no CUDA device')
class TestCuda:
    @pytest.mark.parametrize('engine', ['eager', 'cuda_graph'])
    @pytest.mark.parametrize(('precision', 'tolerance'), [('fp32', 1e-3), ('auto', 3e-2)])
    def test_agrees_with_the_cpu_at_two_sizes(
        self, engine: Any, precision: Any, tolerance: float
    ) -> None:
        card = resolve(DEFAULT_MODEL)
        on_cpu = load_backend(card, options=CPU)
        options = RunOptions(device='cuda', precision=precision, engine=engine)
        on_cuda = load_backend(card, options=options)
        for hw in ((128, 160), (256, 192)):
            on_cuda.warm_up(hw)
            for _ in range(2):  # a replay has to take the new input
                batch = torch.randn(1, 3, *hw)
                expected = on_cpu.infer(batch).logits_BCHW
                actual = on_cuda.infer(batch.to('cuda')).logits_BCHW
                assert expected is not None
                assert actual is not None
                error = (actual.float().cpu() - expected).abs().max() / expected.abs().max()
                assert float(error) < tolerance

    def test_shapes_beyond_the_bound_run_without_a_graph(
        self, network: torch.nn.Module, make_card: MakeCard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch_eager, 'MAX_CUDA_GRAPHS', 1)
        options = RunOptions(device='cuda', precision='fp32')
        backend = TorchBackend(network, make_card(), options, torch_eager.as_cuda_graph)
        for side in (32, 64, 32):
            logits = backend.infer(torch.ones(1, 3, side, side, device='cuda')).logits_BCHW
            assert logits is not None
            assert logits.shape[2] == side // 2

    def test_close_frees_device_memory(self) -> None:
        before = torch.cuda.memory_allocated()
        backend = load_backend(resolve(DEFAULT_MODEL), options=RunOptions(device='cuda'))
        backend.warm_up((128, 128))
        assert torch.cuda.memory_allocated() > before
        backend.close()
        assert torch.cuda.memory_allocated() <= before
