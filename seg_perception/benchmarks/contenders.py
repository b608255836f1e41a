"""What is compared: a model on an engine in a precision, as users write it in one word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from seg_perception.backends import EngineName, Precision
from seg_perception.errors import ConfigurationError

_FIELDS = ('engine', 'precision', 'weights')


@dataclass(frozen=True, slots=True)
class Contender:
    """A model as it is run.

    Attributes:
        model: catalog name, card or file.
        engine: see ``backends.RunOptions``.
        precision: the same.
        weights: a local copy of the weights; '' for where the card says.
    """

    model: str
    engine: str = 'native'
    precision: str = 'auto'
    weights: str = ''

    @property
    def title(self) -> str:
        """Short, for tables."""
        precision = '' if self.precision == 'auto' else f' {self.precision}'
        return f'{self.model} {self.engine}{precision}'


def parse_contender(text: str) -> Contender:
    """Reads ``MODEL[,engine=NAME][,precision=NAME][,weights=PATH]``.

    Raises:
        ConfigurationError: it says something else.
    """
    model, *settings = text.split(',')
    values: dict[str, str] = {}
    for setting in settings:
        name, is_set, value = setting.partition('=')
        if not is_set or not value or name not in _FIELDS or name in values:
            raise ConfigurationError(
                f'expected MODEL,engine=NAME,precision=NAME,weights=PATH, the last three where '
                f"wanted, got '{text}'"
            )
        values[name] = value
    for name, known in (('engine', EngineName), ('precision', Precision)):
        if name in values and values[name] not in get_args(known):
            raise ConfigurationError(
                f"{name}: expected one of {', '.join(get_args(known))}, got '{values[name]}'"
            )
    if not model:
        raise ConfigurationError(f"expected a model in front of the settings, got '{text}'")
    return Contender(model, **values)
