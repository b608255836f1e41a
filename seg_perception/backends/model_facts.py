"""What decides the content of a file that is made of a model: the key of the caches.

A file made of a model is stale when its weights, the code of its network, the libraries that
made it or the machine that it was made for have changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import platform
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from seg_perception.models.card import ModelCard
from seg_perception.models.hub import shard_names
from seg_perception.models.weights import sha256_of

_WITH_CONFIG = ('transformers', 'smp')
"""Formats whose networks are built as a ``config.json`` beside the weights says."""


def model_facts(card: ModelCard, path: Path, network: torch.nn.Module | None) -> dict[str, object]:
    """Facts of the model alone.

    Args:
        card: the model's.
        path: of its weights, a file or a folder.
        network: made of them; None where a library reads the file itself.
    """
    facts: dict[str, object] = {
        'weights': _weights_facts(card, path),
        'format': card.weights.format,
        'key_map': dict(card.weights.key_map),
        'drop_prefixes': card.weights.drop_prefixes,
        'architecture': card.architecture,
        'architecture_options': dict(card.architecture_options),
        'num_classes': len(card.classes),
        'output': (card.output.kind, card.output.options.task),  # some networks are told the task
        'size_hw': card.input.size_hw,
    }
    if network is not None:
        facts['code'] = _code_of(network)
    return facts


def _weights_facts(card: ModelCard, path: Path) -> object:
    """What tells the weights apart, with what lies beside them and says what is built of them."""
    if not path.is_file():
        return _files_of(path)
    files = [path]
    if path.name.endswith('.index.json'):
        files += [path.parent / name for name in shard_names(path)]
    if card.weights.format in _WITH_CONFIG:
        files.append(path.parent / 'config.json')
    return {file.name: sha256_of(file) for file in files if file.is_file()}


def _files_of(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of the files of a model that is a folder."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    stats = [(path, path.stat()) for path in files]
    return [(str(path.relative_to(folder)), s.st_size, s.st_mtime_ns) for path, s in stats]


def machine_facts(device: torch.device) -> dict[str, object]:
    """Facts of the processor that a model is compiled for or measured on."""
    facts: dict[str, object] = {'cpu': cpu_name(), 'system': platform.machine()}
    if device.type == 'cuda':
        facts['gpu'] = torch.cuda.get_device_name(device)
        facts['cuda'] = torch.version.cuda
    return facts


@cache
def cpu_name() -> str:
    """The processor's name and what it can do, as one line that differs where code must."""
    text = ''
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().split('\n\n')[0].splitlines()
        wanted = ('model name', 'flags', 'Features', 'CPU part')
        text = '\n'.join(line for line in lines if line.startswith(wanted))
    named = [line for line in text.splitlines() if line.startswith('model name')]
    name = named[0].partition(':')[2].strip() if named else platform.processor() or 'CPU'
    return f'{name} ({hashlib.sha256(text.encode()).hexdigest()[:8]})'


def library_versions(*distributions: str) -> dict[str, str]:
    """Versions of installed distributions; those that are not there are left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _code_of(network: torch.nn.Module) -> dict[str, str]:
    """The code that a network is made of: versions of libraries, a hash of our own files."""
    modules = {type(module).__module__ for module in network.modules()}
    own = [name for name in modules if name.startswith('seg_perception.')]
    others = sorted({name.partition('.')[0] for name in modules} - {'seg_perception', 'torch'})
    code = {'torch': torch.__version__, **_versions_of(others)}
    code['networks'] = source_hash(*own)
    return code


def source_hash(*modules: str) -> str:
    """One hash of the sources of imported modules, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        source = inspect.getsourcefile(sys.modules[name])
        digest.update(Path(source).read_bytes() if source else name.encode())
    return digest.hexdigest()


def _versions_of(modules: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in modules:
        version = getattr(sys.modules.get(name), '__version__', None)
        versions[name] = str(version)
    return versions
