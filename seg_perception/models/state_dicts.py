"""Tensors of weights files, read without executing anything from the file.

safetensors, or torch checkpoints through ``weights_only=True``, which refuses pickled code.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seg_perception.errors import WeightsError
from seg_perception.models.archives import check_archive
from seg_perception.models.card import FORMAT_BY_SUFFIX, WeightsSource
from seg_perception.models.graph_facts import is_torchscript

if TYPE_CHECKING:
    import torch

_UNSAFE = re.compile(r'(?:GLOBAL|global|function|class|type) ([A-Za-z_]\w*(?:\.\w+)+)')
"""What torch says of the first thing in a pickle that is not allowed."""
_WRAPPER_KEYS = ('state_dict', 'model_state_dict', 'model')


def load_state_dict(path: str | Path, weights_format: str = '') -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU, in the file's own precision.

    A checkpoint that wraps its tensors in ``state_dict``, ``model_state_dict`` or ``model`` is
    unwrapped.

    Args:
        path: a ``.safetensors`` file, or a ``.pth``/``.pt`` file written by ``torch.save``.
        weights_format: ``safetensors`` or ``torch``; by the suffix where ''.

    Raises:
        WeightsError: the file is missing, truncated, holds anything but tensors, or asks for
            code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f'{path}: expected a weights file, found none')
    weights_format = weights_format or FORMAT_BY_SUFFIX.get(path.suffix.lower(), '')
    if weights_format == 'safetensors':
        return _load_safetensors(path)
    if weights_format == 'torch':
        return _load_checkpoint(path)
    raise WeightsError(
        f'{path}: expected a state dict (.safetensors, .pth or .pt), '
        f'got {weights_format or path.suffix or "a file without suffix"}'
    )


def rename_keys(
    state: Mapping[str, torch.Tensor], source: WeightsSource
) -> dict[str, torch.Tensor]:
    """Applies a card's ``drop_prefixes``, then its ``key_map`` (the longest prefix wins).

    The tensors are the same objects.

    Raises:
        WeightsError: two names become one.
    """
    prefixes = sorted(source.key_map, key=len, reverse=True)
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if source.drop_prefixes and key.startswith(source.drop_prefixes):
            continue
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        name = key if prefix is None else source.key_map[prefix] + key[len(prefix) :]
        if name in renamed:
            raise WeightsError(
                f"weights.key_map: expected one tensor for '{name}', got several of the file, "
                f"'{key}' among them"
            )
        renamed[name] = tensor
    return renamed


def load_into(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str = 'the weights'
) -> None:
    """Copies tensors into a network; every name and shape must match.

    Precision is converted to the network's. BatchNorm's ``num_batches_tracked`` may be missing:
    inference does not use it.

    Args:
        network: changed in place.
        state: tensors by name.
        origin: what the message calls the tensors, e.g. the file's name.

    Raises:
        WeightsError: tensors are missing, unknown, of another shape, or not finite.
    """
    check_tensors(network, state, origin)
    broken = [
        key for key, t in state.items() if t.is_floating_point() and not bool(t.isfinite().all())
    ]
    if broken:
        raise WeightsError(
            f'{origin}: expected finite numbers, got NaN or inf in {_first(broken)}'
        )
    network.load_state_dict(dict(state), strict=False)


def check_tensors(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str = 'the weights'
) -> None:
    """Checks names and shapes as `load_into` does; the network may be on the meta device.

    Raises:
        WeightsError: tensors are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    missing = [
        key for key in wanted if key not in state and not key.endswith('.num_batches_tracked')
    ]
    unknown = [key for key in state if key not in wanted]
    misshapen = [
        f'{key} {tuple(state[key].shape)} (expected {tuple(wanted[key].shape)})'
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or unknown or misshapen:
        problems = (
            ('missing', missing),
            ('not in the network', unknown),
            ('of another shape', misshapen),
        )
        found = '; '.join(f'{len(k)} {what}: {_first(k)}' for what, k in problems if k)
        raise WeightsError(
            f'{origin}: expected the {len(wanted)} tensors of {type(network).__name__}, got '
            f'{len(state)} with {found}. Check architecture, its options and the number of '
            f'classes in the model card; other names can be mapped with weights.key_map, extra '
            f'ones left out with weights.drop_prefixes'
        )


def _first(names: list[str], limit: int = 3) -> str:
    rest = len(names) - limit
    return ', '.join(names[:limit]) + (f' and {rest} more' if rest > 0 else '')


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise WeightsError(
            f'{path}: the Python library safetensors is needed to read it and is not installed: '
            f'pip install safetensors'
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f'{path}: is not a whole safetensors file: {error}') from error


def _load_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    import torch

    if is_torchscript(path):
        raise WeightsError(
            f'{path}: expected a checkpoint of plain tensors, got TorchScript, which is code and '
            f'weights; write weights.format: torchscript and no architecture into its card'
        )
    check_archive(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _UNSAFE.search(str(error))
        reason = f'calls {wanted[1]}' if wanted else 'is not one of tensors'
        raise WeightsError(
            f'{path}: expected a checkpoint of plain tensors, got a pickle that {reason}: '
            f'refused, because a pickle can run code. If you trust it, convert it once on a '
            f'machine that may run it: '
            f'safetensors.torch.save_file(model.state_dict(), "model.safetensors")'
        ) from error
    except Exception as error:  # its unpickler raises whatever a damaged file leads it to
        reason = str(error).split('\n')[0]
        raise WeightsError(f'{path}: is not a whole torch checkpoint: {reason[:200]}') from error
    for wrapper in _WRAPPER_KEYS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f'{path}: expected tensors by name, got {type(content).__name__}'
            + (' without any' if isinstance(content, dict) else '')
        )
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(
                f'{path}: expected tensors by name, got {type(value).__name__} at {key!r}; '
                f'save model.state_dict()'
            )
    return dict(content)
