"""Letters on pictures: OpenCV's strokes drawn large and made small, which makes them smooth."""

from __future__ import annotations

import unicodedata

import cv2
import numpy as np

from seg_perception.structures import U8

Color = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_LARGER = 4
_ASCENT = 1.0
_DESCENT = 0.4


def plain(text: str) -> str:
    """The text in the letters that the font has: accents are dropped, others become ``?``."""
    decomposed = unicodedata.normalize('NFKD', text)
    letters = ''.join(c for c in decomposed if not unicodedata.combining(c))
    letters = letters.replace('·', '-').replace('…', '...').replace('–', '-')
    return letters.encode('ascii', 'replace').decode('ascii')


def text_width(text: str, size_px: int) -> int:
    """How wide the text is in a size."""
    scale = _scale(size_px)
    (width, _), _ = cv2.getTextSize(plain(text), _FONT, scale, _thickness(size_px))
    return -(-width // _LARGER)


def fitted(text: str, size_px: int, width_px: int) -> str:
    """The text, with dots for its middle where it is too wide."""
    text = plain(text)
    if text_width(text, size_px) <= width_px:
        return text
    kept = len(text)
    while kept > 2:
        kept -= 1
        shorter = f'{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}'
        if text_width(shorter, size_px) <= width_px:
            return shorter
    return text[:1]


def write_text(image_rgb: U8, text: str, x: int, y: int, size_px: int, color: Color) -> None:
    """Writes a line, in place; what reaches beyond the image is cut off.

    Args:
        image_rgb: (Y, X, 3) uint8.
        text: see `plain`.
        x: left edge.
        y: base line.
        size_px: height of capital letters.
        color: RGB.
    """
    text = plain(text)
    margin = size_px
    width = text_width(text, size_px) + 2 * margin
    above, below = size_px + margin, round(_DESCENT * size_px) + margin
    large_YX = np.zeros(((above + below) * _LARGER, width * _LARGER), np.uint8)
    cv2.putText(
        large_YX,
        text,
        (margin * _LARGER, above * _LARGER),
        _FONT,
        _scale(size_px),
        255,
        _thickness(size_px),
        cv2.LINE_AA,
    )
    small = cv2.resize(large_YX, (width, above + below), interpolation=cv2.INTER_AREA)
    top, left = y - above, x - margin
    rows = slice(max(top, 0), min(y + below, image_rgb.shape[0]))
    columns = slice(max(left, 0), min(left + width, image_rgb.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    share = (
        np.asarray(small, np.float32)[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, None
        ]
        / 255.0
    )
    part = image_rgb[rows, columns]
    part[:] = np.rint(part + (np.array(color, np.float32) - part) * share).astype(np.uint8)


def _scale(size_px: int) -> float:
    return float(cv2.getFontScaleFromHeight(_FONT, size_px * _LARGER, _thickness(size_px)))


def _thickness(size_px: int) -> int:
    return max(1, round(size_px * _LARGER / 11))
