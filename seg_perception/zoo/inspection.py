"""What can be found out about a model's files, as far as that needs no trust in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from seg_perception.backends import RunOptions, load_backend
from seg_perception.errors import ModelNotFoundError, SegPerceptionError
from seg_perception.models.card import FORMAT_BY_SUFFIX, ModelCard, WeightsSource
from seg_perception.models.graph_facts import GraphFacts, format_of_file, read_graph_facts
from seg_perception.models.input_spec import InputSpec
from seg_perception.models.origins import SOURCES
from seg_perception.models.origins.model_file import known_card
from seg_perception.models.output_spec import OutputSpec
from seg_perception.models.state_dicts import load_state_dict
from seg_perception.structures import ClassTable
from seg_perception.zoo.matching import Match, hidden_options, match_architecture

Triple = tuple[float, float, float]

CODE_FORMATS = ('torch_export', 'torchscript')
"""Formats that can run code when they are loaded."""

_SIZE_HW = (512, 512)  # for networks that take any
_NEAR = 1e-2


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a model before anybody was asked.

    Attributes:
        path: of its file or folder.
        weights_format: what kind of file it is.
        card: complete, where the model says all that is needed.
        input_hw: the size of image it takes, None where any or unknown.
        num_channels: of its output, None where unknown.
        kind: what it gives; '' where unknown.
        class_names: in the file, () where it has none.
        mean_std: for pixels of 0 to 255, None where unknown.
        match: the network of a state dict.
        remarks: what was found, for people.
    """

    path: Path
    weights_format: str
    card: ModelCard | None = None
    input_hw: tuple[int, int] | None = None
    num_channels: int | None = None
    kind: str = ''
    class_names: tuple[str, ...] = ()
    mean_std: tuple[Triple, Triple] | None = None
    match: Match | None = None
    remarks: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """How many classes it tells apart; one channel tells two apart."""
        return 2 if self.num_channels == 1 else self.num_channels


def inspect_model(path: Path) -> Finding:
    """Looks into a model's file or folder; nothing in it is executed.

    Raises:
        ModelNotFoundError: there is none, or of a kind that cannot be imported.
        WeightsError: it is damaged, unsafe, or a state dict of an unknown network.
        ModelCardError: what it says of itself contradicts itself.
        MissingExtraError: reading it needs a library that is not installed.
    """
    path = path.expanduser().absolute()
    if path.is_dir():
        return _folder(path)
    if not path.is_file() or path.suffix.lower() not in FORMAT_BY_SUFFIX:
        found = 'another file' if path.is_file() else 'none'
        raise ModelNotFoundError(
            f'{path}: expected a model file ({", ".join(FORMAT_BY_SUFFIX)}) or the folder of a '
            f'transformers or smp model, found {found}'
        )
    weights_format = format_of_file(path)
    if (known := known_card(path, weights_format)) is not None:
        remark = f'is {known.name} of the catalog'
        return Finding(path, weights_format, card=known, remarks=(remark,))
    if weights_format in ('onnx', 'tflite'):
        return _graph(path, weights_format)
    if weights_format in CODE_FORMATS:
        remark = f'{weights_format}: can run code, so nothing in it was looked at'
        return Finding(path, weights_format, remarks=(remark,))
    state = load_state_dict(path, weights_format)
    match = match_architecture({k: tuple(t.shape) for k, t in state.items()}, path.name)
    options = ''.join(f', {k} {v}' for k, v in match.options.items())
    remarks = [f'{len(state)} tensors of {match.architecture}{options}']
    if hidden := hidden_options(match.architecture):
        remarks.append(
            f'{", ".join(hidden)}: not in the tensors, taken as by default; if it was trained '
            f'otherwise, write them under architecture_options in the card'
        )
    return Finding(
        path,
        weights_format,
        num_channels=match.num_classes,
        kind='logits',
        match=match,
        remarks=tuple(remarks),
    )


