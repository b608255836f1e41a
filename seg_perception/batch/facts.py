"""What makes results what they are: the model, its weights, and the options that change them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_perception.backends.model_facts import library_versions
from seg_perception.models import ModelCard
from seg_perception.models.weights import local_path, sha256_of
from seg_perception.pipeline import Segmenter

_DIGITS = 12


def result_facts(
    segmenter: Segmenter, weights_path: Path | None = None, class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """Facts of results for a `DoneList`.

    Args:
        segmenter: makes them.
        weights_path: what it was given as such.
        class_names: of the classes that are kept; all where empty.
    """
    about = segmenter.description()
    height, width = segmenter.card.input.size_hw
    return {
        'model': segmenter.card.name,
        'weights': weights_id(segmenter.card, weights_path),
        'input size': f'{width}x{height}',
        'words': list(segmenter.words),
        'classes': list(class_names),
        'confidence threshold': segmenter.confidence_threshold,
        'engine': about.get('engine', about['backend']),
        'precision': about['precision'],
        'device': segmenter.device.type,
        'version': library_versions('seg_perception').get('seg_perception', 'unknown'),
    }


def weights_id(card: ModelCard, weights_path: Path | None) -> str:
    """Tells weights apart; of a folder by the sizes and times of its files."""
    weights = card.weights
    if weights_path is None and (known := weights.sha256 or weights.sha256_prefix):
        return known[:_DIGITS]
    if weights_path is None and (weights.is_remote or weights.uri.startswith('hf://')):
        return weights.uri
    path = weights_path or local_path(weights, card.base_dir)
    if path.is_file():
        return sha256_of(path)[:_DIGITS]
    stats = [(file, file.stat()) for file in sorted(path.rglob('*')) if file.is_file()]
    text = repr([(str(f.relative_to(path)), s.st_size, s.st_mtime_ns) for f, s in stats])
    return hashlib.sha256(text.encode(errors='replace')).hexdigest()[:_DIGITS]
