"""The order in which a run sees its data, fixed by its seed and open at any step.

The run is one long row of positions; position ``p`` is item ``p % n`` of pass ``p // n``, whose
order is drawn from ``(seed, pass)``. Every step takes the next positions, so a resumed run goes on
exactly where it was, inside a pass too, however many processes load.

B batch, H/W crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from seg_perception.training.augment import Augmenter
from seg_perception.training.datasets import SegmentationDataset
from seg_perception.training.losses import BorderWeighting

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Input (3, H, W), labels (H, W) int64, and pixel weights (H, W) or nothing, shape (0,)."""


class TrainingSamples(Dataset[Item]):
    """Augmented samples by position.

    Args:
        dataset: what is augmented.
        augmenter: how.
        border_weighting: makes the pixel weights that some losses need; None for none.
        seed: of the order.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augmenter: Augmenter,
        border_weighting: BorderWeighting | None,
        seed: int,
    ) -> None:
        self._dataset = dataset
        self._augmenter = augmenter
        self._border_weighting = border_weighting
        self._seed = seed
        self._order: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, position: int) -> Item:
        """The sample at a position of the run."""
        epoch, place = divmod(position, len(self._dataset))
        if self._order[0] != epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._dataset))
            self._order = (epoch, order.tolist())
        index = self._order[1][place]
        sample = self._dataset[index]
        x_3HW, labels_HW = self._augmenter(
            sample.image_YX3, sample.labels_YX, epoch=epoch, index=index
        )
        weights = torch.empty(0)
        if self._border_weighting is not None:
            weights = torch.from_numpy(self._border_weighting(labels_HW.numpy()))
        return x_3HW, labels_HW, weights


def batches(
    samples: TrainingSamples,
    *,
    first: int,
    num_batches: int,
    batch_size: int,
    num_workers: int,
    is_pinned: bool,
) -> Iterator[list[torch.Tensor]]:
    """Batches from position ``first`` on, in order."""
    starts = range(first, first + num_batches * batch_size, batch_size)
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=[list(range(start, start + batch_size)) for start in starts],
        num_workers=num_workers,
        pin_memory=is_pinned,
        worker_init_fn=_start_worker,
        # Its own, or the loader would draw from the generator that dropout uses.
        generator=torch.Generator(),
    )
    return iter(loader)


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
