"""A training run in one strict YAML file; ``config/training/`` has examples.

    name: camvid_fast                       # the trained model's catalog-like name
    summary: one line for people
    licence: what applies to the trained weights (SPDX, or LicenseRef-…)
    source: where data and initial weights come from
    model:
      init: deeplabv3_mobilenetv2.voc21     # start from this model; or architecture: unet
    input: {size_hw: [288, 384]}            # what the network is fed on the robot
    data:                                   # for training.datasets.open_dataset
      layout: camvid
      root: data/camvid                       # --set data.root=… where it lies elsewhere
      train: {split: train}                 # learned from
      val: {split: val}                     # decides what is kept and when to stop
    augmentation: {scale: [0.75, 1.5]}
    loss: {cross_entropy: 1.0}              # for training.losses.build_loss
    optimizer: {name: adamw, lr: 1e-3}
    schedule: {name: poly, power: 0.9}      # for training.schedules.build_schedule
    training: {epochs: 12, batch_size: 8}

Relative paths start at the file. The classes below say what every field means. Unknown, repeated,
missing and mistyped fields are errors that name file and field. A number like ``1e-3`` is text in
YAML 1.1 and accepted here.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import yaml

from seg_perception.errors import ConfigurationError, ModelCardError
from seg_perception.imaging.resize_plan import ResizeMode
from seg_perception.models.card_fields import Fields, UniqueKeyLoader, check_choice, say_yaml_error
from seg_perception.models.input_spec import ChannelOrder

Precision = Literal['auto', 'fp32', 'bf16', 'fp16']
OptimizerName = Literal['adamw', 'sgd']

_MAX_BYTES = 1024 * 1024
_LARGEST = 1e18
"""Beyond any number that means something here; leaves out what no float can hold."""
_EXPONENT = re.compile(r'[-+]?\d+(\.\d*)?[eE][-+]?\d+')
_Section = TypeVar('_Section')


def _fail(name: str, expected: str, actual: object) -> NoReturn:
    raise ConfigurationError(f'{name}: expected {expected}, got {actual!r}')


def _check_range(name: str, value: float, low: float, high: float = _LARGEST) -> None:
    if not low <= value <= high:
        is_open = high == _LARGEST and value < high
        bound = f'{low:g} or more' if is_open else f'{low:g} to {high:g}'
        _fail(name, bound, value)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The network and what it starts from.

    Attributes:
        init: a catalog name, card, model file or run folder whose weights to start from. Layers
            whose shape depends on another number of classes start at random; the log says which.
            Its architecture, options, normalisation and ``align_corners`` are taken over.
        weights: a local copy of the weights of ``init``, where its card has no address.
        backbone: a state dict (.safetensors, .pth; a path or package://) for the network's
            ``backbone.`` alone.
        backbone_key_map: prefixes of the names in that file and what they are in the network.
        backbone_drop_prefixes: names of that file to leave out, e.g. its classifier's.
        architecture: a name of ``models.nets.ARCHITECTURES``. Another one than that of ``init``
            takes over the layers that both have; the log says which start at random.
        architecture_options: of the network; they override those of ``init``.
        align_corners: how its logits are upsampled; that of ``init``, else false, where not set.
    """

    init: str = ''
    weights: str = ''
    backbone: str = ''
    backbone_key_map: Mapping[str, str] = field(default_factory=dict)
    backbone_drop_prefixes: tuple[str, ...] = ()
    architecture: str = ''
    architecture_options: Mapping[str, Any] = field(default_factory=dict)
    align_corners: bool | None = None

    def __post_init__(self) -> None:
        if not (self.init or self.architecture):
            _fail('model', 'init (a model to start from), architecture, or both', 'neither')
        if self.weights and not self.init:
            _fail('model.weights', "init, the model that they belong to; or use 'backbone'", '')


@dataclass(frozen=True, slots=True)
class InputConfig:
    """What the network is fed, in validation and on the robot; see ``models.card.InputSpec``.

    Attributes:
        size_hw: rows and columns.
        resize: ``fit``, ``letterbox`` or ``stretch``.
        multiple_of: with ``fit``.
        mean_rgb: 0..255 units; that of ``model.init``, else 127.5, where not set.
        std_rgb: the same.
        channel_order: the same; else ``rgb``.
    """

    size_hw: tuple[int, int]
    resize: ResizeMode = 'fit'
    multiple_of: int = 16
    mean_rgb: tuple[float, float, float] | None = None
    std_rgb: tuple[float, float, float] | None = None
    channel_order: ChannelOrder | None = None


