"""Names of topics made from names of classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # A launch file imports this; it must not load OpenCV, see its test.
    from seg_perception.structures import ClassTable


def topic_tokens(classes: ClassTable, names: Sequence[str]) -> dict[str, str]:
    """What stands for classes in topic names.

    Args:
        classes: the model's.
        names: classes; ``'*'`` for all, ``''`` is ignored.

    Raises:
        ConfigurationError: the model has no class of a given name.
    """
    chosen = classes.names if '*' in names else [name for name in names if name]
    times = Counter(topic_token(name) for name in classes.names)
    tokens = {}
    for name in chosen:
        class_id, token = classes.id_of(name), topic_token(name)
        tokens[name] = token if times[token] == 1 else f'{token}_{class_id}'
    return tokens


def topic_token(class_name: str) -> str:
    """A class name as part of a topic name: ``'dining table'`` becomes ``'dining_table'``.

    Where several classes of a model give the same token, their ids are added to the topics.
    """
    token = re.sub(r'[^A-Za-z0-9]+', '_', class_name).strip('_') or 'class'
    return f'class_{token}' if token[0].isdigit() else token
