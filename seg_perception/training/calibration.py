"""Whether a confidence means what it says, and the temperature that makes it so."""

# N pixels, C classes, K bins

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_perception.errors import ConfigurationError, InputError

# Confidences are summed as whole multiples of this, so that sums do not depend on their order.
_QUANTA = 2**28
# Pixels whose quanta a float64 sums exactly at once.
_EXACT_PIXELS = 2**24
# Temperatures looked at; one at an end means that confidences have no optimum in between.
TEMPERATURE_BOUNDS = (0.05, 20.0)
_ROWS_AT_ONCE = 2**15


class CalibrationBins:
    """Confidence and correctness in bins of equal width, counted as pixels stream by.

    Bins are open below and closed above: (0, 1/K], (1/K, 2/K] and so on. Counting is exact in
    whole numbers: the same pixels in any order and any batches give the same result.

    Args:
        num_bins: K.

    Attributes:
        counts_K: pixels per bin, int64.
        num_correct_K: those that were right, int64.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """

    def __init__(self, num_bins: int = 15) -> None:
        if num_bins < 1:
            raise ConfigurationError(f'expected one bin or more, got {num_bins}')
        self.counts_K = np.zeros(num_bins, np.int64)
        self.num_correct_K = np.zeros(num_bins, np.int64)
        self._quanta_K = np.zeros(num_bins, np.int64)

    def update(self, confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_]) -> None:
        """Count pixels.

        Args:
            confidence: probability of the predicted class, 0 to 1, any shape.
            correct: whether the prediction was right, same shape.

        Raises:
            InputError: shapes differ, or a confidence is outside 0 to 1 or NaN.
        """
        if confidence.shape != correct.shape:
            raise InputError(
                f'expected a confidence for each prediction, shape {correct.shape}; '
                f'got {confidence.shape}'
            )
        if confidence.size and not (confidence.min() >= 0 and confidence.max() <= 1):
            raise InputError(
                f'expected confidences of 0 to 1, got {confidence.min():g} to {confidence.max():g}'
            )
        values, right = confidence.ravel(), correct.ravel()
        num_bins = len(self.counts_K)
        for start in range(0, len(values), _EXACT_PIXELS):
            part = values[start : start + _EXACT_PIXELS].astype(np.float64)
            bins = np.clip(np.ceil(part * num_bins).astype(np.int64) - 1, 0, None)
            quanta_K = np.bincount(bins, np.rint(part * _QUANTA), minlength=num_bins)
            correct_K = np.bincount(bins[right[start : start + _EXACT_PIXELS]], minlength=num_bins)
            self.counts_K += np.bincount(bins, minlength=num_bins)
            self.num_correct_K += correct_K
            self._quanta_K += quanta_K.astype(np.int64)

    def merge(self, other: CalibrationBins) -> None:
        """Add what another has counted."""
        if len(self.counts_K) != len(other.counts_K):
            raise ConfigurationError(
                f'expected {len(self.counts_K)} bins to merge, got {len(other.counts_K)}'
            )
        self.counts_K += other.counts_K
        self.num_correct_K += other.num_correct_K
        self._quanta_K += other._quanta_K

    @property
    def confidence_K(self) -> npt.NDArray[np.float64]:
        """Mean confidence of each bin; NaN where it is empty."""
        return _divide(self._quanta_K / _QUANTA, self.counts_K)

    @property
    def accuracy_K(self) -> npt.NDArray[np.float64]:
        """Share of correct pixels of each bin; NaN where it is empty."""
        return _divide(self.num_correct_K, self.counts_K)

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1; NaN without pixels."""
        total = int(self.counts_K.sum())
        if not total:
            return float('nan')
        return float(np.abs(self.num_correct_K - self._quanta_K / _QUANTA).sum() / total)


def _divide(
    total: npt.NDArray[np.integer] | npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = np.full(counts.shape, np.nan)
    np.divide(total, counts, out=result, where=counts > 0)
    return result


def expected_calibration_error(
    confidence: npt.NDArray[np.floating], correct: npt.NDArray[np.bool_], num_bins: int = 15
) -> float:
    """Mean over pixels of |accuracy - confidence| of their bin; see ``CalibrationBins``."""
    bins = CalibrationBins(num_bins)
    bins.update(confidence, correct)
    return bins.error


class LogitSample:
    """A random sample of labelled pixels' logits, of bounded memory, from a stream of images.

    Every pixel of the stream is equally likely to be in it. The sample depends on the seed and
    the order of pixels, not on how they are divided into batches.

    Args:
        num_classes: C.
        ignore_id: label of pixels that are left out.
        max_pixels: size of the sample; it holds 4 C bytes for each.
        seed: of the choice; workers whose samples are merged need different ones.
    """

    def __init__(
        self, num_classes: int, ignore_id: int, *, max_pixels: int = 100_000, seed: int = 0
    ) -> None:
        if max_pixels < 1:
            raise ConfigurationError(f'expected room for a pixel or more, got {max_pixels}')
        self.num_classes, self.ignore_id, self.max_pixels = num_classes, ignore_id, max_pixels
        self._rng = np.random.default_rng(seed)
        # The pixels with the lowest random keys are a uniform sample of all.
        self._keys_N: npt.NDArray[np.float64] = np.empty(0)
        self.logits_NC = torch.empty(0, num_classes)
        self.labels_N = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels_N)

    def update(self, logits_BCYX: Tensor, labels_BYX: Tensor) -> None:
        """Offer a batch; logits and labels of the same size, on any device.

        Raises:
            InputError: shapes do not belong together, or an id is outside the class table.
        """
        batch, channels, *size = logits_BCYX.shape
        if channels != self.num_classes or labels_BYX.shape != (batch, *size):
            raise InputError(
                f'expected logits (B, {self.num_classes}, Y, X) and labels (B, Y, X), got '
                f'{tuple(logits_BCYX.shape)} and {tuple(labels_BYX.shape)}'
            )
        labels_N = labels_BYX.reshape(-1).cpu().long()
        at_N = (labels_N != self.ignore_id).nonzero()[:, 0].numpy()
        keys_N = self._rng.random(len(at_N))
        if len(keys_N) > self.max_pixels:
            best = np.argpartition(keys_N, self.max_pixels - 1)[: self.max_pixels]
            at_N, keys_N = at_N[best], keys_N[best]
        at = torch.from_numpy(at_N)
        pixels = at.to(logits_BCYX.device)
        within = size[0] * size[1]
        # Only what is kept is copied from the device.
        chosen_NC = logits_BCYX.detach().flatten(2)[pixels // within, :, pixels % within]
        self._keep(keys_N, chosen_NC.float().cpu(), labels_N[at])

    def merge(self, other: LogitSample) -> None:
        """Take the sample of another stream into account."""
        if (self.num_classes, self.ignore_id) != (other.num_classes, other.ignore_id):
            raise ConfigurationError('samples of different class tables cannot be merged')
        self._keep(other._keys_N, other.logits_NC, other.labels_N)

    def fit(self) -> TemperatureFit:
        """See ``calibrate``."""
        return calibrate(self.logits_NC, self.labels_N)

    def _keep(self, keys_N: npt.NDArray[np.float64], logits_NC: Tensor, labels_N: Tensor) -> None:
        keys_N = np.concatenate([self._keys_N, keys_N])
        order = np.argsort(keys_N, kind='stable')[: self.max_pixels]
        kept = torch.from_numpy(order)
        self._keys_N = keys_N[order]
        self.logits_NC = torch.cat([self.logits_NC, logits_NC])[kept]
        self.labels_N = torch.cat([self.labels_N, labels_N])[kept]


@dataclass(frozen=True)
class TemperatureFit:
    """What dividing logits by a temperature does to the pixels it was fitted on.

    Attributes:
        temperature: above 1 makes a model less confident, below 1 more.
        nll_before: mean negative log-likelihood of the labels, nats, without it.
        nll_after: with it; never higher.
        ece_before: expected calibration error, 15 bins, without it.
        ece_after: with it.
        num_pixels: pixels fitted on.
        is_at_bound: no optimum within ``TEMPERATURE_BOUNDS``: every pixel was right, or the
            model no better than chance.
    """

    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    num_pixels: int
    is_at_bound: bool


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of ``calibrate``."""
    return calibrate(logits, labels).temperature


