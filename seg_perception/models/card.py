"""Model cards: everything needed to run a model besides its weights, in one strict YAML file.

    name: deeplabv3_mobilenetv2.voc21            # lower case, digits, and . _ + -
    summary: DeepLabV3 MobileNetV2, 21 VOC classes
    architecture: deeplabv3_mobilenetv2          # of models.nets; torchvision's name for it where
                                                 #   the format is torchvision; none for files
                                                 #   that say it themselves
    architecture_options: {output_stride: 16}    # optional, passed to nets.build
    weights:
      uri: voc21.safetensors                     # path (from this file), package://…, https://…,
                                                 #   hf://org/name@revision/file, or
                                                 #   triton://host:port/name@version
      sha256: 9f86d081…                          # 64 hex digits; required for https unless
      sha256_prefix: 9f86d081                    #   the publisher gives only its first digits
      size_bytes: 4212345                        # optional
      format: safetensors                        # optional where the uri's suffix says it
      key_map: {backbone.: encoder.}             # optional: key prefixes in the file -> in the net
      drop_prefixes: [aux_classifier.]           # optional: keys of the file to leave out
    input:                                       # more fields: input_spec
      size_hw: [513, 513]
      resize: letterbox                          # stretch, letterbox, fit or shortest_edge
      mean_rgb: [127.5, 127.5, 127.5]            # in pixel units, 0..255, always r g b
      std_rgb: [127.5, 127.5, 127.5]
    output:                                      # optional
      kind: logits                               # logits, probabilities, labels, or one of
                                                 #   queries, yolo_seg, detections: output_spec
      align_corners: false                       # how the net's training upsampled the logits
      temperature: 1.0                           # optional: logits are divided by it (calibration)
      options: {score_threshold: 0.4}            # optional, for kinds with objects: output_spec
    classes:
      names: [background, aeroplane, …]          # position = id
      colors_rgb: [[0, 0, 0], [128, 0, 0], …]    # optional
    licence: Apache-2.0                          # SPDX
    source: https://…                            # where the model is described
    measurements: {…}                            # optional, free

Unknown, repeated, missing and mistyped fields are errors that name the file, the field, what was
expected and what was found. Nothing in a card is executed or expanded.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

import yaml

from seg_perception.errors import ConfigurationError, ModelCardError
from seg_perception.models.card_fields import (
    CardLoader,
    Fields,
    check_choice,
    fail,
    say_yaml_error,
)
from seg_perception.models.input_spec import InputSpec, read_input_spec
from seg_perception.models.output_spec import OutputSpec, read_output_spec
from seg_perception.structures import ClassTable

WeightsFormat = Literal[
    'safetensors',
    'torch',
    'onnx',
    'tflite',
    'torch_export',
    'torchscript',
    'transformers',
    'torchvision',
    'smp',
    'triton',
]

FORMAT_BY_SUFFIX: Mapping[str, WeightsFormat] = MappingProxyType(
    {
        '.safetensors': 'safetensors',
        '.pth': 'torch',
        '.pt': 'torch',
        '.onnx': 'onnx',
        '.tflite': 'tflite',
        '.pt2': 'torch_export',
        '.torchscript': 'torchscript',
    }
)
STATE_DICT_FORMATS = frozenset({'safetensors', 'torch', 'torchvision'})
"""Formats that hold tensors only and need an architecture to run."""

MAX_CLASSES = 65535
"""Ids are uint16 and 65535 is kept for unlabelled pixels."""

_SCHEMES = ('https', 'package', 'hf', 'triton')
_ADDRESSES = 'a path, package://, https://, hf:// or triton:// address'
_MAX_CARD_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r'[a-z0-9][a-z0-9_.+-]{0,99}')
_HEX = re.compile(r'[0-9a-f]+')


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where the weights are and how to know that they are the right ones.

    Attributes:
        uri: an absolute path, a path relative to the card, ``package://seg_perception/…``,
            ``https://…``, ``hf://ORG/NAME@REVISION/FILE`` of the Hugging Face hub, or
            ``triton://HOST:PORT/NAME@VERSION``, a model that a server runs.
        sha256: the file's SHA-256 as 64 lower-case hex digits, '' where unknown.
        sha256_prefix: its first digits (8 or more) where the publisher states only those.
        size_bytes: the file's exact size, None where unknown.
        format: what kind of file it is; taken from the suffix of ``uri`` where it is ''.
        key_map: prefixes of the file's tensor names and what they are in the network.
        drop_prefixes: tensors of the file to leave out, by prefix of their name.

    Raises:
        ModelCardError: a value cannot be, or an https file has no hash.
    """

    uri: str
    sha256: str = ''
    sha256_prefix: str = ''
    size_bytes: int | None = None
    format: WeightsFormat | Literal[''] = ''
    key_map: Mapping[str, str] = field(default_factory=dict)
    drop_prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = 'weights'
        if not self.uri:
            fail(f'{where}.uri', _ADDRESSES, self.uri)
        scheme, separator, _ = self.uri.partition('://')
        if separator and scheme not in _SCHEMES:
            remedy = 'use https://' if scheme == 'http' else 'use one of these'
            fail(f'{where}.uri', _ADDRESSES, self.uri, remedy)
        is_served = bool(separator) and scheme == 'triton'
        if is_served and not self.format:
            object.__setattr__(self, 'format', 'triton')
        if is_served != (self.format == 'triton'):
            fail(
                f'{where}.format', 'triton for triton:// addresses and for no others', self.format
            )
        object.__setattr__(self, 'sha256', self.sha256.lower())
        object.__setattr__(self, 'sha256_prefix', self.sha256_prefix.lower())
        if self.sha256 and (len(self.sha256) != 64 or not _HEX.fullmatch(self.sha256)):
            fail(
                f'{where}.sha256',
                '64 hex digits',
                f'{self.sha256!r} ({len(self.sha256)} characters)',
                'put a shorter hash of 8 or more digits into sha256_prefix',
            )
        prefix = self.sha256_prefix
        if prefix and not (8 <= len(prefix) <= 64 and _HEX.fullmatch(prefix)):
            fail(f'{where}.sha256_prefix', '8 to 64 hex digits', prefix)
        if self.sha256 and not self.sha256.startswith(prefix):
            fail(f'{where}.sha256_prefix', f'the start of sha256 {self.sha256}', prefix)
        if scheme == 'https' and separator and not (self.sha256 or prefix):
            fail(
                f'{where}.sha256',
                'a hash, because the weights come from the network',
                'none',
                'add the publisher\'s, or what "sha256sum FILE" says of a file you trust',
            )
        if self.size_bytes is not None and self.size_bytes <= 0:
            fail(f'{where}.size_bytes', 'a positive number of bytes', self.size_bytes)
        if not self.format:
            suffix = PurePosixPath(self.uri.partition('?')[0]).suffix.lower()
            if suffix not in FORMAT_BY_SUFFIX:
                fail(f'{where}.format', f'one of {", ".join(get_args(WeightsFormat))}', 'none')
            object.__setattr__(self, 'format', FORMAT_BY_SUFFIX[suffix])
        check_choice(f'{where}.format', self.format, get_args(WeightsFormat))

    @property
    def is_remote(self) -> bool:
        """Whether the file has to be downloaded."""
        return self.uri.startswith('https://')

    @property
    def is_served(self) -> bool:
        """Whether a server has the weights and runs them."""
        return self.format == 'triton'


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model's card, checked.

    Attributes:
        name: the catalog name.
        summary: one line for people.
        architecture: a name of ``models.nets.ARCHITECTURES``, or torchvision's where the weights
            are; None for formats that say it themselves.
        architecture_options: keyword arguments of that architecture.
        weights: where the weights are.
        input: what to feed it.
        output: what it gives.
        classes: what the labels mean.
        licence: SPDX expression of the weights' licence.
        source: where the model is described.
        measurements: what somebody measured, free form.
        path: the file it was read from, None for a card made in Python.

    Raises:
        ModelCardError: parts that contradict each other.
    """

    name: str
    summary: str
    architecture: str | None
    weights: WeightsSource
    input: InputSpec
    classes: ClassTable
    licence: str
    source: str
    output: OutputSpec = field(default_factory=OutputSpec)
    architecture_options: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            fail('name', 'lower-case letters, digits and . _ + -, 100 at most', self.name)
        if len(self.classes) > MAX_CLASSES:
            fail('classes.names', f'at most {MAX_CLASSES} classes', len(self.classes))
        needs_architecture = self.weights.format in STATE_DICT_FORMATS
        if needs_architecture and not self.architecture:
            fail('architecture', f'a network for {self.weights.format} weights', 'none')
        if not needs_architecture and (self.architecture or self.architecture_options):
            fail(
                'architecture',
                f'none, because {self.weights.format} weights come with their own',
                self.architecture,
                'remove architecture and architecture_options',
            )
        for name in self.output.options.thing_classes:
            if name not in self.classes.names:
                fail('output.options.thing_classes', 'names among classes.names', name)
        if not needs_architecture and (self.weights.key_map or self.weights.drop_prefixes):
            fail(
                'weights.key_map',
                f'no key_map or drop_prefixes for a {self.weights.format} file',
                dict(self.weights.key_map),
            )

    def about(self) -> dict[str, str]:
        """What is understood of the model, for people: what it is, what it gives and takes."""
        is_decoded = self.output.kind == 'queries'
        task = f' ({self.output.options.task})' if is_decoded else ''
        return {
            'model': self.name,
            'from': self.source,
            'family': self.summary,
            'gives': f'{self.output.kind}{task} of {len(self.classes)} classes',
            'input': str(self.input),
        }

    @property
    def label_source(self) -> str:
        """What labels are said to be from: the model's name, or its address at a server."""
        return self.weights.uri.replace('://', ':') if self.weights.is_served else self.name

    @property
    def base_dir(self) -> Path:
        """The folder that a relative ``weights.uri`` starts from."""
        return self.path.parent if self.path is not None else Path.cwd()


