"""Whether a checkpoint belongs to a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from seg_perception.errors import ConfigurationError
from seg_perception.training.config import TrainConfig
from seg_perception.training.datasets import SegmentationDataset

Resume = Literal['auto', 'never', 'must']

# Fields that may differ when a run is resumed: where things are and how they are computed.
_FREE_FIELDS = {
    'training': ('num_workers', 'num_threads', 'checkpoint_every_steps', 'patience'),
    'model': ('weights', 'backbone'),
    'data': ('root',),
    '': ('summary', 'licence', 'source'),
}


def identity(
    config: TrainConfig,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    device_type: str,
) -> dict[str, Any]:
    """What must be the same for a run to be resumed, in plain values."""
    document = json.loads(json.dumps(dict(config.document)))
    for section, names in _FREE_FIELDS.items():
        fields = document.get(section, {}) if section else document
        for name in names:
            fields.pop(name, None)
    return {
        'config': document,
        'classes': list(train_set.classes.names),
        'num_images': [len(train_set), len(val_set)],
        'device': device_type,
    }


def check_resume(resume: Resume, has_checkpoint: bool, run_dir: Path) -> None:
    """Makes sure that a folder is as the user expects it.

    Raises:
        ConfigurationError: it is not.
    """
    if resume == 'must' and not has_checkpoint:
        raise ConfigurationError(f'{run_dir}: expected a checkpoint to resume from, found none')
    if resume == 'never' and has_checkpoint:
        raise ConfigurationError(
            f'{run_dir}: expected no earlier run, found its checkpoint; resume it, give another '
            f'--out, or remove the folder'
        )


def check_datasets(train_set: SegmentationDataset, val_set: SegmentationDataset) -> None:
    """Makes sure that two datasets belong together.

    Raises:
        ConfigurationError: they do not, or one is empty.
    """
    for part, dataset in (('train', train_set), ('val', val_set)):
        if not len(dataset):
            raise ConfigurationError(f'data.{part}: expected images, found none')
    if train_set.classes.names != val_set.classes.names:
        raise ConfigurationError(
            f'data: expected the same classes in train and val, got '
            f'{", ".join(train_set.classes.names)} and {", ".join(val_set.classes.names)}'
        )


def differences(before: Any, now: Any, where: str = '') -> list[str]:
    """Names of the fields that are not the same."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            name
            for key in sorted({*before, *now})
            for name in differences(
                before.get(key), now.get(key), f'{where}.{key}'.removeprefix('.config.')
            )
        ]
    return [] if before == now else [where.removeprefix('.')]