def calibrate(logits_NC: Tensor, labels_N: Tensor) -> TemperatureFit:
    """Fit the temperature T that minimises the mean of -log softmax(z / T)[label].

    In 1 / T that is convex; its only root of the slope is found by Newton steps kept in a
    bracket. The winning class of a pixel does not change. Float64, a part of the rows at once.

    Args:
        logits_NC: of labelled pixels only, floating, (N, C).
        labels_N: their class ids, integers (N,).

    Raises:
        InputError: no pixels, shapes that differ, logits not finite, or ids outside the table.

    Source: Guo et al., ICML 2017, section 4.2.
    """
    logits_NC, labels_N = logits_NC.detach(), labels_N.detach().long()
    if logits_NC.ndim != 2 or labels_N.shape != logits_NC.shape[:1] or not len(labels_N):
        raise InputError(
            'expected logits (N, C) and labels (N,) of one labelled pixel or more, got '
            f'{tuple(logits_NC.shape)} and {tuple(labels_N.shape)}'
        )
    if not logits_NC.isfinite().all():
        raise InputError('expected finite logits, got inf or NaN')
    if not (labels_N.min() >= 0 and labels_N.max() < logits_NC.shape[1]):
        raise InputError(
            f'expected ids 0 to {logits_NC.shape[1] - 1}, got {int(labels_N.min())} to '
            f'{int(labels_N.max())}; leave ignored pixels out'
        )
    lowest, highest = (1 / bound for bound in reversed(TEMPERATURE_BOUNDS))
    inverse, is_at_bound = _root_of_slope(logits_NC, labels_N, lowest, highest)
    before, after = (_likelihood(logits_NC, labels_N, x)[0] for x in (1.0, inverse))
    if after > before:
        # The optimum is 1, to rounding.
        inverse, after = 1.0, before
    return TemperatureFit(
        1 / inverse,
        before,
        after,
        _error(logits_NC, labels_N, 1.0),
        _error(logits_NC, labels_N, inverse),
        len(labels_N),
        is_at_bound,
    )


