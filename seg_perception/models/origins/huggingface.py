"""Models of transformers, from a folder or a repository of the Hugging Face hub.

Everything on the card comes from the model's own ``config.json``, ``preprocessor_config.json``
and ``README.md``; the library itself is only needed to build the network. Code that a repository
brings along is never run, and of its weights only safetensors are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from seg_perception.errors import (
    ConfigurationError,
    ModelCardError,
    ModelNotFoundError,
    WeightsError,
)
from seg_perception.models.card import ModelCard, WeightsSource
from seg_perception.models.hub import WEIGHTS_FILES, Repository
from seg_perception.models.origins import hf_network
from seg_perception.models.origins.hf_families import (
    ASKED_CLASSES,
    TOKENIZER_FILES,
    family_of,
    output_spec,
)
from seg_perception.models.origins.hf_input import input_spec_of
from seg_perception.models.origins.source import ModelSource, after
from seg_perception.structures import ClassTable

CONFIG_FILE = 'config.json'
UNKNOWN_LICENCE = 'not stated'

_MAX_JSON_BYTES = 16 * 1024 * 1024
_FRONT_MATTER = re.compile(r'\A---\s*\n(.*?)\n---\s*\n', re.DOTALL)


class Files(Protocol):
    """The files of a model, wherever they are."""

    @property
    def page(self) -> str:
        """Where people read about the model."""
        ...

    def file(self, file: str) -> Path | None:
        """The local path of a file; None where the model has none of that name."""
        ...

    def weights_uri(self) -> str:
        """Where its safe weights are; raises WeightsError where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as ``save_pretrained`` writes it."""

    path: Path

    @property
    def page(self) -> str:
        """See `Files.page`."""
        return str(self.path)

    def file(self, file: str) -> Path | None:
        """See `Files.file`."""
        path = self.path / file
        return path if path.is_file() else None

    def weights_uri(self) -> str:
        """See `Files.weights_uri`."""
        for name in WEIGHTS_FILES:
            if (path := self.file(name)) is not None:
                return str(path)
        pickled = sorted(p.name for p in self.path.glob('*.bin'))
        raise WeightsError(
            f'{self.path}: expected {" or ".join(WEIGHTS_FILES)}, found '
            + (f'only {", ".join(pickled)}' if pickled else 'neither')
            + '; pickled weights can run code and are refused. If you trust them, convert them '
            'once on a machine that may run code: model.save_pretrained("FOLDER")'
        )


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository at a commit."""

    repository: Repository

    @property
    def page(self) -> str:
        """See `Files.page`."""
        return self.repository.page

    def file(self, file: str) -> Path | None:
        """See `Files.file`."""
        return self.repository.file(file)

    def weights_uri(self) -> str:
        """See `Files.weights_uri`."""
        return self.repository.uri(self.repository.weights_name())


def card_of(model: str) -> ModelCard:
    """Makes a card of what ``hf:FOLDER``, ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION`` says.

    ``#semantic``, ``#instance`` or ``#panoptic`` behind it chooses what is made of the queries of
    Mask2Former and its kin.

    Raises:
        ModelNotFoundError: no such folder or repository.
        ModelCardError: it is no segmentation model that is known here, or says too little.
        WeightsError: it has no safe weights, or the hub cannot be reached.
        MissingExtraError: the hub's library is not installed.
    """
    text, _, task = model.removeprefix('hf:').partition('#')
    files, name = _locate(text)
    config = read_json(files, CONFIG_FILE)
    family = family_of(config, f'hf:{text}')
    if family.needs_tokenizer:
        for file in TOKENIZER_FILES:
            files.file(file)  # is beside the config then, where the network is built
    classes = ASKED_CLASSES.get(family.kind) or class_table(config, f'hf:{text}')
    preprocessor = _preprocessor(files)
    spec = input_spec_of(preprocessor, f'hf:{text}')
    output = output_spec(
        family,
        classes,
        spec,
        task,
        name,
        has_windows=bool(preprocessor.get('do_split_image')),
    )
    return ModelCard(
        name=slug(name),
        summary=f'{family.title} of transformers',
        architecture=None,
        weights=WeightsSource(files.weights_uri(), format='transformers'),
        input=spec,
        output=output,
        classes=classes,
        licence=licence_of(files.file('README.md')),
        source=files.page,
    )


