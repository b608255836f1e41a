"""What a check of datasets found, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

ERROR: Literal['error'] = 'error'
WARNING: Literal['warning'] = 'warning'

_NUM_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem in one part.

    Attributes:
        severity: ``'error'`` (training would fail or its figures would be wrong) or
            ``'warning'``.
        kind: a stable name for programs, e.g. ``'size_mismatch'``.
        part: the dataset it is in, e.g. ``'train'``.
        summary: the problem and its remedy in a sentence.
        details: one line per file or class it is about.
    """

    severity: Literal['error', 'warning']
    kind: str
    part: str
    summary: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassRow:
    """How one class occurs in one part.

    Attributes:
        name: of the class.
        pixels: number of its pixels.
        share: of all annotated pixels.
        images: number of images that it occurs in.
        weight: median-frequency weight (``ClassFrequencies``), 1 where it does not occur.
    """

    name: str
    pixels: int
    share: float
    images: int
    weight: float


@dataclass(frozen=True, slots=True)
class PartReport:
    """One dataset.

    Attributes:
        part: its name, e.g. ``'train'``.
        num_samples: images with annotation.
        sizes: number of images by ``'WIDTHxHEIGHT'``, most frequent first.
        ignored_share: of all pixels.
        classes: one row per class, in the order of ids.
    """

    part: str
    num_samples: int
    sizes: dict[str, int]
    ignored_share: float
    classes: tuple[ClassRow, ...]


@dataclass(slots=True)
class CheckReport:
    """All datasets of a check and all that was found."""

    parts: list[PartReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def num_errors(self) -> int:
        """Findings that make the datasets unfit."""
        return sum(finding.severity == ERROR for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            'ok': self.num_errors == 0,
            'parts': [asdict(part) for part in self.parts],
            'findings': [asdict(finding) for finding in self.findings],
        }

    def to_text(self) -> str:
        """Tables and sentences."""
        lines = []
        for part in self.parts:
            lines += [*_part_lines(part), '']
        for finding in sorted(self.findings, key=lambda f: f.severity != ERROR):
            lines.append(f'{finding.severity} ({finding.part}): {finding.summary}')
            lines += [f'    {line}' for line in finding.details[:_NUM_SHOWN]]
            if len(finding.details) > _NUM_SHOWN:
                lines.append(
                    f'    … and {len(finding.details) - _NUM_SHOWN} more (--json lists all)'
                )
        num_warnings = len(self.findings) - self.num_errors
        lines.append(f'{self.num_errors} error(s), {num_warnings} warning(s)')
        return '\n'.join(lines)


def _part_lines(part: PartReport) -> list[str]:
    sizes = [f'{size} ({count})' for size, count in list(part.sizes.items())[:3]]
    if len(part.sizes) > 3:
        sizes.append(f'{len(part.sizes) - 3} more sizes')
    title = f'{part.part}: {part.num_samples} images, {", ".join(sizes) or "no size"}'
    width = max([5, *(len(row.name) for row in part.classes)])
    return [
        f'{title}; {part.ignored_share:.1%} of the pixels ignored',
        f'  {"id":>3}  {"class":{width}}  {"pixels":>12}  {"share":>7}  {"images":>6}  weight',
        *(
            f'  {i:>3}  {row.name:{width}}  {row.pixels:>12}  {row.share:>7.2%}  '
            f'{row.images:>6}  {row.weight:6.2f}'
            for i, row in enumerate(part.classes)
        ),
    ]
