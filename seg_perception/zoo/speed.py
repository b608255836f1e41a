"""How fast a model is on this machine: measured when asked, kept in the cache."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seg_perception.errors import SegPerceptionError
from seg_perception.models import ModelCard, list_models, resolve
from seg_perception.models.weights import default_cache_dir
from seg_perception.zoo.location import local_weights

if TYPE_CHECKING:
    import numpy as np

    from seg_perception.backends import RunOptions

IMAGE_HW = (480, 640)
"""Size of the image that is segmented, from its bytes to labels and confidence of its size."""

_NUM_RUNS = 10
_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        ms: median time of an image.
        engine: what ran the model.
        device: where.
        precision: of its arithmetic.
    """

    ms: float
    engine: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f'{self.ms:.{0 if self.ms >= 10 else 1}f} ms ({self.engine}, {self.precision})'


def find_speed(card: ModelCard) -> Speed | None:
    """What was measured of a model before, on this machine, with these libraries."""
    # Most machines have measured nothing; then there is no need for what loads slowly.
    if not any((default_cache_dir() / 'engines').glob(f'{_entry_name(card)}-*')):
        return None
    from seg_perception.backends.engine_cache import EngineCache

    entry = EngineCache().find(_entry_name(card), _facts(card))
    return None if entry is None else Speed(**entry.notes)


def measure_speed(card: ModelCard, options: RunOptions | None = None) -> Speed:
    """Measures a model and keeps the result for `find_speed`.

    Args:
        card: the model's; its weights are downloaded where they are not here.
        options: how to run it; by default as the node does.

    Raises:
        SegPerceptionError: it cannot be run here.
    """
    from seg_perception.backends import RunOptions
    from seg_perception.backends.engine_cache import EngineCache
    from seg_perception.pipeline import Segmenter

    options = options or RunOptions()
    image = _picture()
    with Segmenter(
        card,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        num_threads=options.num_threads,
        trust_model_code=options.trust_model_code,
    ) as segmenter:
        segmenter.warm_up(IMAGE_HW)
        segmenter.segment([image])
        times_ms: list[float] = []
        deadline_s = time.monotonic() + _MAX_S
        while len(times_ms) < _NUM_RUNS and not (times_ms and time.monotonic() > deadline_s):
            start_s = time.perf_counter()
            segmenter.segment([image])
            times_ms.append((time.perf_counter() - start_s) * 1e3)
        about = segmenter.description()
    speed = Speed(
        ms=statistics.median(times_ms),
        engine=about.get('engine', about['backend']),
        device=about['device'],
        precision=about['precision'],
    )
    cache, name, facts = EngineCache(), _entry_name(card), _facts(card)
    if (old := cache.find(name, facts)) is not None:
        cache.forget(old)
    cache.entry(name, facts, lambda _: dataclasses.asdict(speed))
    return speed


def measure_all(tell: Callable[[str], None]) -> None:
    """Measures every model of the catalog whose weights are here.

    Args:
        tell: told of each, and why one cannot be measured.
    """
    for name in list_models():
        try:
            card = resolve(name)
            if local_weights(card) is not None:
                tell(f'{name}: {measure_speed(card)}')
        except SegPerceptionError as error:
            tell(f'{name}: not measured: {error}')


def _entry_name(card: ModelCard) -> str:
    return f'{card.name}-speed'


def _facts(card: ModelCard) -> dict[str, object]:
    """What decides how fast it is, without reading the weights."""
    import torch

    from seg_perception.backends.model_facts import library_versions, machine_facts

    path = local_weights(card)
    stat = path.stat() if path is not None else None
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    return {
        'weights': (card.weights.sha256, stat.st_size, stat.st_mtime_ns) if stat else None,
        'size_hw': card.input.size_hw,
        **machine_facts(device),
        'versions': library_versions(
            'torch', 'onnxruntime', 'onnxruntime-gpu', 'openvino', 'ai-edge-litert'
        ),
    }


def _picture() -> np.ndarray:
    """An image with regions and noise: what costs nothing to label would flatter the model."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    height, width = IMAGE_HW
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    noise = rng.integers(-8, 9, (height, width, 3), dtype=np.int16)
    image: np.ndarray = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    return image
