"""Labels to a mask of where may be driven: drivable, not drivable, unknown.

Shape suffixes: Y/X image pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import cv2
import numpy as np

from seg_perception.errors import ConfigurationError
from seg_perception.structures import BACKGROUND_NAMES, U8, ClassTable, Labels

DRIVABLE = 255
"""A class that was named as drivable."""
NOT_DRIVABLE = 0
"""A class that was not."""
UNKNOWN = 127
"""No class, not sure enough of one, or one that neither permits nor forbids driving."""


def drivable_table(
    classes: ClassTable, drivable: Sequence[str], danger: Sequence[str] | None = None
) -> U8:
    """The mask's value for every possible label, shape (256,), or (65536,) above 255 classes.

    Args:
        classes: the model's classes.
        drivable: names of the classes that may be driven on.
        danger: names of those that may not; the others are unknown. None: whatever is not
            drivable, but for classes that mean nothing in particular (`BACKGROUND_NAMES`).

    Raises:
        ConfigurationError: nothing is drivable, the model has no class of a given name, or a
            class is both.
    """
    check_names(classes, drivable, danger or ())
    if danger is None:
        danger = [n for n in classes.names if n not in drivable and n not in BACKGROUND_NAMES]
    table = np.full(np.iinfo(classes.label_dtype).max + 1, UNKNOWN, np.uint8)
    table[[classes.id_of(name) for name in danger]] = NOT_DRIVABLE
    table[[classes.id_of(name) for name in drivable]] = DRIVABLE
    return table


def drivable_mask(labels_YX: Labels, table: U8) -> U8:
    """The mask of a label image, shape (Y, X); ``table`` is from `drivable_table`.

    Unlabelled pixels, those below the confidence threshold among them, are unknown.
    """
    if labels_YX.dtype == np.uint8 and labels_YX.size:  # ten times quicker than NumPy's look-up
        return np.asarray(cv2.LUT(labels_YX, table), np.uint8)
    return table[labels_YX]


def check_names(classes: ClassTable, drivable: Sequence[str], danger: Sequence[str]) -> None:
    """Refuses names that the model does not have, and classes that are drivable and a danger.

    Raises:
        ConfigurationError: says which, and what the model has.
    """
    if not drivable:
        raise ConfigurationError('drivable: expected at least one class name, got none')
    for role, names in (('drivable', drivable), ('danger', danger)):
        for name in names:
            if name not in classes.names:
                close = difflib.get_close_matches(name, classes.names, 1)
                raise ConfigurationError(
                    f"{role}: no class '{name}'"
                    + (f", did you mean '{close[0]}'?" if close else ';')
                    + f' This model has: {", ".join(classes.names)}'
                )
    if both := [name for name in drivable if name in danger]:
        raise ConfigurationError(
            f'expected each class to be drivable or a danger, got as both: {", ".join(both)}'
        )
