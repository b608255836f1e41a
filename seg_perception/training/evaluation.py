"""What a model is worth on a dataset, measured through the pipeline that the node runs.

Every image goes through `Segmenter` at its own size, so the figures are those of the label images
that the robot gets, not of logits on the network's grid.

C classes, Y/X image pixels, P sampled pixels.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seg_perception.errors import ConfigurationError
from seg_perception.pipeline import Segmenter
from seg_perception.structures import ClassTable
from seg_perception.training.calibration import fit_temperature
from seg_perception.training.datasets import SegmentationDataset
from seg_perception.training.metrics import SegmentationMetrics

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""


@dataclass(frozen=True, slots=True)
class ImageScore:
    """How one image went.

    Attributes:
        index: in the dataset.
        name: of the image.
        mean_iou: over the classes that are in the truth or the prediction; NaN where every pixel
            is ignored.
        pixel_accuracy: share of the pixels that count.
    """

    index: int
    name: str
    mean_iou: float
    pixel_accuracy: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome.

    Attributes:
        classes: what the ids mean.
        metrics: what `SegmentationMetrics.result` gives.
        images: one score per image.
        model: what ran where.
        dataset: how it was called.
        seconds: wall time, reading of images included.
    """

    classes: ClassTable
    metrics: Any
    images: tuple[ImageScore, ...]
    model: dict[str, str]
    dataset: str
    seconds: float

    @property
    def mean_iou(self) -> float:
        """Over the classes that occur, 0 to 1."""
        return float(self.metrics.mean_iou)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON; what is not a number is None."""
        values = {
            field.name: plain_value(getattr(self.metrics, field.name))
            for field in dataclasses.fields(self.metrics)
        }
        values['class_iou'] = dict(
            zip(self.classes.names, plain_value(self.metrics.class_iou), strict=True)
        )
        return {
            'dataset': self.dataset,
            'num_images': len(self.images),
            'seconds': round(self.seconds, 2),
            'model': self.model,
            **values,
            'images': [plain_value(dataclasses.asdict(image)) for image in self.images],
        }


def evaluate(
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    *,
    name: str = '',
    is_quick: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures a model on every image of a dataset.

    Args:
        segmenter: the model.
        dataset: images and truth, of the model's classes.
        name: what the report calls the dataset.
        is_quick: leave out what takes most of the time: calibration and boundaries.
        progress: told after each image.

    Raises:
        ConfigurationError: other classes, or no images.
        InputError: an image cannot be read.
    """
    check_classes(segmenter.classes, dataset)
    num_classes = len(segmenter.classes)
    metrics = (
        SegmentationMetrics(num_classes, dataset.ignore_id, boundary_tolerance=None)
        if is_quick
        else SegmentationMetrics(num_classes, dataset.ignore_id)
    )
    images = []
    start = time.perf_counter()
    for index in range(len(dataset)):
        sample = dataset[index]
        [result] = segmenter.segment([sample.image_YX3], confidence=not is_quick)
        if result.confidence_YX is None:
            metrics.update(result.labels_YX, sample.labels_YX)
        else:
            metrics.update(
                result.labels_YX, sample.labels_YX, confidence_YX=result.confidence_YX / 255.0
            )
        iou, accuracy = score_image(
            result.labels_YX, sample.labels_YX, num_classes, dataset.ignore_id
        )
        images.append(ImageScore(index, sample.name, iou, accuracy))
        if progress is not None:
            progress(index + 1, len(dataset))
    return Evaluation(
        segmenter.classes,
        metrics.result(),
        tuple(images),
        dict(segmenter.description()),
        name,
        time.perf_counter() - start,
    )


def calibrate(
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    *,
    max_images: int = 50,
    pixels_per_image: int = 2000,
    seed: int = 0,
) -> float:
    """The temperature that makes the model's confidence honest on a dataset.

    Fitted on pixels drawn at random from images that are spread evenly over the dataset.

    Raises:
        ConfigurationError: other classes, no images, or no pixel that counts.
        InferenceError: the model gives no logits.
    """
    check_classes(segmenter.classes, dataset)
    rng = np.random.default_rng(seed)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(max_images, len(dataset))).round())
    all_logits, all_labels = [], []
    for index in chosen.astype(int):
        sample = dataset[int(index)]
        labels_P = sample.labels_YX.reshape(-1)
        counted = np.flatnonzero(labels_P != dataset.ignore_id)
        if not len(counted):
            continue
        pixels = rng.choice(counted, min(pixels_per_image, len(counted)), replace=False)
        logits_CYX = segmenter.upsampled_logits(sample.image_YX3)
        at = torch.from_numpy(pixels).to(logits_CYX.device)
        all_logits.append(logits_CYX.flatten(1)[:, at].T.float().cpu())
        all_labels.append(torch.from_numpy(labels_P[pixels].astype(np.int64)))
    if not all_logits:
        raise ConfigurationError(
            f'calibration: expected labelled pixels, found only id {dataset.ignore_id} (ignored)'
        )
    return float(fit_temperature(torch.cat(all_logits), torch.cat(all_labels)))


def check_classes(classes: ClassTable, dataset: SegmentationDataset) -> None:
    """Makes sure that a model and a dataset mean the same by an id.

    Raises:
        ConfigurationError: they do not, or the dataset is empty.
    """
    if not len(dataset):
        raise ConfigurationError('dataset: expected images, found none')
    if classes.names == dataset.classes.names:
        return
    differences = [
        f'{i}: {ours!r} (dataset: {theirs!r})'
        for i, (ours, theirs) in enumerate(zip(classes.names, dataset.classes.names, strict=False))
        if ours != theirs
    ]
    raise ConfigurationError(
        f'dataset: expected the {len(classes)} classes of the model in its order, got '
        f'{len(dataset.classes)}; different: '
        f'{", ".join(differences[:5]) or "the number of classes"}. Map the '
        f"dataset's ids to the model's classes in its YAML"
    )


def score_image(
    labels_YX: npt.NDArray[Any], truth_YX: npt.NDArray[Any], num_classes: int, ignore_id: int
) -> tuple[float, float]:
    """Mean IoU over the classes present, and pixel accuracy; NaN where no pixel counts."""
    counted = truth_YX != ignore_id
    if not counted.any():
        return float('nan'), float('nan')
    predicted, truth = labels_YX[counted].astype(np.int64), truth_YX[counted].astype(np.int64)
    right = np.bincount(truth[predicted == truth], minlength=num_classes)[:num_classes]
    union = (
        np.bincount(predicted, minlength=num_classes)[:num_classes]
        + np.bincount(truth, minlength=num_classes)[:num_classes]
        - right
    )
    present = union > 0
    return float((right[present] / union[present]).mean()), float((predicted == truth).mean())


def plain_value(value: Any) -> Any:
    """As JSON can hold it: arrays become lists, NaN and inf None."""
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    return value