def load_card(path: str | Path) -> ModelCard:
    """Reads a model card.

    Args:
        path: a YAML file laid out as this module's docstring shows.

    Raises:
        ModelCardError: the file cannot be read, is not YAML, or says something that cannot be;
            the message names file and field.
    """
    path = Path(path)
    try:
        with path.open('rb') as stream:
            text = stream.read(_MAX_CARD_BYTES + 1)
    except OSError as error:
        raise ModelCardError(f'{path}: cannot be read: {error.strerror}') from error
    return dataclasses.replace(parse_card(text, str(path)), path=path.absolute())


def parse_card(text: bytes | str, origin: str) -> ModelCard:
    """Reads the text of a model card.

    Args:
        text: YAML.
        origin: where it comes from, for messages.

    Raises:
        ModelCardError: see `load_card`.
    """
    if len(text) > _MAX_CARD_BYTES:
        raise ModelCardError(
            f'{origin}: expected a model card of at most {_MAX_CARD_BYTES} bytes, got a larger one'
        )
    try:
        document = yaml.load(text, Loader=CardLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ModelCardError(f'{origin}: is not valid YAML: {say_yaml_error(error)}') from error
    try:
        return card_from_mapping(document)
    except ModelCardError as error:
        raise ModelCardError(f'{origin}: {error}') from error


def card_from_mapping(document: object) -> ModelCard:
    """Makes a card of the plain values that its YAML holds.

    Raises:
        ModelCardError: see `load_card`.
    """
    card = Fields(document, '')
    weights = card.section('weights')
    weights_source = WeightsSource(
        uri=weights.text('uri'),
        sha256=weights.text('sha256', ''),
        sha256_prefix=weights.text('sha256_prefix', ''),
        size_bytes=weights.integer('size_bytes', None),
        format=cast(WeightsFormat, weights.text('format', '')),
        key_map=MappingProxyType(weights.text_mapping('key_map')),
        drop_prefixes=weights.texts('drop_prefixes', ()),
    )
    weights.finish()
    made = ModelCard(
        name=card.text('name'),
        summary=card.text('summary'),
        architecture=card.text('architecture', '') or None,
        architecture_options=MappingProxyType(card.mapping('architecture_options')),
        weights=weights_source,
        input=read_input_spec(card.section('input')),
        output=read_output_spec(card.section('output', optional=True)),
        classes=_class_table(card.section('classes')),
        licence=card.text('licence'),
        source=card.text('source'),
        measurements=MappingProxyType(card.mapping('measurements')),
    )
    card.finish()
    return made


def _class_table(section: Fields) -> ClassTable:
    names = section.texts('names')
    rows = section.sequence('colors_rgb', ())
    section.finish()
    colors = []
    for index, row in enumerate(rows):
        is_color = isinstance(row, list) and len(row) == 3
        if not is_color or not all(type(v) is int and 0 <= v <= 255 for v in row):
            fail(f'classes.colors_rgb[{index}]', 'three integers 0 to 255', row)
        colors.append((row[0], row[1], row[2]))
    try:
        return ClassTable(names, tuple(colors))
    except ConfigurationError as error:
        raise ModelCardError(f'classes: {error}') from error
