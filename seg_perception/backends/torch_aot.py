"""Torch networks compiled ahead of time: ``torch.export``, then AOTInductor, kept in the cache.

Compiling takes up to minutes and a C++ compiler, once per machine, model, precision and torch;
later starts load a shared library in milliseconds.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from seg_perception.backends.engine_cache import CacheEntry, EngineCache
from seg_perception.backends.exporting import (
    WITHOUT_EXPORT,
    example_batch,
    export_program,
    fixed_sides,
)
from seg_perception.backends.failures import one_line
from seg_perception.backends.model_facts import machine_facts, model_facts, source_hash
from seg_perception.backends.torch_eager import Network, Placement, Prepared, require_compiler
from seg_perception.errors import ModelError
from seg_perception.models.card import ModelCard

_PACKAGE = 'model.pt2'


def package_name(card: ModelCard) -> str:
    """What a model's packages are called in the cache."""
    return f'{card.name}-aot'


class AheadCompiler:
    """Makes compiled packages of a model's network; `prepare` is for `TorchBackend`.

    Args:
        card: the model's.
        path: of its weights.
        cache: where packages are kept.
    """

    def __init__(self, card: ModelCard, path: Path, cache: EngineCache) -> None:
        self._card = card
        self._path = path
        self._cache = cache
        self._name = package_name(card)

    def is_cached(self, network: torch.nn.Module, placement: Placement) -> bool:
        """Whether `prepare` would find the package compiled."""
        return self._cache.find(self._name, self._facts(network, placement)) is not None

    def prepare(self, network: torch.nn.Module, placement: Placement) -> Prepared:
        """The network's package, compiled where the cache has none.

        Raises:
            ConfigurationError: there is nothing in the cache and no C++ compiler.
            ModelError: the network cannot be exported or compiled.
        """
        facts = self._facts(network, placement)
        entry = self._cache.find(self._name, facts)
        run = _opened(entry) if entry else None
        if entry and run is None:  # whole, and yet this torch cannot open it
            self._cache.forget(entry)
        if run is None or entry is None:
            require_compiler()
            entry = self._cache.entry(
                self._name, facts, lambda folder: self._compile(network, placement, folder)
            )
            run = _opened(entry)
        if run is None:
            raise ModelError(
                f'{self._card.name}: torch cannot open the package that it has compiled; use '
                f'another engine'
            )
        fixed = entry.notes['input_hw_fixed']
        input_hw_fixed = (int(fixed[0]), int(fixed[1])) if fixed else None
        return Prepared(run, input_hw_fixed, entry.notes['batch_fixed'], entry.remark)

    def _facts(self, network: torch.nn.Module, placement: Placement) -> dict[str, object]:
        return {
            **model_facts(self._card, self._path, network),
            **machine_facts(placement.device),
            'maker': source_hash(__name__, export_program.__module__),
            'device': str(placement.device),
            'dtype': str(placement.dtype),
            'channels_last': placement.channels_last,
        }

    def _compile(
        self, network: torch.nn.Module, placement: Placement, folder: Path
    ) -> dict[str, Any]:
        name = self._card.name
        example = example_batch(self._card, network, placement.device, placement.dtype)
        example = example.contiguous(memory_format=placement.layout)
        program = export_program(network, example, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                import torch._inductor as inductor

                inductor.aoti_compile_and_package(program, package_path=str(folder / _PACKAGE))
        except Exception as error:
            raise ModelError(
                f'{name}: AOTInductor failed: {type(error).__name__}: {one_line(error)}; '
                f'{WITHOUT_EXPORT}'
            ) from error
        input_hw_fixed, batch_fixed = fixed_sides(program, example)
        return {'input_hw_fixed': input_hw_fixed, 'batch_fixed': batch_fixed}


def _opened(entry: CacheEntry) -> Network | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            import torch._inductor as inductor

            package: Network = inductor.aoti_load_package(str(entry.folder / _PACKAGE))
    except Exception:
        return None
    return package
