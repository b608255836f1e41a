"""Models of transformers, from a folder or a repository of the Hugging Face hub.

Everything on the card comes from the model's own ``config.json``, ``preprocessor_config.json``
and ``README.md``; the library itself is only needed to build the network. Code that a repository
brings along is never run, and of its weights only safetensors are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seg_perception.errors import ModelCardError, ModelNotFoundError, WeightsError
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
from seg_perception.models.origins.model_folder import class_table, licence_of, read_json, slug
from seg_perception.models.origins.source import ModelSource, after

CONFIG_FILE = 'config.json'


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
    config = _read(files, CONFIG_FILE)
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


def _read(files: Files, name: str) -> dict[str, Any]:
    path = files.file(name)
    if path is None:
        raise ModelNotFoundError(f'{files.page}: expected {name}, found none')
    return read_json(path)


def _preprocessor(files: Files) -> dict[str, Any]:
    """What the image processor is told: a file of its own, or a part of the processor's."""
    if files.file('preprocessor_config.json') is not None:
        return _read(files, 'preprocessor_config.json')
    if files.file('processor_config.json') is not None:
        document = _read(files, 'processor_config.json').get('image_processor')
        if isinstance(document, dict):
            return document
    raise ModelCardError(
        f'{files.page}: expected preprocessor_config.json, which says how images are prepared, '
        f'found none; save it there: AutoImageProcessor.from_pretrained("BASE MODEL")'
        f'.save_pretrained("FOLDER"), with the model that this one was trained from'
    )


SOURCE = ModelSource(
    'hf',
    'hf:FOLDER or hf:ORG/NAME@REVISION (Hugging Face transformers)',
    after('hf'),
    card_of,
    {'transformers': hf_network.build},
)
