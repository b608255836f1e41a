"""The state of a training run in one file that is always whole.

A checkpoint is a safetensors file: tensors of the network, the optimizer, the moving average and
the random generators, and everything else as JSON in its header. Nothing in it is code. It is
written beside the old one and takes its place in one step, so a run killed at any moment leaves
the old or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from seg_perception.errors import WeightsError
from seg_perception.whole_file import write_whole

FORMAT_VERSION = 1
_HEADER = 'seg_perception_checkpoint'


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file that appears only when it is complete and on the disk.

    Raises:
        WeightsError: it cannot be written.
    """
    from safetensors.torch import save

    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_whole(path, save(plain, dict(metadata) if metadata else None))


def save_checkpoint(
    path: Path, groups: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]
) -> None:
    """Writes a checkpoint.

    Args:
        path: where to.
        groups: tensors by name, by what they belong to (no '/' in the latter).
        state: plain values that JSON can hold; floats come back bit for bit.

    Raises:
        WeightsError: it cannot be written.
    """
    tensors = {
        f'{group}/{name}': t for group, named in groups.items() for name, t in named.items()
    }
    header = json.dumps({'version': FORMAT_VERSION, 'groups': sorted(groups), **state})
    save_tensors(path, tensors, {_HEADER: header})


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Reads what `save_checkpoint` has written.

    Raises:
        WeightsError: there is none, or it is another kind of file, truncated or altered.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f'{path}: expected a checkpoint to resume from, found none')
    try:
        with safe_open(path, 'pt') as stream:
            header = (stream.metadata() or {}).get(_HEADER)
            if header is None:
                raise WeightsError(f'{path}: expected a checkpoint, got another safetensors file')
            state: dict[str, Any] = json.loads(header)
            groups: dict[str, dict[str, torch.Tensor]] = {g: {} for g in state.pop('groups')}
            for key in stream.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.partition('/')
                groups[group][name] = stream.get_tensor(key)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f'{path}: is not a whole checkpoint: {error}') from error
    version = state.pop('version', None)
    if version != FORMAT_VERSION:
        raise WeightsError(
            f'{path}: expected a checkpoint of version {FORMAT_VERSION}, got {version}; finish '
            f'the run with the release that started it, or start anew'
        )
    return groups, state


def optimizer_state(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as tensors by name and plain values."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state['state'].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f'{index}.{name}'] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {'state': plain, 'param_groups': state['param_groups']}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor],
    plain: Mapping[str, Any],
) -> None:
    """Puts back what `optimizer_state` gave."""
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in plain['state'].items()
    }
    for key, tensor in tensors.items():
        index, _, name = key.partition('.')
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({'state': state, 'param_groups': plain['param_groups']})


def random_state() -> dict[str, torch.Tensor]:
    """The state of torch's random generators, by device."""
    state = {'cpu': torch.get_rng_state()}
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def load_random_state(state: Mapping[str, torch.Tensor]) -> None:
    """Puts back what `random_state` gave; a CUDA generator only where there is a device."""
    torch.set_rng_state(state['cpu'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])
