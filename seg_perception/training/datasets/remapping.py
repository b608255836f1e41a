"""From the classes of a dataset's annotations to the classes of the model.

Shape suffixes: Y/X image pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from seg_perception.errors import ConfigurationError
from seg_perception.structures import ClassTable, Labels
from seg_perception.training.datasets.config import DatasetConfig
from seg_perception.training.datasets.tables import Color

IGNORE, DROP, ANY_OTHER = 'ignore', 'drop', '*'
_BACKGROUNDS = ('background', '_background_')
_UNKNOWN = -1
_DROPPED = -2


@dataclass(frozen=True, slots=True)
class ClassMap:
    """What each of their names is in ours.

    Attributes:
        classes: ours.
        targets: their name to our id or the ignore id; None where annotations are dropped: a
            shape is not drawn, a pixel becomes ``unannotated_id``.
        other: the same for any name that is not in ``targets``; absent (``_UNKNOWN``) where
            such a name is an error.
        unannotated_id: our id, or the ignore id, of pixels that nobody annotated.
    """

    classes: ClassTable
    targets: Mapping[str, int | None]
    other: int | None
    unannotated_id: int

    @property
    def ignore_id(self) -> int:
        """Marks pixels that take no part."""
        return self.classes.unlabeled_id

    def is_known(self, name: str) -> bool:
        """Whether the name is a class of ours or mentioned in ``remap``."""
        return name in self.targets or self.other != _UNKNOWN

    def target(self, name: str) -> int | None:
        """Our id of their name, None for dropped annotations; the name must be known."""
        target = self.targets.get(name, self.other)
        assert target != _UNKNOWN, name
        return target

    def remedy(self, name: str) -> str:
        """What to do about a name that is not known."""
        close = difflib.get_close_matches(name, self.classes.names, 1)
        meant = f"'{name}: {close[0]}', " if close else ''
        return (
            f"add {meant}'{name}: ignore' or '{name}: drop' to remap, or the class itself to "
            'classes'
        )


def our_classes(
    config: DatasetConfig, default_names: Iterable[str], colors: Mapping[str, Color]
) -> ClassTable:
    """The class table of a configuration.

    Args:
        config: names and colours where it gives them.
        default_names: the layout's own, used where it does not.
        colors: the layout's own, used where they cover every class.
    """
    names = tuple(default_names) if config.class_names is None else config.class_names
    reserved = sorted({IGNORE, DROP, ANY_OTHER} & set(names))
    if reserved:
        raise ConfigurationError(
            f'dataset.classes: {", ".join(reserved)} cannot name a class, as remap uses the word'
        )
    if config.class_colors:
        return ClassTable(names, config.class_colors)
    return ClassTable(names, tuple(colors[n] for n in names if all(m in colors for m in names)))


def build_class_map(
    config: DatasetConfig,
    classes: ClassTable,
    *,
    source_names: Iterable[str] | None,
    default_remap: Mapping[str, str] | None = None,
    background: str | None = None,
) -> ClassMap:
    """The map that a configuration describes.

    Args:
        config: its ``remap`` and ``unannotated``.
        classes: ours.
        source_names: all names that annotations can have; None where only they know.
        default_remap: the layout's; holds for names that are no class of ours.
        background: what pixels that nobody annotated are where the configuration does not say;
            None for ignored.

    Raises:
        ConfigurationError: remap names a class that is not ours or not theirs, or leaves one of
            theirs without a target.
    """
    unannotated_id = _unannotated(config, classes, background)
    targets: dict[str, int | None] = {name: i for i, name in enumerate(classes.names)}
    remap = {
        **{k: v for k, v in (default_remap or {}).items() if k not in targets},
        **config.remap,
    }
    known = None if source_names is None else list(source_names)
    other: int | None = _UNKNOWN
    for theirs, ours in remap.items():
        if ours == IGNORE:
            target: int | None = classes.unlabeled_id
        elif ours == DROP:
            target = None
            if background is None and config.unannotated is None:
                raise ConfigurationError(
                    f'dataset.remap.{theirs}: drop needs to know what the pixels become: set '
                    "unannotated to a class, or use 'ignore'"
                )
        elif ours in classes.names:
            target = classes.id_of(ours)
        else:
            raise ConfigurationError(
                f'dataset.remap.{theirs}: expected ignore, drop or a class of '
                f'{", ".join(classes.names)}; got {ours!r}'
            )
        if theirs == ANY_OTHER:
            other = target
            continue
        if known is not None and theirs in config.remap and theirs not in known:
            raise ConfigurationError(
                f'dataset.remap: the annotations have no class {theirs!r}; they have: '
                f'{", ".join(known)}'
            )
        targets[theirs] = target
    result = ClassMap(classes, targets, other, unannotated_id)
    missing = [name for name in known or () if not result.is_known(name)]
    if missing:
        raise ConfigurationError(
            f'dataset.remap: {len(missing)} classes of the annotations are no class of yours: '
            f'{", ".join(missing)}; {result.remedy(missing[0])}, or "\'*\': ignore" for all '
            'that are not named'
        )
    return result


def _unannotated(config: DatasetConfig, classes: ClassTable, background: str | None) -> int:
    name = config.unannotated
    if name is None:
        if background is None:
            return classes.unlabeled_id
        name = next((n for n in _BACKGROUNDS if n in classes.names), background)
    if name == IGNORE:
        return classes.unlabeled_id
    if name not in classes.names:
        raise ConfigurationError(
            f'dataset.unannotated: pixels that nobody annotated would become {name!r}, which is '
            f'no class of {", ".join(classes.names)}: add it to classes, or set unannotated to '
            "one of them or to 'ignore'"
        )
    return classes.id_of(name)


class IdTable:
    """Maps the values of an index mask to our ids through a table.

    Args:
        names: their name by mask value.
        class_map: their names to ours.
        void_ids: mask values that become the ignore id.
    """

    def __init__(
        self, names: Mapping[int, str], class_map: ClassMap, void_ids: Iterable[int] = ()
    ) -> None:
        self.class_map = class_map
        self._table = np.full(65536, _UNKNOWN, np.int32)
        for value in void_ids:
            if not 0 <= value <= 65535:
                raise ConfigurationError(
                    f'dataset.void_ids: expected mask values of 0 to 65535, got {value}'
                )
            self._table[value] = class_map.ignore_id
        for value, name in names.items():
            target = class_map.target(name)
            self._table[value] = class_map.unannotated_id if target is None else target
        self._is_unknown = self._table == _UNKNOWN
        ours = np.where(self._is_unknown, class_map.ignore_id, self._table)
        self._ours: Labels = (
            ours.astype(np.uint8) if len(class_map.classes) <= 255 else ours.astype(np.uint16)
        )
        self._lut: npt.NDArray[np.uint8] = self._ours[:256].astype(np.uint8)

    @property
    def known(self) -> list[int]:
        """The mask values that mean something."""
        return [int(v) for v in np.flatnonzero(~self._is_unknown)]

    def apply(self, values_YX: Labels) -> tuple[Labels, dict[str, int]]:
        """Our ids, and the number of pixels by value that means nothing; those are ignored."""
        if values_YX.dtype == np.uint8 and self._ours.dtype == np.uint8:  # the quicker way
            labels: Labels = np.asarray(cv2.LUT(values_YX, self._lut), np.uint8)
        else:
            labels = self._ours[values_YX]
        counts = np.bincount(values_YX.reshape(-1), minlength=1)
        unknown = np.flatnonzero(counts.astype(bool) & self._is_unknown[: counts.size])
        return labels, {str(v): int(counts[v]) for v in unknown}


def format_ids(ids: Iterable[int]) -> str:
    """Ids as ranges: ``0-10, 255``."""
    ranges: list[list[int]] = []
    for value in sorted(ids):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1][1] = value
        else:
            ranges.append([value, value])
    return ', '.join(f'{a}' if a == b else f'{a}-{b}' for a, b in ranges)
