"""Weights made from labels: per class against imbalance, per pixel for the gaps between objects.

Both are computed on the CPU, from label images as the datasets give them.
"""

# C classes, Y/X pixels

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError, InputError

Labels = npt.NDArray[np.integer]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

# Where the U-Net term has fallen below this share of w0 it is left out.
NEGLIGIBLE = 1e-6


def median_frequency_weights(pixel_counts_C: I64, image_pixels_C: I64) -> F32:
    """Median frequency balancing: weight_c = median(frequency) / frequency_c.

    The frequency of a class is its number of pixels over the number of pixels of those images it
    appears in; the median is taken over the classes that appear at all. A class that never
    appears gets 1: nothing is known of it.

    Args:
        pixel_counts_C: pixels of each class in the data set, shape (C,).
        image_pixels_C: labelled pixels of all images that contain the class, shape (C,).

    Returns:
        float32 of shape (C,), new.

    Raises:
        InputError: no class has a pixel.

    Source: Eigen and Fergus, ICCV 2015, as used by Badrinarayanan, Kendall and Cipolla, SegNet,
    TPAMI 2017, section 3.1.
    """
    present_C = pixel_counts_C > 0
    if not present_C.any():
        raise InputError('expected labelled pixels to balance classes with, got none')
    frequency = pixel_counts_C[present_C] / image_pixels_C[present_C]
    weights_C = np.ones(len(pixel_counts_C), np.float32)
    weights_C[present_C] = np.median(frequency) / frequency
    return weights_C


class ClassFrequencies:
    """Counts what median frequency balancing needs, one label image at a time.

    Args:
        num_classes: ids are 0 to num_classes - 1.
        ignore_id: pixels with this label are not counted.

    Attributes:
        pixel_counts_C: pixels of each class, int64.
        image_pixels_C: labelled pixels of the images that contain the class, int64.
    """

    def __init__(self, num_classes: int, ignore_id: int) -> None:
        self.num_classes, self.ignore_id = num_classes, ignore_id
        self.pixel_counts_C: I64 = np.zeros(num_classes, np.int64)
        self.image_pixels_C: I64 = np.zeros(num_classes, np.int64)

    def update(self, labels_YX: Labels) -> None:
        """Count one image.

        Raises:
            InputError: an id outside the class table.
        """
        labelled = labels_YX[labels_YX != self.ignore_id]
        if labelled.size and not 0 <= labelled.min() <= labelled.max() < self.num_classes:
            raise InputError(
                f'expected ids 0 to {self.num_classes - 1} or {self.ignore_id} (ignored), '
                f'got {labelled.min()} to {labelled.max()}'
            )
        counts_C = np.bincount(labelled.ravel(), minlength=self.num_classes)
        self.pixel_counts_C += counts_C
        self.image_pixels_C += np.where(counts_C > 0, labelled.size, 0)

    def merge(self, other: ClassFrequencies) -> None:
        """Add what another, of other images, has counted."""
        if (self.num_classes, self.ignore_id) != (other.num_classes, other.ignore_id):
            raise ConfigurationError('frequencies of different class tables cannot be merged')
        self.pixel_counts_C += other.pixel_counts_C
        self.image_pixels_C += other.image_pixels_C

    def median_frequency_weights(self) -> F32:
        """See the function of this name."""
        return median_frequency_weights(self.pixel_counts_C, self.image_pixels_C)


@dataclass(frozen=True)
class BorderWeighting:
    """Makes the weight map of U-Net's loss; give it to the data loader (it can be pickled).

    Attributes: see ``border_weights``.
    """

    ignore_id: int
    background_id: int | None = None
    w0: float = 10.0
    sigma: float = 5.0
    class_weights_C: tuple[float, ...] | None = None

    def __call__(self, labels_YX: Labels) -> F32:
        """The weights of one label image, float32 (Y, X), new."""
        return border_weights(
            labels_YX,
            ignore_id=self.ignore_id,
            background_id=self.background_id,
            w0=self.w0,
            sigma=self.sigma,
            class_weights_C=self.class_weights_C,
        )


def border_weights(
    labels_YX: Labels,
    *,
    ignore_id: int,
    background_id: int | None = None,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights_C: tuple[float, ...] | None = None,
) -> F32:
    """w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), U-Net's weight of every pixel.

    d1 and d2 are the distances from x to the nearest and the second nearest object, in pixels,
    0 inside an object. An object is a connected region (8 neighbours) of one class.

    With a background class, objects are the regions of the other classes and the second term is
    added on the background only: it widens attention to "the small separation borders between
    touching cells" of the paper, whose figure 3d shows none inside cells. Without one every
    region is an object, so the term grows towards the borders between regions.

    Args:
        labels_YX: class ids of any integer type, (Y, X).
        ignore_id: such pixels belong to no object and get weight 0.
        background_id: the class between the objects, or None.
        w0: height of the second term.
        sigma: its reach in pixels; it is left out (below 1e-6 w0) about 5 sigma away.
        class_weights_C: w_c for each class id; 1 for all when None.

    Returns:
        float32 (Y, X), new.

    Source: Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, equation 2.
    """
    ignored_YX = labels_YX == ignore_id
    d1_YX, d2_YX = _two_nearest(labels_YX, ignore_id, background_id, _reach_px(sigma))
    # Infinite where fewer than two objects are near; exp(-inf) is the 0 that is wanted.
    weights_YX: F32 = np.asarray(w0 * np.exp(-((d1_YX + d2_YX) ** 2) / (2 * sigma**2)), np.float32)
    if background_id is not None:
        weights_YX[labels_YX != background_id] = 0
    if class_weights_C is None:
        weights_YX += 1
    else:
        table = np.asarray(class_weights_C, np.float32)
        weights_YX += table[np.where(ignored_YX, 0, labels_YX)]
    weights_YX[ignored_YX] = 0
    return weights_YX


def _reach_px(sigma: float) -> int:
    """d2 beyond which the term is negligible, as d1 + d2 >= d2."""
    return math.ceil(sigma * math.sqrt(-2 * math.log(NEGLIGIBLE)))


def _two_nearest(
    labels_YX: Labels, ignore_id: int, background_id: int | None, reach_px: int
) -> tuple[F32, F32]:
    """Distance to the nearest and second nearest object, right up to ``reach_px``, else inf."""
    height, width = labels_YX.shape
    d1_YX = np.full((height, width), np.inf, np.float32)
    d2_YX = d1_YX.copy()
    for class_id in np.unique(labels_YX):
        if class_id in (ignore_id, background_id):
            continue
        mask_YX = (labels_YX == class_id).astype(np.uint8)
        num, regions_YX, boxes, _ = cv2.connectedComponentsWithStats(mask_YX, connectivity=8)
        for region in range(1, num):
            left, top, box_width, box_height, _ = boxes[region]
            # An object matters only nearby: a distance transform of its surroundings is enough.
            around = (
                slice(max(top - reach_px, 0), top + box_height + reach_px),
                slice(max(left - reach_px, 0), left + box_width + reach_px),
            )
            outside = (regions_YX[around] != region).astype(np.uint8)
            distance = (
                cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                if outside.any()
                else np.zeros(outside.shape, np.float32)
            )
            d1, d2 = d1_YX[around], d2_YX[around]
            np.minimum(d2, np.maximum(d1, distance), out=d2)
            np.minimum(d1, distance, out=d1)
    return d1_YX, d2_YX
