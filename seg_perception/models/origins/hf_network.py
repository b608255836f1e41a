"""Torch networks of transformers: built and filled by the library, wrapped to plain tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.errors import MissingExtraError, MissingLibraryError, WeightsError
from seg_perception.models.card import ModelCard
from seg_perception.models.hub import shard_names
from seg_perception.models.origins.hf_families import TOKENIZER_FILES, Family, family_of

if TYPE_CHECKING:
    import torch


def build(card: ModelCard, path: Path) -> torch.nn.Module:
    """Builds a model of transformers.

    Args:
        card: from the ``hf`` source.
        path: its weights, or the index of them, in the folder that has their ``config.json``.

    Returns:
        A network that gives logits (B, C, H, W), or class logits (B, Q, C + 1) and mask logits
        (B, Q, H, W), as the card says; or a `PromptedNetwork` or a `WordedNetwork`.

    Raises:
        MissingLibraryError: transformers is not installed, or too old for the model.
        WeightsError: the weights are incomplete, broken, or those of another model.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError('transformers', 'hf', 'run models of transformers') from error
    config_path = path.parent / 'config.json'
    if not config_path.is_file():
        raise WeightsError(
            f'{path}: expected config.json beside it, found none; give the whole folder as '
            f'model:=hf:FOLDER instead of weights_path'
        )
    config = json.loads(config_path.read_text(encoding='utf-8'))
    family = family_of(config, str(config_path.parent))
    model_class = getattr(transformers, family.class_name, None)
    if model_class is None:
        raise MissingLibraryError(
            f'a newer transformers than {transformers.__version__}',
            f'run {family.title}',
            'pip install --upgrade transformers',
        )
    if path.name.endswith('.index.json'):
        _check_shards(path)
    with _quiet(transformers):
        try:
            model, report = model_class.from_pretrained(
                path.parent,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except ImportError as error:
            raise _missing(error, family) from error
        except Exception as error:
            reason = ' '.join(str(error).split())[:300]
            if 'torchvision::' in reason:  # one that was built for another torch
                raise _missing(error, family) from error
            raise WeightsError(
                f'{path}: expected the weights of {family.class_name}, got {reason}'
            ) from error
    _check_complete(report, model, path)
    return _wrapped(model.float().eval(), family, card, path.parent)


def _missing(error: Exception, family: Family) -> MissingLibraryError:
    """What the library lacks to build a network."""
    if 'torchvision::' in str(error):
        return MissingLibraryError(
            f'a torchvision that was built for torch {version("torch")}',
            f'run {family.title} with its backbone',
            'pip install --force-reinstall torchvision, from where this torch came',
        )
    if 'timm' in str(error):  # which the library takes for missing without torchvision too
        return MissingExtraError(
            'timm', 'timm', f'run {family.title} with its backbone, beside torchvision'
        )
    named = error.name if isinstance(error, ImportError) else None
    library = named or 'a library of transformers'
    return MissingLibraryError(
        library, f'run {family.title}', f'pip install {named or "--upgrade transformers"}'
    )


def _check_shards(index: Path) -> None:
    missing = [name for name in shard_names(index) if not (index.parent / name).is_file()]
    if missing:
        raise WeightsError(f'{index}: names files that are not there: {", ".join(missing[:3])}')


def _check_complete(report: Any, model: torch.nn.Module, path: Path) -> None:
    """What the library only warns of: tensors that it made up because the file has none."""
    missing = sorted(map(str, report['missing_keys']))
    wrong = sorted(str(entry) for entry in report['mismatched_keys'])
    if missing or wrong:
        listed = ', '.join((missing + wrong)[:3])
        raise WeightsError(
            f'{path}: expected all tensors of {type(model).__name__}, got {len(missing)} missing '
            f'and {len(wrong)} of another shape: {listed}; is it a backbone without its '
            f'segmentation head, or does id2label have another number of classes?'
        )
    broken = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if broken:
        raise WeightsError(f'{path}: expected finite numbers, got NaN or inf in {broken[0]}')


def _wrapped(
    model: torch.nn.Module, family: Family, card: ModelCard, folder: Path
) -> torch.nn.Module:
    from seg_perception.models.nets.transformers_clipseg import TransformersClipSeg
    from seg_perception.models.nets.transformers_sam import TransformersSam, TransformersSam2
    from seg_perception.models.origins import hf_wrappers

    if family.kind == 'prompts':
        is_sam2 = family.class_name == 'Sam2Model'
        return (TransformersSam2 if is_sam2 else TransformersSam)(model)
    if family.kind == 'words':
        return TransformersClipSeg(model, _tokenizer(folder))
    if family.kind == 'logits':
        return hf_wrappers.Logits(model)
    if family.has_task_input:
        return hf_wrappers.TaskQueries(model, _task_ids(card, folder))
    queries = hf_wrappers.Queries(model)
    if card.output.kind == 'probabilities':
        return hf_wrappers.SemanticWindows(queries)
    return queries


def _task_ids(card: ModelCard, folder: Path) -> list[int]:
    """The tokens that tell OneFormer what to do, as its own processor makes them."""
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    tokens = _tokenizer(folder)(
        f'the task is {card.output.options.task}',
        padding='max_length',
        max_length=int(config.get('task_seq_len', 77)),
        truncation=True,
    )
    pairs = zip(tokens['input_ids'], tokens['attention_mask'], strict=True)
    return [int(token) * int(is_used) for token, is_used in pairs]


def _tokenizer(folder: Path) -> Any:
    import transformers

    try:
        # The library makes one without any words where there are no files.
        if not any((folder / name).is_file() for name in ('tokenizer.json', 'vocab.json')):
            raise FileNotFoundError('none of them')
        return transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise WeightsError(
            f'{folder}: expected the files of its tokenizer ({", ".join(TOKENIZER_FILES)}), got '
            f'{" ".join(str(error).split())[:200]}'
        ) from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bars and notes of the library while it loads; errors are raised anyway."""
    log = transformers.utils.logging
    verbosity, has_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if has_bars:
            log.enable_progress_bar()
