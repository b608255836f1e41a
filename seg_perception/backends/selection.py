"""``engine: auto``: the quickest engine that is here and agrees, measured once and kept.

B batch, H/W network input.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from seg_perception.backends.agreement import agreement
from seg_perception.backends.devices import select_device
from seg_perception.backends.engine_cache import EngineCache
from seg_perception.backends.engines import ENGINES, is_compiled, native_engine
from seg_perception.backends.model_facts import library_versions, machine_facts, model_facts
from seg_perception.backends.protocol import Backend, EngineName, ModelOutput, RunOptions
from seg_perception.errors import DeviceError, SegPerceptionError
from seg_perception.models.card import ModelCard

BUDGET_S = 30.0
"""No further engine is tried after this time; loading one may export the network for seconds."""
MIN_AGREEMENT = 0.99
"""Share of labels that an engine must have in common with the native one, same precision."""
MIN_GAIN = 1.1
"""How much quicker than the native engine another one must be to be worth another rounding."""

_ROUNDS = 3
_RUNS_PER_ROUND = 4
_MEASURE_S = 6.0

# In the order of trying. Without those that compile for minutes (tensorrt, aot unless its package
# is in the cache already) or at every start (compile).
_ON_CPU: tuple[EngineName, ...] = ('openvino', 'onnxruntime', 'litert')
_ON_CUDA: tuple[EngineName, ...] = ('cuda_graph', 'onnxruntime')


@dataclass(frozen=True, slots=True)
class Trial:
    """How an engine did.

    Attributes:
        ms: of the quickest run; None where there was none.
        problem: why it cannot be chosen, '' where it can.
    """

    ms: float | None
    problem: str = ''

    def text(self, name: str) -> str:
        """For people: ``openvino 22 ms``."""
        if self.ms is None:
            return f'{name} {self.problem}'
        return f'{name} {self.ms:.{0 if self.ms >= 10 else 1}f} ms'


class ChosenBackend:
    """A backend that also says why it was chosen.

    Calls and reads go to the backend; what is assigned here would not.

    Args:
        backend: does everything else.
        why: for people.
    """

    def __init__(self, backend: Backend, why: str) -> None:
        self._backend = backend
        self._why = why

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def description(self) -> dict[str, str]:
        """See `Backend.description`."""
        return {**self._backend.description(), 'chosen': self._why}


def load_quickest(card: ModelCard, path: Path, options: RunOptions, cache: EngineCache) -> Backend:
    """Loads a model on the engine that was, or now turns out to be, the quickest.

    The choice is kept in the cache for this machine, model, precision, thread count and these
    versions of the engines; later starts load the chosen engine and nothing else. Where a choice
    cannot be kept, nothing is measured and the native engine runs, so that a machine does not
    choose anew, and perhaps otherwise, at every start.

    Raises:
        SegPerceptionError: the native engine cannot load the model.
    """
    native = native_engine(card.weights.format)
    names = candidates(card, path, options, cache)
    if len(names) == 1:
        why = f'{native.name} is the only engine here for {card.weights.format} models'
        return _chosen(_load(native.name, card, path, options, cache), why)
    facts = _facts(card, path, options, names)
    entry = cache.find(_entry_name(card), facts)
    if entry is not None:
        try:
            backend = _load(entry.notes['engine'], card, path, options, cache)
        except SegPerceptionError:
            cache.forget(entry)  # what it needs has gone since; find out anew
        else:
            return _chosen(backend, f'{entry.notes["why"]}, as measured before')
    if problem := cache.problem():
        why = f'{native.name}, unmeasured, because a choice could not be kept: {problem}'
        return _chosen(_load(native.name, card, path, options, cache), why)
    backend, why = _measure(names, card, path, options, cache)
    notes = {'engine': backend.description()['engine'], 'why': why}
    cache.entry(_entry_name(card), facts, lambda folder: notes)
    return _chosen(backend, why)


def candidates(
    card: ModelCard, path: Path, options: RunOptions, cache: EngineCache
) -> list[EngineName]:
    """The engines that may be chosen, the native one first."""
    weights_format = card.weights.format
    names = [native_engine(weights_format).name]
    if card.output.is_asked:  # there is no picture to measure it with that asks for nothing
        return names
    is_cuda = select_device(options.device).type == 'cuda'
    for name in _ON_CUDA if is_cuda else _ON_CPU:
        engine = ENGINES[name]
        if name not in names and engine.runs(weights_format) and not engine.missing:
            names.append(name)
    if is_compiled(card, path, options, cache):
        names.append('aot')
    return names


def _measure(
    names: list[EngineName],
    card: ModelCard,
    path: Path,
    options: RunOptions,
    cache: EngineCache,
) -> tuple[Backend, str]:
    """Loads all candidates, compares and times them by turns; the best one, and why."""
    start_s = time.monotonic()
    loaded: dict[str, Backend] = {names[0]: _load(names[0], card, path, options, cache)}
    batch_B3HW = _picture(card, loaded[names[0]])
    trials: dict[str, Trial] = {}
    reference = _copied(loaded[names[0]].infer(batch_B3HW))
    for name in names[1:]:
        if time.monotonic() - start_s > BUDGET_S:
            trials[name] = Trial(None, 'no time left')
            continue
        try:
            backend = _load(name, card, path, options, cache)
            if backend.input_hw_fixed not in (None, tuple(batch_B3HW.shape[2:])):
                trials[name] = Trial(None, 'takes one input size only')
                backend.close()
                continue
            same = agreement(backend.infer(batch_B3HW.to(backend.dtype)), reference)
        except DeviceError:
            trials[name] = Trial(None, f'not in precision {options.precision}')
            continue
        except SegPerceptionError as error:
            trials[name] = Trial(None, f'failed: {str(error)[:80]}')
            continue
        if same < MIN_AGREEMENT:
            trials[name] = Trial(None, f'agrees on {same:.1%} of the labels only')
            backend.close()
            continue
        loaded[name] = backend
    trials |= {name: Trial(ms) for name, ms in _timed(loaded, batch_B3HW).items()}
    best = _best(trials, names[0])
    for other in loaded.keys() - {best}:
        loaded[other].close()
    others = [name for name in names if name != best]
    return loaded[best], ', '.join(trials[name].text(name) for name in (best, *others))


def _timed(loaded: Mapping[str, Backend], batch_B3HW: torch.Tensor) -> dict[str, float]:
    """Milliseconds of the quickest run of each: what it can do when nothing is in its way."""
    best_ms = dict.fromkeys(loaded, float('inf'))
    deadline_s = time.monotonic() + _MEASURE_S
    for turn in range(_ROUNDS):
        if turn and time.monotonic() > deadline_s:
            break
        for name, backend in loaded.items():
            batch = batch_B3HW.to(backend.dtype)
            for run in range(_RUNS_PER_ROUND):
                start_s = time.perf_counter()
                backend.infer(batch)
                if backend.device.type == 'cuda':
                    torch.cuda.synchronize(backend.device)
                elapsed_ms = (time.perf_counter() - start_s) * 1e3
                if run:  # the first one finds the threads of the engine before it
                    best_ms[name] = min(best_ms[name], elapsed_ms)
    return best_ms


def _best(trials: Mapping[str, Trial], native: str) -> str:
    native_ms = trials[native].ms
    assert native_ms is not None
    times_ms = {name: trial.ms for name, trial in trials.items() if trial.ms is not None}
    best = min(times_ms, key=lambda name: times_ms[name])
    return best if times_ms[best] * MIN_GAIN <= native_ms else native


def _load(
    name: EngineName, card: ModelCard, path: Path, options: RunOptions, cache: EngineCache
) -> Backend:
    engine = ENGINES[name]
    engine.require()
    return engine.load(card, path, dataclasses.replace(options, engine=name), cache)


def _chosen(backend: Backend, why: str) -> Backend:
    return cast(Backend, ChosenBackend(backend, why))


def _entry_name(card: ModelCard) -> str:
    return f'{card.name}-auto'


def _facts(
    card: ModelCard, path: Path, options: RunOptions, names: list[EngineName]
) -> dict[str, object]:
    return {
        **model_facts(card, path, None),
        **machine_facts(select_device(options.device)),
        'versions': library_versions(
            'seg_perception', 'torch', 'onnxruntime', 'onnxruntime-gpu', 'openvino',
            'ai-edge-litert',
        ),
        'device': str(select_device(options.device)),
        'precision': options.precision,
        'num_threads': options.num_threads or torch.get_num_threads(),
        'channels_last': options.channels_last,
        'candidates': names,
    }  # fmt: skip


def _picture(card: ModelCard, backend: Backend) -> torch.Tensor:
    """One image of the model's input size with smooth regions and a camera's noise, (1, 3, H, W).

    Noise alone would ask for labels that nothing decides.
    """
    generator = torch.Generator().manual_seed(0)
    input_hw = backend.input_hw_fixed or card.input.size_hw
    coarse = torch.rand(1, 3, 6, 8, generator=generator) * 255
    pixels_B3HW = torch.nn.functional.interpolate(coarse, input_hw, mode='bicubic')
    pixels_B3HW += 4 * torch.randn(pixels_B3HW.shape, generator=generator)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (card.input.mean_rgb, card.input.std_rgb)
    )
    batch_B3HW = (pixels_B3HW.clamp(0, 255) - mean) / std
    return batch_B3HW.to(backend.device, backend.dtype)


def _copied(output: ModelOutput) -> ModelOutput:
    """The same, in memory of its own: another engine may use the same buffers."""

    def copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.cpu().clone()

    if output.instances is not None:
        return output
    return ModelOutput(
        logits_BCHW=copy(output.logits_BCHW),
        labels_BHW=copy(output.labels_BHW),
        is_probabilities=output.is_probabilities,
    )
