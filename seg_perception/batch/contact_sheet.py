"""One picture of many: small overlays with their names, and what the colours mean.

Legend: Y/X pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from seg_perception.batch.lettering import Color, fitted, text_width, write_text
from seg_perception.batch.outputs import Picture
from seg_perception.postprocess import draw_overlay
from seg_perception.structures import U8, ClassTable, Frame, Labels, Objects

TILE_WH = (360, 270)
_GAP = 16
_MARGIN = 28
_NAME_PX, _TITLE_PX, _LEGEND_PX = 11, 17, 12
_CAPTION = 30
_LEGEND_ROW = 30
_PAPER: Color = (250, 250, 248)
_INK: Color = (38, 42, 48)
_FAINT: Color = (120, 124, 130)
_FRAME: Color = (236, 236, 233)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A small overlay, RGB of at most `TILE_WH`, and its name."""

    image_rgb: U8
    name: str


def small_overlay(picture: Picture) -> U8:
    """The overlay of a picture made small, so that names on it can be read; at most `TILE_WH`."""
    height, width = picture.image_rgb.shape[:2]
    scale = min(TILE_WH[0] / width, TILE_WH[1] / height)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    shrink = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    image_rgb = cv2.resize(picture.image_rgb, size_wh, interpolation=shrink)
    frame = Frame.from_array(np.asarray(image_rgb, np.uint8))
    result = picture.segmentation
    labels_YX = cast(
        Labels, cv2.resize(result.labels_YX, size_wh, interpolation=cv2.INTER_NEAREST)
    )
    overlay = draw_overlay(frame, labels_YX, result.classes, draw_names=result.objects is None)
    if result.objects is not None:
        _draw_boxes(overlay, result.objects, result.classes, scale)
    return overlay


def draw_contact_sheet(
    tiles: Sequence[Tile],
    classes: ClassTable,
    fractions: Mapping[str, float],
    *,
    title: str,
    subtitle: str,
) -> U8:
    """Draws the sheet.

    Args:
        tiles: at least one.
        classes: for the colours.
        fractions: share of all pixels by class name, in the order of the legend.
        title: of the sheet.
        subtitle: beside it.

    Returns:
        (Y, X, 3) RGB, as large as it takes.
    """
    num_columns = _num_columns(len(tiles))
    num_rows = math.ceil(len(tiles) / num_columns)
    tile_width, tile_height = TILE_WH
    width = 2 * _MARGIN + num_columns * tile_width + (num_columns - 1) * _GAP
    legend = _legend_rows(fractions, width - 2 * _MARGIN)
    top = _MARGIN + _TITLE_PX + _GAP
    row_height = tile_height + _CAPTION + _GAP // 2
    legend_top = top + num_rows * row_height
    height = legend_top + len(legend) * _LEGEND_ROW + _MARGIN - (_GAP if legend else 0)
    sheet = np.empty((height, width, 3), np.uint8)
    sheet[:] = _PAPER
    base = _MARGIN + _TITLE_PX
    shown = fitted(title, _TITLE_PX, width - 2 * _MARGIN)
    write_text(sheet, shown, _MARGIN, base, _TITLE_PX, _INK)
    beside = _MARGIN + text_width(shown, _TITLE_PX) + _GAP
    if beside + text_width(subtitle, _NAME_PX) < width - _MARGIN:
        write_text(sheet, subtitle, beside, base, _NAME_PX, _FAINT)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, num_columns)
        left, y = _MARGIN + column * (tile_width + _GAP), top + row * row_height
        _place_tile(sheet, tile, left, y)
    for row, entries in enumerate(legend):
        y = legend_top + row * _LEGEND_ROW + _LEGEND_ROW // 2
        for name, text, x in entries:
            color = classes.colors_rgb[classes.id_of(name)]
            corner = (_MARGIN + x, y - 8), (_MARGIN + x + 22, y + 8)
            cv2.rectangle(sheet, *corner, color, -1)
            cv2.rectangle(sheet, *corner, _FAINT, 1)
            write_text(sheet, text, _MARGIN + x + 31, y + _LEGEND_PX // 2, _LEGEND_PX, _INK)
    return sheet


def _num_columns(num_tiles: int) -> int:
    """As many as make the sheet about as wide as a screen, with a full last row if possible."""
    if num_tiles <= 4:
        return 2 if num_tiles == 4 else num_tiles
    return min((3, 4), key=lambda columns: (-num_tiles % columns, -columns))


def _legend_rows(fractions: Mapping[str, float], width: int) -> list[list[tuple[str, str, int]]]:
    """Class, what is written, and where from the left, by row."""
    rows: list[list[tuple[str, str, int]]] = []
    x = width
    for name, fraction in fractions.items():
        text = f'{name}  {_percent(fraction)}'
        needed = 31 + text_width(text, _LEGEND_PX) + 2 * _GAP
        if x + needed > width + 2 * _GAP:
            rows.append([])
            x = 0
        rows[-1].append((name, text, x))
        x += needed
    return rows


def _percent(fraction: float) -> str:
    return f'{fraction:.0%}' if fraction >= 0.0095 else f'{fraction:.1%}'


def _place_tile(sheet: U8, tile: Tile, left: int, top: int) -> None:
    tile_width, tile_height = TILE_WH
    sheet[top : top + tile_height, left : left + tile_width] = _FRAME
    height, width = tile.image_rgb.shape[:2]
    y, x = top + (tile_height - height) // 2, left + (tile_width - width) // 2
    sheet[y : y + height, x : x + width] = tile.image_rgb
    name = fitted(tile.name, _NAME_PX, tile_width)
    write_text(sheet, name, left, top + tile_height + _NAME_PX + 8, _NAME_PX, _INK)


def _draw_boxes(overlay: U8, objects: Objects, classes: ClassTable, scale: float) -> None:
    """Boxes of objects and their classes, on a picture made small."""
    for item in sorted(objects.items, key=lambda item: -item.area_px):
        color = classes.colors_rgb[item.class_id]
        left, top, right, bottom = (round(edge * scale) for edge in item.box_xyxy_px)
        cv2.rectangle(overlay, (left, top), (right - 1, bottom - 1), color, 1)
        name = classes.names[item.class_id]
        if text_width(name, 9) + 6 < right - left:
            plate_end = left + text_width(name, 9) + 6, top + 15
            cv2.rectangle(overlay, (left, top), plate_end, color, -1)
            luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
            ink = (0, 0, 0) if luma > 140 else (255, 255, 255)
            write_text(overlay, name, left + 3, top + 12, 9, ink)