def _root_of_slope(
    logits_NC: Tensor, labels_N: Tensor, low: float, high: float
) -> tuple[float, bool]:
    """The inverse temperature of least loss in a bracket, and whether it is an end of it."""
    if _likelihood(logits_NC, labels_N, low)[1] >= 0:
        return low, True
    if _likelihood(logits_NC, labels_N, high)[1] <= 0:
        return high, True
    inverse = 1.0
    for _ in range(100):
        _, slope, curvature = _likelihood(logits_NC, labels_N, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        newton = inverse - slope / curvature if curvature > 0 else low
        if abs(newton - inverse) <= 1e-12 * inverse or high - low <= 1e-12 * high:
            break
        inverse = newton if low < newton < high else (low + high) / 2
    return inverse, False


def _parts(logits_NC: Tensor, labels_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows that fit into memory as float64."""
    for start in range(0, len(labels_N), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        yield logits_NC[rows], labels_N[rows]


def _likelihood(logits_NC: Tensor, labels_N: Tensor, inverse: float) -> tuple[float, float, float]:
    """Mean negative log-likelihood at an inverse temperature, its slope and curvature there.

    The slope of a pixel is the mean of its logits under the softmax less the true one; the
    curvature is their variance.
    """
    totals = torch.zeros(3, dtype=torch.float64)
    for z, y in _parts(logits_NC, labels_N):
        z = z.double()
        # Logits relative to the true one: all three do not depend on a shift.
        z = z - z.gather(1, y[:, None])
        log_p = (z * inverse).log_softmax(1)
        p = log_p.exp()
        mean = (p * z).sum(1)
        spread = (p * (z - mean[:, None]) ** 2).sum(1)
        nll = -log_p.gather(1, y[:, None])
        totals += torch.stack([nll.sum(), mean.sum(), spread.sum()]).cpu()
    loss, slope, curvature = (totals / len(labels_N)).tolist()
    return loss, slope, curvature


def _error(logits_NC: Tensor, labels_N: Tensor, inverse: float) -> float:
    """The expected calibration error at an inverse temperature."""
    bins = CalibrationBins()
    for z, y in _parts(logits_NC, labels_N):
        confidence, predicted = (z.double() * inverse).softmax(1).max(1)
        # A probability that rounding put above 1 is 1.
        bins.update(confidence.clamp_max(1).cpu().numpy(), (predicted == y).cpu().numpy())
    return bins.error
