"""How well labels agree with the truth, exactly, as images stream by.

Everything is summed in whole numbers: the same images in any order, in any batches, counted by
any number of workers and merged, give the same bits.
"""

# C classes, K bins, B batch, Y/X pixels

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from seg_perception.errors import ConfigurationError, InputError
from seg_perception.training.calibration import CalibrationBins

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer]
ArrayOrTensor = npt.NDArray[np.generic] | torch.Tensor

# Scores of 0 to 1 are summed as whole multiples of this; int64 holds 8 million of them.
_QUANTA = 2**40


@dataclass(frozen=True)
class MetricsResult:
    """What was measured over all images so far; NaN where nothing could be.

    Attributes:
        pixel_accuracy: share of labelled pixels that are right.
        class_accuracy: share of each class's true pixels that are right; NaN without any.
        mean_accuracy: their mean (SegNet's class average).
        class_iou: intersection over union of each class; NaN for a class that is neither in the
            truth nor in the predictions.
        mean_iou: mean of those that are not NaN.
        frequency_weighted_iou: their mean weighted by true pixels (Long et al., FCN, 2015).
        boundary_f1: mean over images of the mean over their classes (Csurka et al., 2013).
        class_boundary_f1: mean of each class over the images that have it.
        confusion: pixels, rows are the truth and columns the predictions, int64 (C, C).
        ece: expected calibration error (Guo et al., 2017); NaN when no confidence was given.
        bin_counts: pixels in each bin of confidence.
        bin_confidence: their mean confidence.
        bin_accuracy: their share of right pixels.
        num_images: images seen.
        num_pixels: labelled pixels seen.
    """

    pixel_accuracy: float
    class_accuracy: F64
    mean_accuracy: float
    class_iou: F64
    mean_iou: float
    frequency_weighted_iou: float
    boundary_f1: float
    class_boundary_f1: F64
    confusion: I64
    ece: float
    bin_counts: I64
    bin_confidence: F64
    bin_accuracy: F64
    num_images: int
    num_pixels: int


