"""What a listener can say about a stream of label images: rate, latency, classes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from seg_perception.structures import UNLABELED_IDS, Labels

RECENT = 30
"""Frames that the live figures look back on."""

REMEMBERED = 36_000
"""Frames that percentiles are taken over: an hour at 10 Hz, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class NodeAccount:
    """The node's own count of a camera's frames, as its diagnostics say.

    Attributes:
        received: frames that reached the node.
        published: frames it published an output for.
        dropped: those it did not publish, by reason; reasons that never occurred are left out.
    """

    received: int
    published: int
    dropped: Mapping[str, int]

    @classmethod
    def from_values(cls, values: Mapping[str, str]) -> NodeAccount | None:
        """Reads the key-value pairs of a diagnostic status; None where the counts are missing."""
        try:
            return cls(
                received=int(values['received']),
                published=int(values['published']),
                dropped={
                    name.removeprefix('dropped_'): int(value)
                    for name, value in values.items()
                    if name.startswith('dropped_') and int(value)
                },
            )
        except (KeyError, ValueError):
            return None

    def __str__(self) -> str:
        reasons = ', '.join(f'{count} {name}' for name, count in sorted(self.dropped.items()))
        num_dropped = sum(self.dropped.values())
        text = f'{self.published} of {self.received} received, {num_dropped} dropped'
        text += f' ({reasons})' if reasons else ''
        num_pending = self.received - self.published - num_dropped
        return text + (f', {num_pending} under way' if num_pending > 0 else '')


@dataclass(slots=True)
class _Times:
    """When messages came: the first, the last and the recent ones."""

    count: int = 0
    first_ns: int = 0
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, now_ns: int) -> None:
        self.first_ns = self.first_ns if self.count else now_ns
        self.count += 1
        self.recent_ns.append(now_ns)

    def rate_hz(self, is_recent: bool) -> float | None:
        """Messages per second; None before the second."""
        if self.count < 2:
            return None
        first_ns, count = (
            (self.recent_ns[0], len(self.recent_ns)) if is_recent else (self.first_ns, self.count)
        )
        span_ns = self.recent_ns[-1] - first_ns
        return (count - 1) * 1e9 / span_ns if span_ns > 0 else None


@dataclass(slots=True)
class Tally:
    """Counts label images as they arrive. Not thread-safe.

    Attributes:
        num_images: input images heard.
        num_labels: label images heard.
        account: the node's own count, if its diagnostics were heard.
        class_names: names by id, if the class table was heard.
    """

    num_images: int = 0
    num_labels: int = 0
    account: NodeAccount | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    _labels_ns: _Times = field(default_factory=lambda: _Times())
    _images_ns: _Times = field(default_factory=lambda: _Times())
    _latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _share_sums: dict[int, float] = field(default_factory=dict)

    def add_image(self, now_ns: int) -> None:
        """Counts an input image.

        Args:
            now_ns: when it was received, on any steady clock.
        """
        self.num_images += 1
        self._images_ns.add(now_ns)

    def add_labels(self, shares: Mapping[int, float], now_ns: int, latency_ms: float) -> None:
        """Counts a label image.

        Args:
            shares: share of its pixels by class id, see ``class_shares``.
            now_ns: when it was received, on the clock of ``add_image``.
            latency_ms: from its stamp until it was received.
        """
        self.num_labels += 1
        self._labels_ns.add(now_ns)
        self._latency_ms.append(latency_ms)
        for class_id, share in shares.items():
            self._share_sums[class_id] = self._share_sums.get(class_id, 0.0) + share

    def rate_hz(self, *, is_recent: bool = False) -> float | None:
        """Label images per second, over all or the recent ones; None before the second."""
        return self._labels_ns.rate_hz(is_recent)

    def camera_rate_hz(self, *, is_recent: bool = False) -> float | None:
        """Input images per second, over all or the recent ones; None before the second."""
        return self._images_ns.rate_hz(is_recent)

    def latency_ms(self, percentile: float, *, is_recent: bool = False) -> float | None:
        """Stamp-to-receipt latency, over all or the recent ones; None before the first.

        All means the last ``REMEMBERED``.
        """
        values = list(self._latency_ms)[-RECENT if is_recent else 0 :]
        return float(np.percentile(values, percentile)) if values else None

    def mean_shares(self) -> list[tuple[str, float]]:
        """Share of all pixels heard, by class name, largest first; only classes that occurred."""
        named = [
            (self.name_of(class_id), total / self.num_labels)
            for class_id, total in self._share_sums.items()
        ]
        return sorted(named, key=lambda item: (-item[1], item[0]))

    def name_of(self, class_id: int) -> str:
        """The class's name, or its number where the class table is not known."""
        if class_id in UNLABELED_IDS and class_id not in self.class_names:
            return 'unlabelled'
        return self.class_names.get(class_id, str(class_id))

    def summary(self) -> dict[str, object]:
        """All figures, for a machine to read."""
        account = self.account
        return {
            'labels_received': self.num_labels,
            'frames_published': account.published if account else self.num_labels,
            'frames_received': account.received if account else None,
            'frames_dropped': dict(account.dropped) if account else None,
            'camera_images': self.num_images,
            'rate_hz': self.rate_hz(),
            'camera_rate_hz': self.camera_rate_hz(),
            'latency_p50_ms': self.latency_ms(50),
            'latency_p95_ms': self.latency_ms(95),
            'class_shares': dict(self.mean_shares()),
        }

    def summary_lines(self) -> list[str]:
        """All figures, for a person to read."""
        published = str(self.account) if self.account else f'{self.num_labels} label images'
        if self.account and self.account.published != self.num_labels:
            published += f'; {self.num_labels} label images heard'
        camera = self.camera_rate_hz()
        p50, p95 = (_number(self.latency_ms(p)) for p in (50, 95))
        heard = f' (camera {camera:.1f} Hz)' if camera else ''
        return [
            f'frames published  {published}',
            f'rate              {_number(self.rate_hz())} Hz{heard}',
            f'latency p50/p95   {p50} / {p95} ms (stamp to label image received)',
            f'classes seen      {list_shares(self.mean_shares()) or "none"}',
        ]

    def line(self, elapsed_s: float) -> str:
        """The recent figures on one line."""
        p50, p95 = (_number(self.latency_ms(p, is_recent=True)) for p in (50, 95))
        return (
            f'{elapsed_s:6.1f} s  {self.num_labels:5d} frames  '
            f'{_number(self.rate_hz(is_recent=True))} Hz  latency {p50}/{p95} ms  '
            f'{list_shares(self.mean_shares(), 4)}'
        )


def class_shares(labels_YX: Labels) -> dict[int, float]:
    """Share of a label image's pixels by class id; only the ids that occur.

    Args:
        labels_YX: uint8 or uint16; rows may be strided.
    """
    flat: npt.NDArray[np.unsignedinteger] = labels_YX.reshape(-1)
    counts = np.bincount(flat)
    return {int(i): float(counts[i]) / flat.size for i in np.flatnonzero(counts)}


def list_shares(shares: Sequence[tuple[str, float]], most: int = 12) -> str:
    """``person 23.1%, cat 4.0%``; classes below 0.05 % are left out."""
    return ', '.join(f'{name} {share:.1%}' for name, share in shares[:most] if share >= 0.0005)


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'
