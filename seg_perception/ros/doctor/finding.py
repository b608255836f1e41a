"""What the doctor has to say, as values; who asked decides how to show it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


class Gravity(enum.IntEnum):
    """How much a finding matters."""

    OK = 0
    """As it should be."""
    WARNING = 1
    """It works, but not as well as it could, or not everything does."""
    ERROR = 2
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, e.g. ``front: image topic``.
        gravity: how much it matters.
        what: what was found.
        fix: what to do about it: a command, or a parameter with its value; empty where nothing.
    """

    check: str
    gravity: Gravity
    what: str
    fix: str = ''

    def line(self) -> str:
        """``check: what; fix``."""
        return f'{self.check}: {self.what}' + (f'; {self.fix}' if self.fix else '')

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), 'gravity': self.gravity.name.lower()}


def worst(findings: Iterable[Finding]) -> Gravity:
    """The gravest of them; OK of none."""
    return max((finding.gravity for finding in findings), default=Gravity.OK)