class SegmentationMetrics:
    """Counts what all the metrics need.

    Args:
        num_classes: ids are 0 to num_classes - 1.
        ignore_id: pixels whose truth is this are not looked at, whatever is predicted there.
        boundary_tolerance: how far a boundary may be off, as a share of the image's diagonal;
            None leaves the boundary score out, which takes most of the time.
        num_bins: of confidence.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_id: int,
        *,
        boundary_tolerance: float | None = 0.0075,
        num_bins: int = 15,
    ) -> None:
        if num_classes < 1 or 0 <= ignore_id < num_classes:
            raise ConfigurationError(
                'expected one class or more and an ignore_id that is none of theirs, got '
                f'{num_classes} classes and ignore_id {ignore_id}'
            )
        if boundary_tolerance is not None and not 0 < boundary_tolerance < 1:
            raise ConfigurationError(
                f'boundary_tolerance: expected a share of the diagonal, got {boundary_tolerance}'
            )
        self.num_classes, self.ignore_id = num_classes, ignore_id
        self.boundary_tolerance = boundary_tolerance
        self.confusion: I64 = np.zeros((num_classes, num_classes), np.int64)
        self.bins = CalibrationBins(num_bins)
        self.num_images = 0
        self._class_f1_quanta_C: I64 = np.zeros(num_classes, np.int64)
        self._class_f1_counts_C: I64 = np.zeros(num_classes, np.int64)
        self._image_f1_quanta = 0
        self._image_f1_count = 0

    def update(
        self,
        predicted: ArrayOrTensor,
        truth: ArrayOrTensor,
        confidence_YX: ArrayOrTensor | None = None,
    ) -> None:
        """Count an image, or a batch of them.

        Args:
            predicted: class ids, integers, (Y, X) or (B, Y, X).
            truth: class ids or ``ignore_id``, same shape.
            confidence_YX: probability of the predicted class, 0 to 1, floating, same shape.

        Raises:
            InputError: shapes differ, or an id or confidence is out of range. Nothing of the
                image was counted then.
        """
        predictions, truths = as_array(predicted), as_array(truth)
        confidences = None if confidence_YX is None else as_array(confidence_YX)
        shapes = {a.shape for a in (predictions, truths, confidences) if a is not None}
        if len(shapes) != 1 or predictions.ndim not in (2, 3):
            raise InputError(
                'expected predictions, truth and confidence of one shape, (Y, X) or (B, Y, X); '
                f'got {sorted(shapes)}'
            )
        for name, array in (('predictions', predictions), ('truth', truths)):
            if array.dtype.kind not in 'iu':
                raise InputError(f'expected {name} of integers, got {array.dtype}')
        if predictions.ndim == 2:
            predictions, truths = predictions[None], truths[None]
            confidences = None if confidences is None else confidences[None]
        for i in range(len(truths)):
            self._count(predictions[i], truths[i], None if confidences is None else confidences[i])

    def merge(self, other: SegmentationMetrics) -> None:
        """Add what another, on other images, has counted."""
        settings = ('num_classes', 'ignore_id', 'boundary_tolerance')
        for name in settings:
            if getattr(self, name) != getattr(other, name):
                raise ConfigurationError(
                    f'{name}: expected {getattr(self, name)} to merge, got {getattr(other, name)}'
                )
        self.bins.merge(other.bins)
        self.confusion += other.confusion
        self.num_images += other.num_images
        self._class_f1_quanta_C += other._class_f1_quanta_C
        self._class_f1_counts_C += other._class_f1_counts_C
        self._image_f1_quanta += other._image_f1_quanta
        self._image_f1_count += other._image_f1_count

    def result(self) -> MetricsResult:
        """All metrics over what was counted so far."""
        right_C = self.confusion.diagonal()
        true_C = self.confusion.sum(1)
        union_C = true_C + self.confusion.sum(0) - right_C
        total = int(true_C.sum())
        class_accuracy, class_iou = _ratio(right_C, true_C), _ratio(right_C, union_C)
        in_truth = true_C > 0
        weighted = (true_C[in_truth] * class_iou[in_truth]).sum()
        image_f1 = np.array([self._image_f1_quanta / _QUANTA])
        return MetricsResult(
            pixel_accuracy=int(right_C.sum()) / total if total else math.nan,
            class_accuracy=class_accuracy,
            mean_accuracy=_mean(class_accuracy),
            class_iou=class_iou,
            mean_iou=_mean(class_iou),
            frequency_weighted_iou=float(weighted / total) if total else math.nan,
            boundary_f1=float(_ratio(image_f1, np.array([self._image_f1_count]))[0]),
            class_boundary_f1=_ratio(self._class_f1_quanta_C / _QUANTA, self._class_f1_counts_C),
            confusion=self.confusion.copy(),
            ece=self.bins.error,
            bin_counts=self.bins.counts_K.copy(),
            bin_confidence=self.bins.confidence_K,
            bin_accuracy=self.bins.accuracy_K,
            num_images=self.num_images,
            num_pixels=total,
        )

    def _count(
        self,
        predicted_YX: Labels,
        truth_YX: Labels,
        confidence_YX: npt.NDArray[np.floating] | None,
    ) -> None:
        """Count one image, completely or not at all."""
        valid_YX = truth_YX != self.ignore_id
        predicted = self._ids('predictions', predicted_YX[valid_YX])
        truth = self._ids('truth', truth_YX[valid_YX])
        if confidence_YX is not None:
            self.bins.update(confidence_YX[valid_YX], predicted == truth)
        cells = truth * self.num_classes + predicted
        if self.confusion.size <= 4 * len(cells):
            counts = np.bincount(cells, minlength=self.confusion.size)
            self.confusion += counts.reshape(self.confusion.shape)
        else:
            # Thousands of classes: most cells stay as they are.
            at, found = np.unique(cells, return_counts=True)
            self.confusion.reshape(-1)[at] += found
        self.num_images += 1
        if self.boundary_tolerance is not None:
            # Wide enough for any ignore_id beside labels of 8 bits.
            known_YX = np.where(valid_YX, predicted_YX.astype(np.int64), self.ignore_id)
            self._count_boundaries(known_YX, truth_YX)

    def _ids(self, name: str, labels: Labels) -> I64:
        """Checked ids as int64."""
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
            ids = np.unique(labels)
            wrong = ids[(ids < 0) | (ids >= self.num_classes)].tolist()
            raise InputError(
                f'expected {name} of 0 to {self.num_classes - 1} where the truth is not '
                f'{self.ignore_id} (ignored), got {wrong[:5]}'
            )
        return labels.astype(np.int64)

    def _count_boundaries(self, predicted_YX: Labels, truth_YX: Labels) -> None:
        assert self.boundary_tolerance is not None
        tolerance_px = self.boundary_tolerance * math.hypot(*truth_YX.shape)
        scores = {}
        for class_id in np.union1d(predicted_YX, truth_YX).tolist():
            if class_id == self.ignore_id:
                continue
            score = boundary_f1(predicted_YX == class_id, truth_YX == class_id, tolerance_px)
            if not math.isnan(score):
                scores[class_id] = score
        for class_id, score in scores.items():
            self._class_f1_quanta_C[class_id] += round(score * _QUANTA)
            self._class_f1_counts_C[class_id] += 1
        if scores:
            # fsum does not depend on the order of classes.
            self._image_f1_quanta += round(math.fsum(scores.values()) / len(scores) * _QUANTA)
            self._image_f1_count += 1


def as_array(values: ArrayOrTensor) -> npt.NDArray[np.generic]:
    """As NumPy on the CPU; a view where that is possible."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()  # type: ignore[no-any-return, unused-ignore]
    return np.asarray(values)