def _locate(text: str) -> tuple[Files, str]:
    """The files of a model and what it is called."""
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG_FILE).is_file():
            raise ModelNotFoundError(
                f'hf:{text}: expected a folder with {CONFIG_FILE}, as save_pretrained of '
                f'transformers writes it, found none in {folder.absolute()}'
            )
        return Folder(folder.absolute()), folder.absolute().name
    if not text or text[0] in './~':
        raise ModelNotFoundError(
            f'hf:{text}: expected a folder at {folder.absolute()}, found none'
        )
    repository, _ = Repository.parse(text).pinned(CONFIG_FILE)
    return Remote(repository), repository.name


def read_json(files: Files, name: str) -> dict[str, Any]:
    """A JSON object of a model's files.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelCardError: it is no JSON object.
    """
    path = files.file(name)
    if path is None:
        raise ModelNotFoundError(f'{files.page}: expected {name}, found none')
    try:
        with path.open('rb') as stream:
            document = json.loads(stream.read(_MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelCardError(f'{path}: is not valid JSON: {str(error)[:200]}') from error
    if not isinstance(document, dict):
        raise ModelCardError(f'{path}: expected an object, got {type(document).__name__}')
    return document


def _preprocessor(files: Files) -> dict[str, Any]:
    """What the image processor is told: a file of its own, or a part of the processor's."""
    if files.file('preprocessor_config.json') is not None:
        return read_json(files, 'preprocessor_config.json')
    if files.file('processor_config.json') is not None:
        document = read_json(files, 'processor_config.json').get('image_processor')
        if isinstance(document, dict):
            return document
    raise ModelCardError(
        f'{files.page}: expected preprocessor_config.json, which says how images are prepared, '
        f'found none; save it there: AutoImageProcessor.from_pretrained("BASE MODEL")'
        f'.save_pretrained("FOLDER"), with the model that this one was trained from'
    )


def class_table(config: Mapping[str, Any], where: str) -> ClassTable:
    """The classes that a config's ``id2label`` names; a repeated name gets its id behind it.

    Raises:
        ModelCardError: the ids have gaps, or names are missing.
    """
    labels = config.get('id2label')
    if labels is None and isinstance(count := config.get('num_labels'), int):
        labels = {str(i): f'LABEL_{i}' for i in range(count)}
    if not isinstance(labels, dict) or not labels:
        raise ModelCardError(
            f'{where}: config.json: expected id2label, the names of the classes, got {labels!r}'
        )
    try:
        by_id = {int(key): str(name) for key, name in labels.items()}
    except ValueError as error:
        raise ModelCardError(
            f'{where}: config.json: id2label: expected ids as keys, {error}'
        ) from error
    if sorted(by_id) != list(range(len(labels))):
        missing = sorted(set(range(len(labels))) - set(by_id))
        raise ModelCardError(
            f'{where}: config.json: id2label: expected the ids 0 to {len(labels) - 1}, '
            f'got none for {missing[:5]}'
        )
    try:
        return ClassTable(distinct_names([by_id[i] for i in range(len(by_id))]))
    except ConfigurationError as error:
        raise ModelCardError(f'{where}: config.json: id2label: {error}') from error


def distinct_names(names: list[str]) -> tuple[str, ...]:
    """The names with their id behind those that occur several times."""
    return tuple(
        name if names.count(name) == 1 and name else f'{name} ({i})'.lstrip()
        for i, name in enumerate(names)
    )


def licence_of(readme: Path | None) -> str:
    """What a model's README says in its front matter; ``not stated`` where it says nothing."""
    if readme is None:
        return UNKNOWN_LICENCE
    match = _FRONT_MATTER.match(readme.read_text(encoding='utf-8', errors='replace'))
    if match is None:
        return UNKNOWN_LICENCE
    try:
        metadata = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return UNKNOWN_LICENCE
    licence = metadata.get('license') if isinstance(metadata, dict) else None
    return str(licence) if licence else UNKNOWN_LICENCE


def slug(name: str) -> str:
    """A name for a card, made of a model's name or folder."""
    return re.sub(r'[^a-z0-9_.+-]+', '_', name.lower()).strip('_.+-')[:100] or 'model'


SOURCE = ModelSource(
    'hf',
    'hf:FOLDER or hf:ORG/NAME@REVISION (Hugging Face transformers)',
    after('hf'),
    card_of,
    {'transformers': hf_network.build},
)