def _folder(path: Path) -> Finding:
    """A model of a library that writes folders; they say all that is needed."""
    config = path / 'config.json'
    prefix = 'hf' if config.is_file() and _is_transformers(config) else 'smp'
    text = f'{prefix}:{path}'
    for source in SOURCES:
        if config.is_file() and source.takes(text):
            card = source.card(text)
            return Finding(path, card.weights.format, card=card, remarks=(f'read as {text}',))
    raise ModelNotFoundError(
        f'{path}: expected the folder of a transformers or smp model, with config.json, got '
        f'another one'
    )


def _is_transformers(config: Path) -> bool:
    try:
        return 'model_type' in json.loads(config.read_text(encoding='utf-8'))
    except (OSError, ValueError, TypeError):
        return False


def _graph(path: Path, weights_format: str) -> Finding:
    facts = read_graph_facts(path, weights_format)
    card = facts.card or facts.inspected
    if card is not None:
        return Finding(path, weights_format, card=card, remarks=('described by its metadata',))
    mean_std, remarks = None, []
    if weights_format == 'tflite' and (mean_std := _quantised_input(path)) is not None:
        remarks.append('takes pixels as they are: mean and std follow from its quantisation')
    kind = facts.kind
    if not kind and facts.num_classes is not None:
        kind = _probed_kind(path, facts)
        remarks.append(f'gives {kind}, by what came out for a test image' if kind else '')
    return Finding(
        path,
        weights_format,
        input_hw=facts.input_hw,
        num_channels=facts.num_classes,
        kind=kind,
        class_names=facts.class_names,
        mean_std=mean_std,
        remarks=tuple(filter(None, remarks)),
    )


def _quantised_input(path: Path) -> tuple[Triple, Triple] | None:
    """Mean and std that bring pixels unchanged into an 8-bit input; None where it is none.

    Stored are q = x / scale + zero_point, and q is the pixel (less 128 where it is signed).
    """
    from ai_edge_litert.interpreter import Interpreter

    image = Interpreter(model_path=str(path)).get_input_details()[0]
    scale, zero_point = image['quantization']
    offset = {'uint8': 0, 'int8': 128}.get(image['dtype'].__name__)
    if offset is None or not scale:
        return None
    mean, std = float(zero_point + offset), 1.0 / float(scale)
    return (mean,) * 3, (std,) * 3


def _probed_kind(path: Path, facts: GraphFacts) -> str:
    """``probabilities`` where all that comes out is a distribution over the classes."""
    assert facts.num_classes is not None
    height, width = facts.input_hw or _SIZE_HW
    names = tuple(f'class_{i}' for i in range(max(facts.num_classes, 2)))
    card = ModelCard(
        name='probe',
        summary='',
        architecture=None,
        weights=WeightsSource(str(path)),
        input=InputSpec((height, width), resize='stretch'),
        classes=ClassTable(names),
        licence='',
        source='',
    )
    try:
        backend = load_backend(card, options=RunOptions(device='cpu'))
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        scores_BCHW = backend.infer(image).logits_BCHW
    except SegPerceptionError:
        return ''
    if scores_BCHW is None:
        return ''
    if facts.num_classes == 1:  # interpreted as two classes, of which the first has no channel
        scores_BCHW = scores_BCHW[:, 1:]
        is_distribution = bool((scores_BCHW >= 0).all() and (scores_BCHW <= 1).all())
    else:
        total = scores_BCHW.float().sum(1)
        is_distribution = bool((scores_BCHW >= 0).all()) and math.isclose(
            float((total - 1).abs().max()), 0.0, abs_tol=_NEAR
        )
    return 'probabilities' if is_distribution else 'logits'


def output_spec(kind: str, *, align_corners: bool) -> OutputSpec:
    """The card's output section for an answer."""
    values: Mapping[str, object] = {'kind': kind, 'align_corners': align_corners}
    return OutputSpec(**values)  # type: ignore[arg-type]
