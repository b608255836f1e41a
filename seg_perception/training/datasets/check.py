"""Finds what is wrong with datasets before a training does.

Every image and mask is read once, several at a time, and forgotten; only counts are kept.

Suffixes: Y/X image pixels, C classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_perception.errors import InputError
from seg_perception.imaging.picture_files import exif_orientation
from seg_perception.structures import U8
from seg_perception.training.datasets import find_source
from seg_perception.training.datasets.check_report import (
    ERROR,
    WARNING,
    CheckReport,
    ClassRow,
    Finding,
    PartReport,
)
from seg_perception.training.datasets.config import DatasetConfig
from seg_perception.training.datasets.paired import Entry, PairedDataset, Source
from seg_perception.training.weighting import ClassFrequencies

RARE_WEIGHT = 10.0
"""A median-frequency weight from which a class is called rare."""

_NUM_AT_ONCE = 256  # images whose results may wait for each other
_LEARNED_FROM = ('train', 'dataset')


@dataclass(frozen=True, slots=True, eq=False)
class _Inspected:
    """What was learned of one image; ``problem`` is a kind of finding, '' for none."""

    entry: Entry
    problem: str = ''
    message: str = ''
    size: str = ''
    digest: bytes = b''
    orientation: int = 1
    num_pixels: int = 0
    frequencies: ClassFrequencies | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)


def check_datasets(
    configs: Mapping[str, Mapping[str, Any]],
    *,
    base_dir: Path | str = '.',
    num_workers: int = 0,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> CheckReport:
    """Checks datasets, each by itself and against each other.

    Args:
        configs: by part, as from ``dataset_configs``.
        base_dir: folder that relative roots start from.
        num_workers: threads that read; 0 for one per core, at most eight.
        on_progress: told the part, the images done and all its images.

    Raises:
        ConfigurationError: a description has an unknown, missing or impossible value.
    """
    report = CheckReport()
    digests: dict[str, dict[bytes, str]] = {}
    class_names: dict[str, tuple[str, ...]] = {}
    for part, values in configs.items():
        try:
            config, source = find_source(values, base_dir=base_dir)
            report.findings += _pair_findings(part, config, source)
            # Unpaired files were reported; the others are still worth a look.
            dataset = PairedDataset(dataclasses.replace(config, skips_unpaired=True), source)
        except InputError as error:
            report.findings.append(Finding(ERROR, 'no_samples', part, str(error)))
            continue
        class_names[part] = dataset.classes.names
        digests[part] = _check_part(part, dataset, report, num_workers, on_progress)
    report.findings += _leak_findings(digests)
    report.findings += _class_findings(class_names)
    return report


def _check_part(
    part: str,
    dataset: PairedDataset,
    report: CheckReport,
    num_workers: int,
    on_progress: Callable[[str, int, int], None] | None,
) -> dict[bytes, str]:
    """Reads all of one dataset, reports, and returns its images by their digests."""
    frequencies = ClassFrequencies(len(dataset.classes), dataset.ignore_id)
    images_C = np.zeros(len(dataset.classes), np.int64)
    num_pixels = num_images = 0
    sizes: Counter[str] = Counter()
    problems: dict[str, list[str]] = defaultdict(list)
    unknown: dict[str, list[tuple[int, str]]] = defaultdict(list)
    seen: dict[bytes, str] = {}
    for num_done, item in enumerate(_inspect_all(dataset, num_workers), 1):
        if on_progress is not None:
            on_progress(part, num_done, len(dataset))
        if item.problem:
            problems[item.problem].append(item.message)
        if item.size:
            sizes[item.size] += 1
        for label, count in item.unknown.items():
            unknown[label].append((count, str(item.entry.annotation)))
        if item.orientation != 1:
            problems['exif'].append(f'{item.entry.image}: orientation {item.orientation}')
        if item.digest:
            if item.digest in seen:
                problems['duplicate'].append(f'{item.entry.name} is {seen[item.digest]}')
            seen.setdefault(item.digest, item.entry.name)
        if item.frequencies is not None:
            frequencies.merge(item.frequencies)
            images_C += item.frequencies.pixel_counts_C > 0
            num_pixels += item.num_pixels
            num_images += 1
            if not item.frequencies.pixel_counts_C.any():
                problems['all_ignored'].append(str(item.entry.annotation))
    rows = _class_rows(dataset, frequencies, images_C)
    ignored = 1 - frequencies.pixel_counts_C.sum() / max(num_pixels, 1)
    report.parts.append(
        PartReport(part, len(dataset), dict(sizes.most_common()), float(ignored), rows)
    )
    report.findings += [
        Finding(severity, kind, part, f'{len(problems[kind])} {summary}', tuple(problems[kind]))
        for kind, (severity, summary) in _summaries(dataset).items()
        if problems[kind]
    ]
    report.findings += _unknown_findings(part, dataset, unknown)
    report.findings += _balance_findings(part, rows, num_images)
    return seen


def _inspect_all(dataset: PairedDataset, num_workers: int) -> Iterator[_Inspected]:
    # Threads: decoding, counting and hashing all let go of the interpreter.
    workers = num_workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as executor:
        for start in range(0, len(dataset), _NUM_AT_ONCE):
            entries = dataset.entries[start : start + _NUM_AT_ONCE]
            yield from executor.map(lambda entry: _inspect(dataset, entry), entries)


def _inspect(dataset: PairedDataset, entry: Entry) -> _Inspected:
    try:
        data = dataset.annotations.image_bytes(entry)
        image = dataset.decode(entry, data)
    except InputError as error:
        return _Inspected(entry, 'unreadable', str(error))
    facts = {
        'size': f'{image.shape[1]}x{image.shape[0]}',
        'digest': _digest(image),
        'orientation': exif_orientation(data),
    }
    try:
        annotated = dataset.read_labels(entry, image)
        complaint = dataset.size_complaint(entry, image, annotated.labels_YX)
    except InputError as error:
        return _Inspected(entry, 'unreadable', str(error), **facts)  # type: ignore[arg-type]
    if complaint:
        return _Inspected(entry, 'size_mismatch', complaint, **facts)  # type: ignore[arg-type]
    frequencies = ClassFrequencies(len(dataset.classes), dataset.ignore_id)
    frequencies.update(annotated.labels_YX)
    return _Inspected(
        entry,
        num_pixels=annotated.labels_YX.size,
        frequencies=frequencies,
        unknown=annotated.unknown,
        **facts,  # type: ignore[arg-type]
    )


def _digest(image_YX3: U8) -> bytes:
    """The same for images of the same pixels, whatever file they are in."""
    digest = hashlib.blake2b(repr(image_YX3.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image_YX3).data)
    return digest.digest()


def _summaries(dataset: PairedDataset) -> dict[str, tuple[Any, str]]:
    treated = 'turned upright' if dataset.is_upright else 'left as stored'
    return {
        'unreadable': (ERROR, 'file(s) cannot be used'),
        'size_mismatch': (ERROR, 'mask(s) have another size than their image'),
        'all_ignored': (
            WARNING,
            'mask(s) have no annotated pixel at all: annotate or remove the images',
        ),
        'duplicate': (WARNING, 'image(s) are there twice, so they count twice'),
        'exif': (
            WARNING,
            f'image(s) have an EXIF orientation and are {treated}: see exif_orientation',
        ),
    }


def _pair_findings(part: str, config: DatasetConfig, source: Source) -> list[Finding]:
    severity = WARNING if config.skips_unpaired else ERROR
    remedy = 'left out' if config.skips_unpaired else 'remove them or set unpaired: skip'
    return [
        Finding(level, kind, part, f'{len(paths)} {what}', tuple(map(str, paths)))
        for level, kind, paths, what in (
            (
                severity,
                'image_without_mask',
                source.images_without_mask,
                f'image(s) have no mask: annotate or {remedy}',
            ),
            (
                severity,
                'mask_without_image',
                source.masks_without_image,
                f'annotation(s) have no image: {remedy}',
            ),
            (
                WARNING,
                'not_annotated',
                source.unannotated_images,
                'image(s) are not annotated and left out',
            ),
        )
        if paths
    ]


def _unknown_findings(
    part: str, dataset: PairedDataset, unknown: Mapping[str, list[tuple[int, str]]]
) -> list[Finding]:
    if not unknown:
        return []
    details = []
    for label, places in sorted(unknown.items()):
        files = [file for _, file in sorted(places, reverse=True)]
        more = f' and {len(files) - 3} more' if len(files) > 3 else ''
        total = sum(count for count, _ in places)
        details.append(f'{label}: {total} in {len(files)} file(s): {", ".join(files[:3])}{more}')
    remedy = dataset.annotations.remedy(sorted(unknown))
    return [
        Finding(
            ERROR,
            'unknown_label',
            part,
            f'{len(unknown)} label(s) are not in the table; {remedy}',
            tuple(details),
        )
    ]


def _class_rows(
    dataset: PairedDataset, frequencies: ClassFrequencies, images_C: npt.NDArray[np.int64]
) -> tuple[ClassRow, ...]:
    pixels_C = frequencies.pixel_counts_C
    total = int(pixels_C.sum())
    weights_C = frequencies.median_frequency_weights() if total else np.ones(len(pixels_C))
    return tuple(
        ClassRow(name, int(pixels), int(pixels) / max(total, 1), int(images), float(weight))
        for name, pixels, images, weight in zip(
            dataset.classes.names, pixels_C, images_C, weights_C, strict=True
        )
    )


def _balance_findings(part: str, rows: tuple[ClassRow, ...], num_images: int) -> list[Finding]:
    if num_images == 0:
        return []
    found = []
    absent = tuple(row.name for row in rows if row.pixels == 0)
    if absent:
        what = 'learned' if part in _LEARNED_FROM else 'measured'
        found.append(
            Finding(
                WARNING,
                'absent_class',
                part,
                f'{len(absent)} class(es) have no pixel and cannot be {what}',
                absent,
            )
        )
    rare = tuple(
        f'{row.name}: {row.share:.3%} of the pixels, {row.images} of {num_images} images'
        for row in rows
        if row.weight >= RARE_WEIGHT
    )
    if rare and part in _LEARNED_FROM:
        found.append(
            Finding(
                WARNING,
                'imbalance',
                part,
                f'{len(rare)} class(es) are at least {RARE_WEIGHT:g} times rarer than the median '
                'one: annotate more of them, or weigh classes by median frequency',
                rare,
            )
        )
    return found


def _leak_findings(digests: Mapping[str, Mapping[bytes, str]]) -> list[Finding]:
    train = digests.get('train', {})
    found = []
    for part, others in digests.items():
        if part == 'train':
            continue
        leaked = tuple(
            f'{name} is {train[digest]} of train'
            for digest, name in others.items()
            if digest in train
        )
        if leaked:
            found.append(
                Finding(
                    ERROR,
                    'leak',
                    part,
                    f'{len(leaked)} image(s) are in train, too, so figures of {part} would '
                    'flatter: remove them from one of the two',
                    leaked,
                )
            )
    return found


def _class_findings(class_names: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    if len(set(class_names.values())) < 2:
        return []
    details = tuple(f'{part}: {", ".join(names)}' for part, names in class_names.items())
    return [
        Finding(
            ERROR,
            'different_classes',
            ' and '.join(class_names),
            'the class tables differ: give all parts the same classes in the same order',
            details,
        )
    ]
