"""COCO's segmentations as run lengths, checked before the library that draws them sees them.

pycocotools trusts its input: run lengths that do not fill the image, or coordinates far from it,
make it read and write memory that is not its own.

Source: pycocotools' maskApi.c (the packed form: five bits and a continuation bit per character,
differences to the run before the last).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seg_perception.errors import InputError, MissingExtraError


def mask_codec() -> Any:
    """Pycocotools' mask module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError('pycocotools', 'train', 'read COCO instances') from error
    return mask


def to_run_lengths(
    codec: Any, segmentation: object, size_hw: tuple[int, int], where: str
) -> dict[str, Any]:
    """One object in the codec's own form, whatever form it is stored in.

    Args:
        codec: from `mask_codec`.
        segmentation: polygons, or run lengths as a list or packed into a text.
        size_hw: of the image.
        where: names the object in errors.

    Raises:
        InputError: it is damaged or of another image's size.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon, size_hw, where)
        if not segmentation:
            raise InputError(f'{where}: expected at least one polygon: correct or remove it')
        merged: dict[str, Any] = codec.merge(codec.frPyObjects(segmentation, *size_hw))
        return merged
    if not isinstance(segmentation, Mapping) or not {'size', 'counts'} <= segmentation.keys():
        raise InputError(
            f'{where}: its segmentation is damaged: expected polygons or run lengths, got '
            f'{segmentation!r:.80}'
        )
    size, counts = segmentation['size'], segmentation['counts']
    if not isinstance(size, (list, tuple)) or tuple(size) != size_hw:
        raise InputError(
            f'{where}: expected run lengths of {size_hw[0]}x{size_hw[1]} (rows x columns), got '
            f'{size!r:.80}'
        )
    runs: Any = _unpacked(counts) if isinstance(counts, str) else counts
    height, width = size_hw
    is_whole = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if not is_whole or sum(runs) != height * width:
        raise InputError(
            f'{where}: its segmentation is damaged: expected runs that fill {height * width} px, '
            f'got {counts!r:.80}'
        )
    drawn: dict[str, Any] = codec.frPyObjects({'size': list(size_hw), 'counts': runs}, *size_hw)
    return drawn


def _check_polygon(polygon: object, size_hw: tuple[int, int], where: str) -> None:
    # Four numbers would be taken for a box.
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise InputError(
            f'{where}: expected polygons of at least three points (x, y): correct or remove it'
        )
    height, width = size_hw
    if not all(type(value) in (int, float) for value in polygon):
        raise InputError(
            f'{where}: its segmentation is damaged: expected numbers, got {polygon!r:.80}'
        )
    xs, ys = polygon[::2], polygon[1::2]
    is_near = all(-width <= x <= 2 * width for x in xs)
    is_near = is_near and all(-height <= y <= 2 * height for y in ys)
    if not is_near or _outline_px(xs, ys) > 4 * (height + 1) * (width + 1):
        raise InputError(
            f'{where}: expected an outline within the image of {width}x{height} px, got '
            f'{polygon!r:.80}'
        )


def _outline_px(xs: Sequence[float], ys: Sequence[float]) -> float:
    """How long a closed polygon's outline is, along the axes."""
    along_x = sum(abs(a - b) for a, b in zip(xs, [*xs[1:], xs[0]], strict=True))
    return along_x + sum(abs(a - b) for a, b in zip(ys, [*ys[1:], ys[0]], strict=True))


def _unpacked(text: str) -> list[int] | None:
    """The run lengths in a packed text; None where it is none."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if shift == 0 else None
