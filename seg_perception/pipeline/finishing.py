"""From what a model gave to label images, confidence and objects, on its device.

Legend: B images, C classes, H/W model grid, Y/X output pixels, N objects.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seg_perception.backends import InstanceOutput, ModelOutput
from seg_perception.imaging.resize_plan import ResizeGeometry
from seg_perception.models import ModelCard
from seg_perception.postprocess import GridSampler, label_objects
from seg_perception.postprocess.label_images import LabelRules, label_images
from seg_perception.postprocess.unseen import hide_unseen
from seg_perception.structures import ClassTable

_MAX_SAMPLERS = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made of images.

    Attributes:
        confidence: whether confidence is, where the model gives scores.
        objects: whether objects are, where the model tells them apart.
        output_size_hw: size of the results; each image's own where None.
        confidence_threshold: pixels less sure than this get the unlabelled id.
    """

    confidence: bool
    objects: bool
    output_size_hw: tuple[int, int] | None
    confidence_threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What was made of some images of one size, on the device.

    Attributes:
        indices: which images.
        classes: what their class ids mean.
        tensors: by name labels (B, Y, X); is_nan, see `LabelImages`; confidence (B, Y, X);
            owners (Y, X), class_ids (N,) and scores (N,) of the objects of a single image.
    """

    indices: list[int]
    classes: ClassTable
    tensors: dict[str, torch.Tensor]


class Finisher:
    """Makes results of a model's output; keeps what it needs for sizes seen before.

    For any thread, and several at once.

    Args:
        card: the model's.
        device: where the output is.
    """

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        self._card = card
        self._device = device
        self._samplers: dict[tuple[Any, ...], GridSampler] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        output: ModelOutput,
        indices: Sequence[int],
        geometries: Sequence[ResizeGeometry],
        wanted: Wanted,
    ) -> Iterator[Part]:
        """Results of the images of a batch, on a GPU those of one geometry together.

        Args:
            output: of the batch.
            indices: whose images these are.
            geometries: how they lie in the model's input.
            wanted: what to make of them.
        """
        if output.instances is not None:
            for i, (found, geometry) in enumerate(zip(output.instances, geometries, strict=True)):
                classes = self._classes_of(output, i)
                made = self._finish_objects(found, geometry, classes, wanted)
                yield Part([indices[i]], classes, _without_unseen(made, geometry, classes))
            return
        groups: dict[object, list[int]] = {}
        for i, geometry in enumerate(geometries):
            groups.setdefault(i if self._device.type == 'cpu' else geometry, []).append(i)
        for members in groups.values():
            geometry, classes = geometries[members[0]], self._classes_of(output, members[0])
            made = self._finish_alike(output, members, geometry, classes, wanted)
            tensors = _without_unseen(made, geometry, classes)
            yield Part([indices[i] for i in members], classes, tensors)

    def _finish_alike(
        self,
        output: ModelOutput,
        members: list[int],
        geometry: ResizeGeometry,
        classes: ClassTable,
        wanted: Wanted,
    ) -> dict[str, torch.Tensor]:
        output_hw = wanted.output_size_hw or geometry.source_hw
        if output.labels_BHW is not None:
            labels_BHW = _chosen(output.labels_BHW, members)
            sampler = self.sampler(tuple(labels_BHW.shape[1:]), geometry, output_hw)
            labels_BYX = torch.stack([sampler.nearest(labels_HW) for labels_HW in labels_BHW])
            return {'labels': labels_BYX.to(_label_dtype(classes))}
        assert output.logits_BCHW is not None
        logits_BCHW = _chosen(output.logits_BCHW, members)
        sampler = self.sampler(tuple(logits_BCHW.shape[2:]), geometry, output_hw)
        rules = LabelRules(
            classes,
            output.is_probabilities,
            self._card.output.temperature,
            wanted.confidence_threshold,
            wanted.confidence,
        )
        made = label_images(logits_BCHW, sampler, rules)
        tensors = {'labels': made.labels_BYX}
        if made.is_nan is not None:
            tensors['is_nan'] = made.is_nan
        if made.confidence_BYX is not None:
            tensors['confidence'] = made.confidence_BYX
        return tensors

    def _finish_objects(
        self,
        found: InstanceOutput,
        geometry: ResizeGeometry,
        classes: ClassTable,
        wanted: Wanted,
    ) -> dict[str, torch.Tensor]:
        output_hw = wanted.output_size_hw or geometry.source_hw
        sampler = self.sampler(tuple(found.mask_logits_NHW.shape[1:]), geometry, output_hw)
        options = self._card.output.options
        made = label_objects(
            found,
            sampler,
            classes,
            thing_ids=[classes.id_of(name) for name in options.thing_classes],
            confidence=wanted.confidence,
            confidence_threshold=wanted.confidence_threshold,
            overlap_threshold=options.overlap_threshold,
        )
        tensors = {'labels': made.labels_YX.to(_label_dtype(classes))[None]}
        if made.confidence_YX is not None:
            tensors['confidence'] = made.confidence_YX[None]
        if wanted.objects:
            tensors['owners'] = made.owners_YX.to(torch.uint16)
            tensors |= {'class_ids': found.class_ids_N, 'scores': found.scores_N}
        return tensors

    def tables(self) -> list[GridSampler]:
        """What is kept from image to image."""
        with self._lock:
            return list(self._samplers.values())

    def forget(self) -> None:
        """Frees what is kept on the device."""
        with self._lock:
            self._samplers.clear()

    def sampler(
        self, grid_hw: tuple[int, ...], geometry: ResizeGeometry, output_hw: tuple[int, int]
    ) -> GridSampler:
        """What samples a grid of the model's at the pixels of a result."""
        key = (grid_hw, geometry, output_hw)
        with self._lock:
            sampler = self._samplers.pop(key, None)
            if sampler is None:
                sampler = GridSampler(
                    (grid_hw[0], grid_hw[1]),
                    geometry,
                    output_hw,
                    align_corners=self._card.output.align_corners,
                    device=self._device,
                )
            self._samplers[key] = sampler  # most recently used last
            while len(self._samplers) > _MAX_SAMPLERS:
                del self._samplers[next(iter(self._samplers))]
            return sampler

    def _classes_of(self, output: ModelOutput, index: int) -> ClassTable:
        return self._card.classes if output.classes is None else output.classes[index]


def _chosen(images: torch.Tensor, members: list[int]) -> torch.Tensor:
    """Some images of a batch: a view of a row of them, else a copy.

    Indexing by a list would upload it, and that cannot be captured in a graph.
    """
    if members == list(range(members[0], members[-1] + 1)):
        return images[members[0] : members[-1] + 1]
    return torch.stack([images[i] for i in members])


def _label_dtype(classes: ClassTable) -> torch.dtype:
    return torch.uint8 if classes.label_dtype == np.uint8 else torch.uint16


def _without_unseen(
    tensors: dict[str, torch.Tensor], geometry: ResizeGeometry, classes: ClassTable
) -> dict[str, torch.Tensor]:
    """The same without a guess where the model's input left out a part of the image."""
    if geometry.is_cropped:
        outside = {'labels': classes.unlabeled_id, 'confidence': 0, 'owners': 0}
        for name in outside.keys() & tensors.keys():
            hide_unseen(tensors[name], geometry, outside[name])
    return tensors
