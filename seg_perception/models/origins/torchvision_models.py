"""Models of torchvision, with the weights that it publishes.

The library knows categories, sizes and addresses; the weights are downloaded, verified by the hash
in their name and read by this package's own code.
"""

from __future__ import annotations

import difflib
import inspect
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from seg_perception.errors import MissingExtraError, ModelCardError, ModelNotFoundError
from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.input_spec import MAX_SIDE_PX, InputSpec
from seg_perception.models.origins.model_folder import UNKNOWN_LICENCE, distinct_names, slug
from seg_perception.models.origins.source import ModelSource, after
from seg_perception.models.output_spec import DecodingOptions, OutputSpec
from seg_perception.models.state_dicts import load_into, load_state_dict, rename_keys
from seg_perception.structures import ClassTable

if TYPE_CHECKING:
    import torch

TITLES = {
    'fcn': 'FCN',
    'deeplabv3': 'DeepLabV3',
    'lraspp': 'LRASPP',
    'maskrcnn': 'Mask R-CNN',
}
"""Kinds of models by the first word of their names."""

MAX_ASPECT = 4
"""Only the shorter side is stated; the longer one may be this many times as long."""

_HASH = re.compile(r'-([0-9a-f]{8,64})\.pth$')
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def card_of(model: str) -> ModelCard:
    """Makes a card of ``torchvision:NAME`` or ``torchvision:NAME@WEIGHTS``.

    Raises:
        MissingExtraError: torchvision is not installed.
        ModelNotFoundError: it has no such model or weights.
    """
    torchvision = _library('look up models')
    name, _, weights_name = model.removeprefix('torchvision:').partition('@')
    _check_name(torchvision, name)
    known = torchvision.models.get_model_weights(name)
    if weights_name and weights_name not in known.__members__:
        raise ModelNotFoundError(
            f'torchvision:{name}: expected weights among {", ".join(known.__members__)}, got '
            f"'{weights_name}'"
        )
    weights = known[weights_name] if weights_name else known.DEFAULT
    match = _HASH.search(weights.url)
    is_detection = name.startswith('maskrcnn')
    return ModelCard(
        name=slug(f'{name}.{weights.name}'),
        summary=f'{TITLES[name.partition("_")[0]]} of torchvision',
        architecture=name,
        architecture_options=_options(name, weights.name),
        weights=WeightsSource(
            weights.url,
            sha256_prefix=match[1] if match else '',
            format='torchvision',
            drop_prefixes=('aux_classifier.',),
        ),
        input=_detection_input(torchvision) if is_detection else _input(weights.transforms()),
        output=(
            OutputSpec('detections', options=DecodingOptions(masks='box'))
            if is_detection
            else OutputSpec('logits')
        ),
        classes=ClassTable(distinct_names(weights.meta['categories'])),
        licence=UNKNOWN_LICENCE,
        source=str(weights.meta.get('recipe') or PurePosixPath(weights.url).name),
    )


def _options(name: str, weights_name: str) -> dict[str, Any]:
    # torchvision.models.detection.mask_rcnn: these weights were made with batch norms without eps
    is_without_eps = name == 'maskrcnn_resnet50_fpn' and weights_name == 'COCO_V1'
    return {'batch_norm_eps': 0.0} if is_without_eps else {}


def _input(transforms: Any) -> InputSpec:
    """What ``transforms._presets.SemanticSegmentation`` does."""
    [shorter] = transforms.resize_size
    mean, std = transforms.mean, transforms.std
    return InputSpec(
        size_hw=(shorter, min(MAX_ASPECT * shorter, MAX_SIDE_PX)),
        resize='shortest_edge',
        mean_rgb=(255.0 * mean[0], 255.0 * mean[1], 255.0 * mean[2]),
        std_rgb=(255.0 * std[0], 255.0 * std[1], 255.0 * std[2]),
        interpolation='antialias_bilinear' if transforms.antialias else 'bilinear',
    )


def _detection_input(torchvision: Any) -> InputSpec:
    """What ``GeneralizedRCNNTransform`` does; it pads to multiples of 32, as the network here."""
    detector = torchvision.models.detection.MaskRCNN
    defaults = inspect.signature(detector.__init__).parameters
    mean, std = _IMAGENET
    return InputSpec(
        size_hw=(defaults['min_size'].default, defaults['max_size'].default),
        resize='shortest_edge',
        mean_rgb=(255.0 * mean[0], 255.0 * mean[1], 255.0 * mean[2]),
        std_rgb=(255.0 * std[0], 255.0 * std[1], 255.0 * std[2]),
        interpolation='bilinear',
    )


def build(card: ModelCard, path: Path) -> torch.nn.Module:
    """Builds a torchvision model and fills it with the tensors of a file.

    Args:
        card: its ``architecture`` is torchvision's name of the model; its options are the
            builder's, and ``batch_norm_eps``.
        path: a state dict.

    Returns:
        A network that gives logits (B, C, H, W) on the head's own grid, or for Mask R-CNN boxes,
        class ids, scores and masks of each image.

    Raises:
        MissingExtraError: torchvision is not installed.
        ModelCardError: it has no such model, or the builder no such option.
        WeightsError: the file does not fit.
    """
    torchvision = _library('run its models')
    from seg_perception.models.origins import torchvision_wrappers

    assert card.architecture is not None  # the card's own check
    options = dict(card.architecture_options)
    eps = options.pop('batch_norm_eps', None)
    try:
        _check_name(torchvision, card.architecture)
        network = torchvision.models.get_model(
            card.architecture,
            weights=None,
            weights_backbone=None,
            num_classes=len(card.classes),
            **options,
        )
    except (ModelNotFoundError, TypeError, ValueError) as error:
        raise ModelCardError(f'{card.name}: architecture: {error}') from error
    if eps is not None:
        torchvision_wrappers.set_batch_norm_eps(network, float(eps))
    state = rename_keys(load_state_dict(path, 'torch'), card.weights)
    load_into(network, state, f'{card.name}: {path.name}')
    network = network.eval()
    if card.architecture.startswith('maskrcnn'):
        return torchvision_wrappers.Detections(network)
    return torchvision_wrappers.CoarseLogits(network)


def _check_name(torchvision: Any, name: str) -> None:
    names = [
        known for known in torchvision.models.list_models() if known.partition('_')[0] in TITLES
    ]
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        raise ModelNotFoundError(
            f'torchvision:{name}: expected one of {", ".join(names)}'
            + (f", did you mean '{close[0]}'?" if close else '')
        )


def _library(purpose: str) -> Any:
    try:
        import torchvision
    except ImportError as error:
        raise MissingExtraError('torchvision', 'torchvision', purpose) from error
    return torchvision


SOURCE = ModelSource(
    'torchvision',
    'torchvision:NAME or torchvision:NAME@WEIGHTS',
    after('torchvision'),
    card_of,
    {'torchvision': build},
)
