"""Files of the Hugging Face hub, through the hub's own library and cache.

Only files that are asked for by name are downloaded, and never any code. What is in the cache is
used where the hub cannot be reached.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seg_perception.errors import MissingExtraError, ModelNotFoundError, WeightsError

SCHEME = 'hf://'
WEIGHTS_FILES = ('model.safetensors', 'model.safetensors.index.json')
"""Names under which repositories keep safe weights, in one file or in several."""

_REPOSITORY = re.compile(
    r'(?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w./+-]+))?'
)
_COMMIT = re.compile(r'[0-9a-f]{40}')


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository at a revision.

    Attributes:
        name: ``org/name``.
        revision: a branch, tag or commit.
    """

    name: str
    revision: str = 'main'

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Reads ``org/name`` or ``org/name@revision``.

        Raises:
            ModelNotFoundError: it is neither.
        """
        match = _REPOSITORY.fullmatch(text)
        if match is None or '..' in text:
            raise ModelNotFoundError(
                f"hf: expected a folder that exists, org/name or org/name@revision, got '{text}'"
            )
        return cls(match['name'], match['revision'] or 'main')

    def __str__(self) -> str:
        return f'{self.name}@{self.revision}'

    @property
    def page(self) -> str:
        """Where people read about it."""
        return f'https://huggingface.co/{self.name}/tree/{self.revision}'

    def uri(self, file: str) -> str:
        """The address of a file for a card."""
        return f'{SCHEME}{self}/{file}'

    def file(self, file: str) -> Path | None:
        """A file in the cache, downloaded where it is not there yet; None where there is none.

        Raises:
            MissingExtraError: the hub's library is not installed.
            ModelNotFoundError: no such repository or revision, or it may not be read.
            WeightsError: the hub cannot be reached and the file is not in the cache.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with _explained(self, file):
            try:
                return Path(hf_hub_download(self.name, file, revision=self.revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                return None

    def pinned(self, file: str) -> tuple[Repository, Path]:
        """The repository at the commit that its revision means now, by way of a file in it.

        Raises:
            ModelNotFoundError: the repository has no such file.
            MissingExtraError, ModelNotFoundError, WeightsError: see `file`.
        """
        _require_library()
        path = self.file(file)
        if path is None:
            raise ModelNotFoundError(
                f'hf:{self}: expected a model of transformers, found no {file} in {self.page}'
            )
        commit = next(p.name for p in path.parents if _COMMIT.fullmatch(p.name))
        return Repository(self.name, commit), path

    def weights_name(self) -> str:
        """Which of `WEIGHTS_FILES` it has, without downloading it.

        Raises:
            WeightsError: it has none, or the hub cannot be reached.
        """
        from huggingface_hub import file_exists, try_to_load_from_cache

        for name in WEIGHTS_FILES:
            if isinstance(try_to_load_from_cache(self.name, name, revision=self.revision), str):
                return name
        for name in WEIGHTS_FILES:
            with _explained(self, name):
                if file_exists(self.name, name, revision=self.revision):
                    return name
        raise WeightsError(
            f'hf:{self}: expected {" or ".join(WEIGHTS_FILES)}, found neither; pickled weights '
            f'(.bin) can run code and are refused. If you trust them, convert them once on a '
            f'machine that may run code: model.save_pretrained("FOLDER"), then hf:FOLDER'
        )


def weights_file(uri: str) -> Path:
    """The local path of ``hf://org/name@revision/file``, downloaded where it is not there yet.

    Of weights in several files it is the index; the files that it names are there too.

    Raises:
        MissingExtraError, ModelNotFoundError, WeightsError: see `Repository.file`; also where
            the repository has no such file.
    """
    _require_library()
    address, _, file = uri.removeprefix(SCHEME).rpartition('/')
    repository = Repository.parse(address)
    path = repository.file(file)
    if path is None:
        raise WeightsError(f'{uri}: expected a file of {repository.page}, found none')
    if file.endswith('.index.json'):
        for shard in shard_names(path):
            if repository.file(shard) is None:
                raise WeightsError(f'{uri}: names {shard}, which is not in {repository.page}')
    return path


def cached_file(uri: str) -> Path | None:
    """The local path of ``hf://org/name@revision/file``; None where it is not in the cache."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    address, _, file = uri.removeprefix(SCHEME).rpartition('/')
    repository = Repository.parse(address)
    path = try_to_load_from_cache(repository.name, file, revision=repository.revision)
    return Path(path) if isinstance(path, str) else None


def shard_names(index: Path) -> list[str]:
    """The files that an index of weights in several files names.

    Raises:
        WeightsError: it is not such an index, or names files in other folders.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding='utf-8'))['weight_map'].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f'{index}: is not an index of weights: {error!r}') from error
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r'[\w.-]+\.safetensors', name):
            raise WeightsError(
                f'{index}: expected names of .safetensors files beside it, got {name!r}'
            )
    return names


def _require_library() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('huggingface-hub', 'hf', 'load models of the hub') from error


@contextmanager
def _explained(repository: Repository, file: str) -> Iterator[None]:
    """One clear line for whatever the hub's library says."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise ModelNotFoundError(
            f'hf:{repository}: expected a repository that can be read, got none of that name or a '
            f'private or gated one; check {repository.page}, and log in with "hf auth login"'
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"hf:{repository}: expected a branch, tag or commit, got '{repository.revision}', "
            f'which the repository does not have'
        ) from error
    except errors.EntryNotFoundError as error:
        if not isinstance(error, errors.LocalEntryNotFoundError):
            raise
        raise WeightsError(_unreachable(repository, file)) from error
    except Exception as error:
        # connections end in errors of whichever HTTP library the hub's version uses
        raise WeightsError(
            f'{_unreachable(repository, file)} ({type(error).__name__}: {str(error)[:200]})'
        ) from error


def _unreachable(repository: Repository, file: str) -> str:
    return (
        f'hf:{repository}: {file} is not in the cache and the hub cannot be reached; go online '
        f'once (seg-perception models pull), or copy the folder here and write hf:FOLDER'
    )
