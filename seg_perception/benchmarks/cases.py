"""What one case of the benchmark measures, and the sweep of cases a user asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from seg_perception.errors import ConfigurationError
from seg_perception.sources.pixels import ENCODERS

NULL_MODEL = 'null'

OUTPUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        'labels': ('labels',),
        'labels+confidence': ('labels', 'confidence'),
        '+masks5': ('labels', 'confidence', 'masks'),
        '+overlay': ('labels', 'confidence', 'masks', 'overlay'),
    }
)
"""What is subscribed to, each line one more than the line before; ``masks`` is five of them."""

NUM_MASKS = 5
BYTES_PER_PIXEL: Mapping[str, int] = MappingProxyType(
    {'labels': 1, 'confidence': 1, 'masks': NUM_MASKS, 'overlay': 3}
)
"""What is published for an output."""


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration that all modes are measured in.

    Attributes:
        model: catalog name or file, or ``null``.
        num_classes: of the null model; other models have their own.
        size_wh: of the camera's images, pixels.
        encoding: of the camera's images, ``jpeg`` for compressed ones.
        outputs: a name of ``OUTPUTS``.
        num_cameras: all of the same kind.
        num_threads: CPU threads of the model.
        null_scene: what null models see, a name of ``pictures.SCENES``.
    """

    model: str = NULL_MODEL
    num_classes: int = 21
    size_wh: tuple[int, int] = (1280, 720)
    encoding: str = 'rgb8'
    outputs: str = 'labels+confidence'
    num_cameras: int = 1
    num_threads: int = 1
    null_scene: str = 'regions'

    def __post_init__(self) -> None:
        if self.outputs not in OUTPUTS:
            raise ConfigurationError(
                f'expected outputs among {", ".join(OUTPUTS)}, got {self.outputs!r}'
            )
        if self.encoding not in ('jpeg', *ENCODERS):
            raise ConfigurationError(
                f'expected an encoding among jpeg, {", ".join(ENCODERS)}, got {self.encoding!r}'
            )
        smallest = min(*self.size_wh, self.num_cameras, self.num_threads, self.num_classes)
        if smallest < 1:
            raise ConfigurationError(f'expected sizes and counts of at least 1, got {smallest}')

    @property
    def is_null(self) -> bool:
        """Whether the model is the null model."""
        return self.model == NULL_MODEL

    @property
    def scene(self) -> str:
        """What the camera sees."""
        return self.null_scene if self.is_null else 'photograph'

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns of the camera's images."""
        return self.size_wh[1], self.size_wh[0]

    @property
    def title(self) -> str:
        """The case on one line."""
        model = f'null/{self.num_classes}' if self.is_null else self.model
        cameras = f'{self.num_cameras} camera{"s" if self.num_cameras > 1 else ""}'
        return (
            f'{model} {self.size_wh[0]}x{self.size_wh[1]} {self.encoding} {self.outputs}, '
            f'{cameras}, {self.num_threads} thread{"s" if self.num_threads > 1 else ""}'
        )


def sweep(choices: Mapping[str, Sequence[Any]]) -> list[Case]:
    """The cases of a sweep: the first value of every list together, then each other value alone.

    Args:
        choices: values by field of `Case`, each list with at least one; for the list of models
            the whole sweep is repeated.

    Returns:
        Without repetitions, in an order that keeps cases with the same processes together. The
        number of classes varies for the null model only.
    """
    fields = {name: list(values) for name, values in choices.items()}
    models = fields.pop('model', [NULL_MODEL])
    cases: dict[Case, None] = {}
    for model in models:
        base = Case(model=model, **{name: values[0] for name, values in fields.items()})
        cases[base] = None
        for name, values in fields.items():
            if name == 'num_classes' and not base.is_null:
                continue
            for value in values[1:]:
                cases[dataclasses.replace(base, **{name: value})] = None
    order = {case: position for position, case in enumerate(cases)}
    rigs = [rig_of(case) for case in cases]
    return sorted(cases, key=lambda case: (rigs.index(rig_of(case)), order[case]))


def rig_of(case: Case) -> tuple[Any, ...]:
    """What the node's processes are started with; cases that share it share them."""
    return (
        case.model,
        case.num_classes,
        case.num_threads,
        case.num_cameras,
        case.encoding == 'jpeg',
    )