def boundary_f1(
    predicted_YX: npt.NDArray[np.bool_], truth_YX: npt.NDArray[np.bool_], tolerance_px: float
) -> float:
    """How well the boundaries of two masks agree, 0 to 1.

    Precision is the share of the prediction's boundary that is nearer than the tolerance to the
    truth's, recall the other way round, and the score is their harmonic mean.

    The boundary of a mask are its pixels with one of four neighbours outside it; the image's
    edge is none. ``SegmentationMetrics`` has ignored pixels outside all masks in both images, so
    the edge of an ignored area counts as a boundary that the prediction gets right wherever its
    class there is.

    Returns:
        0 where only one has a boundary, NaN where neither has.

    Source: Csurka, Larlus and Perronnin, What is a good evaluation measure for semantic
    segmentation?, BMVC 2013.
    """
    edges_predicted, edges_truth = _boundary(predicted_YX), _boundary(truth_YX)
    either = edges_predicted | edges_truth
    if not either.any():
        return math.nan
    # Both boundaries lie in here, and so do the distances between them.
    left, top, width, height = cv2.boundingRect(either.astype(np.uint8))
    window = (slice(top, top + height), slice(left, left + width))
    edges_predicted, edges_truth = edges_predicted[window], edges_truth[window]
    num_predicted, num_truth = int(edges_predicted.sum()), int(edges_truth.sum())
    if not num_predicted or not num_truth:
        return 0.0
    precise = int(_near(edges_truth, tolerance_px)[edges_predicted].sum())
    recalled = int(_near(edges_predicted, tolerance_px)[edges_truth].sum())
    if not precise or not recalled:
        return 0.0
    return 2 * precise * recalled / (precise * num_truth + recalled * num_predicted)


def _boundary(mask_YX: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    inner = mask_YX.copy()
    inner[1:] &= mask_YX[:-1]
    inner[:-1] &= mask_YX[1:]
    inner[:, 1:] &= mask_YX[:, :-1]
    inner[:, :-1] &= mask_YX[:, 1:]
    return mask_YX & ~inner


def _near(edges_YX: npt.NDArray[np.bool_], tolerance_px: float) -> npt.NDArray[np.bool_]:
    """Pixels nearer than the tolerance to one of the edges, of which there is at least one."""
    away_YX = (~edges_YX).astype(np.uint8)
    distance_YX = cv2.distanceTransform(away_YX, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squared distances are whole; rounded, the comparison is exact.
    near: npt.NDArray[np.bool_] = np.rint(distance_YX.astype(np.float64) ** 2) < tolerance_px**2
    return near


def _ratio(part: I64 | F64, whole: I64) -> F64:
    result: F64 = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _mean(values: F64) -> float:
    """Of those that are not NaN; NaN when all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
