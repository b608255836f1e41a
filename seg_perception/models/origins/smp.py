"""Checkpoints of segmentation_models_pytorch, as its ``save_pretrained`` writes them.

Its ``config.json`` says how the network is built. It does not say what the classes are called nor
how images were prepared: names come from a ``classes.txt`` beside it (one a line), the rest from
the pipeline that albumentations' own ``save_pretrained`` writes, or else from what the library
says of the pretrained encoder. A ``card.yaml`` in the folder says all of it, and wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.errors import (
    MissingExtraError,
    ModelCardError,
    ModelNotFoundError,
    WeightsError,
)
from seg_perception.models.card import ModelCard, WeightsSource, load_card
from seg_perception.models.input_spec import InputSpec, Triple
from seg_perception.models.origins.card_file import CARD_FILE
from seg_perception.models.origins.model_folder import distinct_names, licence_of, read_json, slug
from seg_perception.models.origins.source import ModelSource, after
from seg_perception.models.output_spec import OutputKind, OutputSpec
from seg_perception.models.state_dicts import load_into, load_state_dict
from seg_perception.structures import ClassTable

if TYPE_CHECKING:
    import torch

CONFIG_FILE, WEIGHTS_FILE = 'config.json', 'model.safetensors'
CLASSES_FILE = 'classes.txt'
PIPELINE_FILES = ('albumentations_config_eval.json', 'albumentations_config.json')
DEFAULT_SIZE_HW = (512, 512)
_MULTIPLE_OF = 32  # the stride of nearly all encoders
_KINDS: Mapping[object, OutputKind] = {
    None: 'logits',
    'identity': 'logits',
    'sigmoid': 'probabilities',
    'softmax': 'probabilities',
    'softmax2d': 'probabilities',
}
_WITHOUT_EFFECT = ('ToTensorV2', 'PadIfNeeded')
"""Steps of a pipeline that our own preparation has its own way for."""


def card_of(model: str) -> ModelCard:
    """Makes a card of ``smp:FOLDER``.

    Raises:
        ModelNotFoundError: no such folder, or one that the library did not write.
        ModelCardError: it says too little.
        WeightsError: it has no safe weights.
        MissingExtraError: the library is needed and not installed.
    """
    text = model.removeprefix('smp:')
    folder = Path(text).expanduser().absolute()
    if (folder / CARD_FILE).is_file():
        return load_card(folder / CARD_FILE)
    if not (folder / CONFIG_FILE).is_file():
        raise ModelNotFoundError(
            f'smp:{text}: expected a folder with {CONFIG_FILE}, as save_pretrained of '
            f'segmentation_models_pytorch writes it, found none in {folder}'
        )
    config = read_json(folder / CONFIG_FILE)
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(
            f'smp:{text}: expected {WEIGHTS_FILE}, found none; pickled weights can run code and '
            f'are refused: write it with model.save_pretrained("FOLDER")'
        )
    architecture = config.get('_model_class')
    if not isinstance(architecture, str):
        raise ModelCardError(
            f'{folder / CONFIG_FILE}: expected _model_class, got {architecture!r}'
        )
    if config.get('in_channels', 3) != 3:
        raise ModelCardError(
            f'{folder / CONFIG_FILE}: in_channels: expected 3 (colour images), got '
            f'{config["in_channels"]}'
        )
    activation = config.get('activation')
    if activation not in _KINDS:
        raise ModelCardError(
            f'{folder / CONFIG_FILE}: activation: expected none, sigmoid or softmax2d, got '
            f'{activation!r}'
        )
    return ModelCard(
        name=slug(folder.name),
        summary=f'{architecture} ({config.get("encoder_name")}) of segmentation_models_pytorch',
        architecture=None,
        weights=WeightsSource(str(folder / WEIGHTS_FILE), format='smp'),
        input=_input_spec(folder, config),
        output=OutputSpec(_KINDS[activation]),
        classes=_classes(folder, config),
        licence=licence_of(folder / 'README.md' if (folder / 'README.md').is_file() else None),
        source=str(folder),
    )


def _classes(folder: Path, config: Mapping[str, Any]) -> ClassTable:
    count = config.get('classes', 1)
    path = folder / CLASSES_FILE
    if not path.is_file():
        names = [f'class_{i}' for i in range(count)]
        return ClassTable(('background', 'foreground') if count == 1 else tuple(names))
    names = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    names = [name for name in names if name]
    if len(names) != (2 if count == 1 else count):
        raise ModelCardError(
            f'{path}: expected {2 if count == 1 else count} names, one a line, because '
            f'{CONFIG_FILE} says classes: {count}, got {len(names)}'
        )
    return ClassTable(distinct_names(names))


def _input_spec(folder: Path, config: Mapping[str, Any]) -> InputSpec:
    for name in PIPELINE_FILES:
        if (folder / name).is_file():
            return _of_pipeline(read_json(folder / name), folder / name)
    return _of_encoder(folder, config)


def _of_pipeline(document: Mapping[str, Any], path: Path) -> InputSpec:
    """The steps of an albumentations pipeline: Resize, then Normalize."""
    transform = document.get('transform')
    steps = transform.get('transforms') if isinstance(transform, dict) else None
    if not isinstance(steps, list):
        raise ModelCardError(f'{path}: expected a pipeline of albumentations, got {transform!r}')
    size_hw, mean, std = None, None, None
    for step in steps:
        name = str(step.get('__class_fullname__')).rpartition('.')[2]
        if name == 'Resize':
            size_hw = (int(step['height']), int(step['width']))
        elif name == 'Normalize' and step.get('normalization', 'standard') == 'standard':
            scale = float(step.get('max_pixel_value', 255.0))
            mean, std = _scaled(step['mean'], scale), _scaled(step['std'], scale)
        elif name not in _WITHOUT_EFFECT:
            raise ModelCardError(
                f'{path}: expected steps Resize, Normalize, {", ".join(_WITHOUT_EFFECT)}, got '
                f'{name}; write a {CARD_FILE} into the folder'
            )
    if mean is None or std is None:
        raise ModelCardError(f'{path}: expected a step Normalize, got none')
    return _spec(size_hw, mean, std)


def _of_encoder(folder: Path, config: Mapping[str, Any]) -> InputSpec:
    """How the images of the encoder's pretraining were prepared, as the library says."""
    encoder, weights = config.get('encoder_name'), config.get('encoder_weights')
    remedy = (
        f'write a {CARD_FILE} into the folder, or save the pipeline that the model was trained '
        f'with there: albumentations.Compose([Normalize()]).save_pretrained("FOLDER")'
    )
    if not weights:
        raise ModelCardError(
            f'{folder}: expected to be told how images were prepared; {CONFIG_FILE} names no '
            f'pretrained encoder; {remedy}'
        )
    smp = _library('look up how images are prepared')
    try:
        said = smp.encoders.get_preprocessing_params(encoder, weights)
    except Exception as error:
        raise ModelCardError(
            f'{folder}: how images were prepared for {encoder} ({weights}) cannot be looked up '
            f'({type(error).__name__}: {" ".join(str(error).split())[:150]}); {remedy}'
        ) from error
    if said['input_space'] != 'RGB':
        raise ModelCardError(f'{folder}: expected an encoder for RGB, got {said["input_space"]}')
    scale = 255.0 if max(said['input_range']) <= 1 else 1.0
    return _spec(None, _scaled(said['mean'], scale), _scaled(said['std'], scale))


