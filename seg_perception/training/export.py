"""A trained model as a folder that the node takes as ``model:=``: weights and card, nothing else.

The folder appears only when what is in it has been loaded again, through the backend that the
node would use, and gave the network's own logits at two sizes.

B batch, H/W network input.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from seg_perception.backends import RunOptions, load_backend
from seg_perception.backends.engines import require_onnxruntime
from seg_perception.backends.exporting import export_onnx, export_program
from seg_perception.errors import ConfigurationError, ModelError
from seg_perception.models import nets, resolve
from seg_perception.models.card import ModelCard, WeightsFormat
from seg_perception.models.card_writing import write_card
from seg_perception.models.state_dicts import load_into, load_state_dict, rename_keys
from seg_perception.models.weights import fetch_weights
from seg_perception.structures import U8
from seg_perception.training.checkpoint import save_tensors
from seg_perception.training.quantisation import network_inputs, quantise_onnx
from seg_perception.training.serving import write_entry

ExportFormat = Literal['safetensors', 'pt2', 'onnx', 'triton']

MAX_RELATIVE_DIFFERENCE = 1e-3
"""Largest difference of a logit, as a share of the largest logit, that counts as equal."""

MIN_QUANTISED_AGREEMENT = 0.95
"""Share of grid cells that must keep their label when a model is quantised."""

_STRIDE = 32
"""Sizes are compared at multiples of this, which all networks divide evenly."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How an exported model compared with the network at one size.

    Attributes:
        batch: images.
        input_hw: size.
        difference: largest difference of a logit, as a share of the largest logit.
        same_labels: share of grid cells where the same class wins.
    """

    batch: int
    input_hw: tuple[int, int]
    difference: float
    same_labels: float


@dataclass(frozen=True, slots=True)
class Export:
    """What was written.

    Attributes:
        folder: give it to the node as ``model``.
        card: as in the folder.
        comparisons: one per size.
    """

    folder: Path
    card: ModelCard
    comparisons: tuple[Comparison, ...]


def export(
    model: str | Path | ModelCard,
    out_dir: str | Path,
    export_format: ExportFormat = 'safetensors',
    *,
    weights_path: str | Path | None = None,
    quantised_for: Sequence[U8] = (),
) -> Export:
    """Writes a model as a self-contained folder.

    Args:
        model: a run's folder, catalog name, card or model file, of torch weights.
        out_dir: must not exist, or be empty.
        export_format: ``safetensors`` (tensors only), ``pt2`` (torch.export; loading one can run
            code, so the node wants ``trust_model_code``), ``onnx`` (batch and size open) or
            ``triton`` (the same as an entry of a model repository, see `serving`).
        weights_path: a local copy of the weights.
        quantised_for: where there are any, RGB images (Y, X, 3) that an ``onnx`` export is
            quantised to int8 for; the network's labels on them are compared then.

    Raises:
        ConfigurationError: an unknown format, a folder in use, or int8 for another format.
        ModelError: the model cannot be loaded or exported, or what was exported differs from it.
        MissingExtraError: a library for the format is not installed.
    """
    if export_format not in _WRITERS:
        raise ConfigurationError(
            f'--format: expected one of {", ".join(_WRITERS)}, got {export_format!r}'
        )
    if quantised_for and export_format not in ('onnx', 'triton'):
        raise ConfigurationError(f'--int8: expected --format onnx or triton, got {export_format}')
    out_dir = Path(out_dir).expanduser().absolute()
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise ConfigurationError(f'{out_dir}: expected a new or empty folder, found something')
    card = model if isinstance(model, ModelCard) else resolve(model)
    network = _load_network(card, weights_path)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{out_dir.name}.', dir=out_dir.parent))
    try:
        write, weights_format, suffix = _WRITERS[export_format]
        weights = partial / f'{card.name}{suffix}'
        sizes = comparison_sizes(card)
        write(network, weights, sizes[0])
        inputs = list(network_inputs(card, quantised_for))
        if inputs:
            quantise_onnx(weights, inputs, card.name)
        graphed = card
        if weights_format != 'safetensors':
            graphed = dataclasses.replace(
                card,
                architecture=None,
                architecture_options={},
                weights=dataclasses.replace(
                    card.weights, uri=weights.name, format=weights_format, key_map={},
                    drop_prefixes=(), sha256='', sha256_prefix='', size_bytes=None,
                ),
            )  # fmt: skip
        written = write_card(graphed, weights, weights_format)
        if inputs:
            comparisons = compare_labels(network, written, inputs)
        else:
            comparisons = compare(network, written, sizes)
        if export_format == 'triton':
            write_entry(partial, written)
        partial.chmod(0o755)
        if out_dir.exists():
            out_dir.rmdir()
        partial.rename(out_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Export(out_dir, resolve(out_dir), comparisons)


def comparison_sizes(card: ModelCard) -> tuple[tuple[int, int], tuple[int, int]]:
    """The card's input size and a smaller one of another shape, in whole strides."""
    height, width = (max(2, round(side / _STRIDE)) for side in card.input.size_hw)
    other = (
        (height + 1, max(2, width // 2)) if height <= width else (max(2, height // 2), width + 1)
    )
    return (height * _STRIDE, width * _STRIDE), (other[0] * _STRIDE, other[1] * _STRIDE)


def compare(
    network: nn.Module, card: ModelCard, sizes: tuple[tuple[int, int], ...]
) -> tuple[Comparison, ...]:
    """Runs an exported model beside the network it came from, on the CPU in float32.

    Raises:
        ModelError: it cannot be loaded or run, takes only one size, or gives other logits.
    """
    options = RunOptions(device='cpu', precision='fp32', trust_model_code=True)
    backend = load_backend(card, options=options)
    generator = torch.Generator().manual_seed(0)
    comparisons = []
    try:
        if backend.input_hw_fixed is not None:
            raise ModelError(
                f'{card.name}: expected an export of any input size, got one of '
                f'{backend.input_hw_fixed} alone'
            )
        for batch, input_hw in zip((1, 2), sizes, strict=False):
            # Smooth, as photographs are: noise alone says little about the upsampling inside.
            coarse = torch.randn(batch, 3, 8, 8, generator=generator)
            x_B3HW = nn.functional.interpolate(coarse, size=input_hw, mode='bicubic')
            x_B3HW += 0.1 * torch.randn(x_B3HW.shape, generator=generator)
            with torch.inference_mode():
                expected = network(x_B3HW)
                actual = backend.infer(x_B3HW).logits_BCHW
            if actual is None or actual.shape != expected.shape:
                shape = None if actual is None else tuple(actual.shape)
                raise ModelError(
                    f'{card.name}: expected logits of shape {tuple(expected.shape)} at '
                    f'{input_hw}, the exported model gives {shape}'
                )
            scale = float(expected.abs().max().clamp_min(1e-12))
            difference = float((actual - expected).abs().max()) / scale
            same_labels = float((actual.argmax(1) == expected.argmax(1)).float().mean())
            if not difference <= MAX_RELATIVE_DIFFERENCE:
                raise ModelError(
                    f'{card.name}: expected the logits of the network at {input_hw}, the '
                    f'exported model differs by up to {difference:.2g} of the largest '
                    f'({100 * same_labels:.2f} % of the labels agree); nothing was written'
                )
            comparisons.append(Comparison(batch, input_hw, difference, same_labels))
    finally:
        backend.close()
    return tuple(comparisons)


def compare_labels(
    network: nn.Module, card: ModelCard, inputs: Sequence[torch.Tensor]
) -> tuple[Comparison, ...]:
    """Runs a quantised model beside the network it came from; one comparison for all inputs.

    Args:
        network: in float32 on the CPU.
        card: of the quantised model.
        inputs: batches (B, 3, H, W).

    Raises:
        ModelError: it cannot be loaded or run, or too few labels agree.
    """
    backend = load_backend(card, options=RunOptions(device='cpu'))
    shares, differences = [], []
    try:
        for x_B3HW in inputs:
            with torch.inference_mode():
                expected = network(x_B3HW)
                actual = backend.infer(x_B3HW).logits_BCHW
            assert actual is not None  # torch networks give logits
            scale = float(expected.abs().max().clamp_min(1e-12))
            differences.append(float((actual - expected).abs().max()) / scale)
            shares.append(float((actual.argmax(1) == expected.argmax(1)).float().mean()))
    finally:
        backend.close()
    same_labels = sum(shares) / len(shares)
    if not same_labels >= MIN_QUANTISED_AGREEMENT:
        raise ModelError(
            f'{card.name}: expected the quantised model to give {MIN_QUANTISED_AGREEMENT:.0%} of '
            f'the labels of the network, it gives {same_labels:.1%}; nothing was written. Give '
            f'more photographs like those that it is for, or export without --int8'
        )
    height, width = inputs[0].shape[2:]
    return (Comparison(len(inputs), (height, width), max(differences), same_labels),)


def _load_network(card: ModelCard, weights_path: str | Path | None) -> nn.Module:
    if card.architecture is None:
        raise ConfigurationError(
            f'{card.name}: expected a model of torch weights to export, got a '
            f'{card.weights.format} file, which already is a finished graph'
        )
    path = fetch_weights(card.weights, card.base_dir, weights_path=weights_path)
    network = nets.build(card.architecture, len(card.classes), **card.architecture_options)
    state = rename_keys(load_state_dict(path, card.weights.format), card.weights)
    load_into(network, state, f'{card.name}: {path.name}')
    return network.eval().requires_grad_(False)


def _write_safetensors(network: nn.Module, path: Path, input_hw: tuple[int, int]) -> None:
    save_tensors(path, network.state_dict())


def _write_pt2(network: nn.Module, path: Path, input_hw: tuple[int, int]) -> None:
    example = torch.zeros(2, 3, *input_hw)
    torch.export.save(export_program(network, example, path.stem), path)


def _write_onnx(network: nn.Module, path: Path, input_hw: tuple[int, int]) -> None:
    require_onnxruntime()  # checks the file afterwards
    export_onnx(network, torch.zeros(2, 3, *input_hw), path, path.stem)


_WRITERS: Mapping[
    str, tuple[Callable[[nn.Module, Path, tuple[int, int]], None], WeightsFormat, str]
] = {
    'safetensors': (_write_safetensors, 'safetensors', '.safetensors'),
    'pt2': (_write_pt2, 'torch_export', '.pt2'),
    'onnx': (_write_onnx, 'onnx', '.onnx'),
    'triton': (_write_onnx, 'onnx', '.onnx'),
}
