"""Where a model's weights are on this machine, and getting them there."""

from __future__ import annotations

from pathlib import Path

from seg_perception.errors import ConfigurationError
from seg_perception.models import hub
from seg_perception.models.card import ModelCard
from seg_perception.models.weights import Progress, cached_path, fetch_weights, local_path


def local_weights(card: ModelCard, cache_dir: str | Path | None = None) -> Path | None:
    """The file or folder of the weights; None where they are to be downloaded, or missing."""
    uri = card.weights.uri
    if uri.startswith(hub.SCHEME):
        return hub.cached_file(uri)
    if card.weights.is_served:
        return None
    if card.weights.is_remote:
        path = cached_path(card.weights, cache_dir)
        return path if path.is_file() else None
    path = local_path(card.weights, card.base_dir)
    return path if path.exists() else None


def size_bytes(card: ModelCard) -> int | None:
    """How large the weights are; None where nobody says."""
    path = local_weights(card)
    if path is not None and path.is_file():
        return path.stat().st_size
    if path is not None:
        return sum(file.stat().st_size for file in path.rglob('*') if file.is_file())
    return card.weights.size_bytes


def pull(card: ModelCard, progress: Progress | None = None) -> Path:
    """Downloads the weights into the cache, where they are not there yet, and verifies them.

    Args:
        card: the model's.
        progress: told about a download; the hub's library shows its own.

    Returns:
        Where they are.

    Raises:
        ConfigurationError: they are at a server and stay there.
        WeightsError: they are missing, altered or cannot be downloaded.
        MissingExtraError, ModelNotFoundError: see ``models.hub``.
    """
    if card.weights.is_served:
        raise ConfigurationError(
            f'{card.name}: expected weights to download, those of {card.weights.uri} stay at '
            f'their server; nothing has to be pulled'
        )
    return fetch_weights(card.weights, card.base_dir, progress=progress)