@dataclass(frozen=True, slots=True)
class AugmentationConfig:
    """How training images are varied; all of it at random and reproducible.

    Attributes:
        crop_hw: what a training image is cut or padded to; ``input.size_hw`` where not set.
        scale: range of the factor on the size the robot would see the image at.
        flip: probability of mirroring left and right.
        rotation_deg: range in both directions.
        brightness: most that is added or taken away, as a share of white.
        contrast: most that contrast is raised or lowered, as a share.
        saturation: the same for saturation.
        hue_deg: most that hues are turned, in degrees.
    """

    crop_hw: tuple[int, int] | None = None
    scale: tuple[float, float] = (0.75, 1.5)
    flip: float = 0.5
    rotation_deg: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_hw is not None and min(self.crop_hw) < 1:
            _fail('augmentation.crop_hw', 'two sides of 1 px or more', list(self.crop_hw))
        if not 0.05 <= self.scale[0] <= self.scale[1] <= 20.0:
            _fail('augmentation.scale', '[low, high] within 0.05 to 20', list(self.scale))
        for name in ('flip', 'brightness', 'contrast', 'saturation'):
            _check_range(f'augmentation.{name}', getattr(self, name), 0.0, 1.0)
        for name in ('rotation_deg', 'hue_deg'):
            _check_range(f'augmentation.{name}', getattr(self, name), 0.0, 180.0)


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """How weights change.

    Attributes:
        name: ``adamw`` or ``sgd`` (Nesterov momentum).
        lr: learning rate of all but the backbone, at its highest.
        backbone_lr_factor: times ``lr`` for layers that start from trained weights.
        momentum: of sgd.
        weight_decay: of weights; norms and biases have none.
        clip_norm: gradients are shortened to this norm; 0 for not.
    """

    lr: float
    name: OptimizerName = 'adamw'
    backbone_lr_factor: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            _fail('optimizer.lr', 'a positive number', self.lr)
        for name in ('backbone_lr_factor', 'weight_decay', 'clip_norm'):
            _check_range(f'optimizer.{name}', getattr(self, name), 0.0)
        _check_range('optimizer.momentum', self.momentum, 0.0, 0.9999)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How long and on what.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of one forward pass.
        accumulate: forward passes whose gradients make one step.
        precision: ``auto`` is bf16 on CUDA where it has it, else fp16 there, fp32 on the CPU.
        ema_decay: weights kept are a moving average with this decay; 0 for the last ones.
        validate_every: epochs between validations.
        patience: validations without a better mIoU until the run stops; 0 for never.
        checkpoint_every_steps: steps between checkpoints besides those at validations.
        freeze_norm: batch norms keep the statistics they start with, for small batches.
        num_workers: processes that load images; the result does not depend on it.
        num_threads: CPU threads; 0 for torch's choice. On the CPU a resumed run equals an
            undisturbed one bit for bit only with the same number.
        seed: of weights, data order and augmentation.
    """

    epochs: int
    batch_size: int
    accumulate: int = 1
    precision: Precision = 'auto'
    ema_decay: float = 0.0
    validate_every: int = 1
    patience: int = 0
    checkpoint_every_steps: int = 200
    freeze_norm: bool = False
    num_workers: int = 0
    num_threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            'epochs', 'batch_size', 'accumulate', 'validate_every', 'checkpoint_every_steps',
        ):  # fmt: skip
            _check_range(f'training.{name}', getattr(self, name), 1)
        for name in ('patience', 'num_workers', 'num_threads', 'seed'):
            _check_range(f'training.{name}', getattr(self, name), 0)
        _check_range('training.ema_decay', self.ema_decay, 0.0, 0.99999)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training run; the module's docstring shows the file.

    Attributes:
        data: for ``training.datasets``, with parts ``train`` and ``val``.
        loss: for ``training.losses.build_loss``.
        schedule: for ``training.schedules.build_schedule``.
        document: the plain values it was read from.
        base_dir: the folder that relative paths start from.
    """

    name: str
    summary: str
    model: ModelConfig
    input: InputConfig
    data: Mapping[str, Any]
    loss: Mapping[str, Any]
    optimizer: OptimizerConfig
    training: TrainingConfig
    licence: str = 'LicenseRef-not-stated'
    source: str = 'trained by seg-perception train'
    schedule: Mapping[str, Any] = field(default_factory=lambda: {'name': 'poly'})
    augmentation: AugmentationConfig = AugmentationConfig()
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    base_dir: Path = field(default_factory=Path.cwd, compare=False)

    def __post_init__(self) -> None:
        if not {'train', 'val'} <= self.data.keys():
            _fail('data', 'the parts train and val', sorted(self.data))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a training configuration.

    Args:
        path: a YAML file as this module's docstring shows.
        overrides: texts ``section.field=value``, the value in YAML, that replace what it says.

    Raises:
        ConfigurationError: it cannot be read or says something that cannot be; the message names
            file and field.
    """
    path = Path(path)
    document = load_document(path)
    try:
        for text in overrides:
            override(document, text)
        config = config_from_mapping(document)
    except (ConfigurationError, ModelCardError) as error:
        raise ConfigurationError(f'{path}: {error}') from error
    return dataclasses.replace(config, base_dir=path.absolute().parent)


def load_document(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigurationError: it cannot be read, is no YAML, or no mapping.
    """
    try:
        with path.open('rb') as stream:
            text = stream.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigurationError(f'{path}: expected at most {_MAX_BYTES} bytes, got more')
        document = yaml.load(text, Loader=UniqueKeyLoader)
    except OSError as error:
        raise ConfigurationError(f'{path}: cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f'{path}: is not valid YAML: {say_yaml_error(error)}') from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigurationError(f'{path}: expected a mapping of fields, got {document!r:.80}')
    return document


def config_from_mapping(document: Mapping[str, Any]) -> TrainConfig:
    """Makes a configuration of the plain values that its YAML holds.

    Raises:
        ConfigurationError: see `load_config`.
    """
    plain = _with_floats(document)
    assert isinstance(plain, dict)
    try:
        config = _read(TrainConfig, Fields(plain, ''), '')
    except ModelCardError as error:
        raise ConfigurationError(str(error)) from error
    return dataclasses.replace(config, document=types.MappingProxyType(plain))


def _with_floats(value: Any) -> Any:
    """Turns texts like ``1e-3`` into the numbers that YAML 1.2 has them be."""
    if isinstance(value, Mapping):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    is_number = isinstance(value, str) and _EXPONENT.fullmatch(value)
    return float(value) if is_number else value


def override(document: dict[str, Any], text: str) -> None:
    """Replaces a field of a document, ``section.field=value`` with the value in YAML.

    Raises:
        ConfigurationError: the text is none such, or the value no YAML.
    """
    name, separator, value = text.partition('=')
    keys = name.strip().split('.')
    if not separator or not all(keys):
        _fail('--set', 'section.field=value', text)
    section = document
    for key in keys[:-1]:
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            _fail(f'--set {name}', f'{key} to be a section', inner)
        section = inner
    try:
        section[keys[-1]] = yaml.load(value, Loader=UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f'--set {name}: is not valid YAML: {say_yaml_error(error)}'
        ) from error


def _read(kind: type[_Section], fields: Fields, where: str) -> _Section:
    """Fills a dataclass from fields, by the types of its attributes."""
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for attribute in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = attribute.name
        if name in ('document', 'base_dir'):
            continue
        is_required = (
            attribute.default is dataclasses.MISSING
            and attribute.default_factory is dataclasses.MISSING
        )
        if not is_required and not fields.has(name):
            continue
        values[name] = _value(hints[name], fields, name, f'{where}.{name}' if where else name)
    fields.finish()
    return kind(**values)


def _value(hint: Any, fields: Fields, name: str, where: str) -> Any:
    options = [option for option in typing.get_args(hint) if option is not types.NoneType]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _value(options[0], fields, name, where)
    if dataclasses.is_dataclass(hint):
        return _read(hint, fields.section(name), where)  # type: ignore[arg-type]
    if hint is str:
        return fields.text(name)
    if hint is bool:
        return fields.boolean(name, False)
    if hint is int:
        return fields.integer(name)
    if hint is float:
        return fields.number(name)
    origin = typing.get_origin(hint)
    if origin is Literal:
        value = fields.text(name)
        check_choice(where, value, tuple(options))
        return value
    if origin is tuple:
        if options[-1] is Ellipsis:
            return fields.texts(name)
        numbers = fields.integers(name) if options[0] is int else fields.numbers(name)
        if len(numbers) != len(options):
            _fail(where, f'{len(options)} numbers', list(numbers))
        return numbers
    assert origin is Mapping, hint
    if options[1] is str:
        return fields.text_mapping(name)
    fields.section(name)  # says that it is required, where it is missing
    return fields.mapping(name)
