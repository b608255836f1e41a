"""Picks the overlays that say most about a run and puts them on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from seg_perception.structures import BACKGROUND_NAMES, U8

MIN_SHARE = 0.01
_MAX_KEPT = 8
_CAPTION_H = 28


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """An overlay and what dominates it.

    Attributes:
        overlay_rgb: the picture, uint8 of shape (Y, X, 3).
        class_id: the largest class that is not background; None where nothing was found.
        share: that class's share of the pixels.
    """

    overlay_rgb: U8
    class_id: int | None
    share: float


class Moments:
    """For each class that ever dominated a picture, the picture where it was largest.

    Args:
        name_of: gives a class's name; asked again each time, as names may come late.
    """

    def __init__(self, name_of: Callable[[int], str]) -> None:
        self._name_of = name_of
        self._best: dict[int | None, Moment] = {}

    def add(self, overlay_rgb: U8, shares: Mapping[int, float]) -> None:
        """Considers a picture; keeps the array, which must not change afterwards."""
        found = {
            class_id: share
            for class_id, share in shares.items()
            if share >= MIN_SHARE and self._name_of(class_id) not in BACKGROUND_NAMES
        }
        dominant = max(found, key=lambda class_id: found[class_id], default=None)
        share = 0.0 if dominant is None else found[dominant]
        best = self._best.get(dominant)
        if best is None or share > best.share:
            self._best[dominant] = Moment(overlay_rgb, dominant, share)
        if len(self._best) > _MAX_KEPT:
            del self._best[min(self._best.values(), key=lambda m: m.share).class_id]

    def chosen(self, most: int = 4) -> list[Moment]:
        """The moments to show, the largest share first; where nothing was found comes last."""
        return sorted(self._best.values(), key=lambda m: -m.share)[:most]

    def sheet(self) -> U8 | None:
        """Up to four pictures in two columns, each with a caption; None before the first."""
        moments = self.chosen()
        if not moments:
            return None
        tile_h, tile_w = moments[0].overlay_rgb.shape[:2]
        tiles = [self._tile(moment, tile_w, tile_h) for moment in moments]
        if len(tiles) == 1:
            return tiles[0]
        if len(tiles) % 2:
            tiles.append(np.zeros_like(tiles[0]))
        rows = [np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]
        return np.vstack(rows)

    def _tile(self, moment: Moment, tile_w: int, tile_h: int) -> U8:
        """The overlay at the sheet's tile size above a bar that says what was found."""
        picture = moment.overlay_rgb
        if picture.shape[:2] != (tile_h, tile_w):
            picture = np.asarray(cv2.resize(picture, (tile_w, tile_h)), np.uint8)
        bar = np.full((_CAPTION_H, tile_w, 3), 32, np.uint8)
        text = 'nothing found'
        if moment.class_id is not None:
            text = f'{self._name_of(moment.class_id)} {moment.share:.0%}'
        font, white = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
        cv2.putText(bar, text, (8, _CAPTION_H - 9), font, 0.6, white, 1, cv2.LINE_AA)
        return np.vstack([picture, bar])