def _spec(size_hw: tuple[int, int] | None, mean: Triple, std: Triple) -> InputSpec:
    if size_hw is not None:
        return InputSpec(size_hw, 'stretch', mean_rgb=mean, std_rgb=std)
    return InputSpec(DEFAULT_SIZE_HW, 'fit', multiple_of=_MULTIPLE_OF, mean_rgb=mean, std_rgb=std)


def _scaled(values: list[float], scale: float) -> Triple:
    return values[0] * scale, values[1] * scale, values[2] * scale


def build(card: ModelCard, path: Path) -> torch.nn.Module:
    """Builds the network that ``config.json`` beside the weights describes, and fills it.

    Raises:
        MissingExtraError: the library is not installed.
        WeightsError: the weights do not fit, or the config is not beside them.
        ModelCardError: the library has no such network.
    """
    smp = _library('run its models')
    config_path = path.parent / CONFIG_FILE
    if not config_path.is_file():
        raise WeightsError(f'{path}: expected {CONFIG_FILE} beside it, found none')
    config = json.loads(config_path.read_text(encoding='utf-8'))
    name = str(config.get('_model_class')).lower()
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if name not in known:
        raise ModelCardError(
            f'{config_path}: _model_class: expected one of {", ".join(known)}, got {name!r}'
        )
    options = {key: value for key, value in config.items() if not key.startswith('_')}
    options['encoder_weights'] = None  # never from the network: the file has them
    try:
        network: torch.nn.Module = known[name](**options)
    except Exception as error:
        raise ModelCardError(
            f'{config_path}: {type(error).__name__}: {" ".join(str(error).split())[:300]}'
        ) from error
    load_into(network, load_state_dict(path, 'safetensors'), f'{card.name}: {path.name}')
    return network.eval()


def _library(purpose: str) -> Any:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise MissingExtraError('segmentation-models-pytorch', 'smp', purpose) from error
    return smp


SOURCE = ModelSource(
    'smp',
    'smp:FOLDER (segmentation_models_pytorch)',
    after('smp'),
    card_of,
    {'smp': build},
)
