"""What training minimises: losses by name, and weighted sums of them from a YAML mapping.

    loss: {cross_entropy: {class_weights: median_frequency}, dice: 0.5}

Every loss takes logits (B, C, Y, X) and labels (B, Y, X) of the same Y and X, looks at no ignored
pixel, computes in float32 whatever the logits are (float64 stays), is the same on repeated runs,
and of a batch with nothing labelled is 0 with zero gradients.
"""

# B batch, C classes, Y/X pixels

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seg_perception.errors import ConfigurationError
from seg_perception.training.options import known_name, number, numbers, only_known
from seg_perception.training.pixel_losses import (
    BoundaryWeighted,
    CrossEntropy,
    Extras,
    Focal,
    OnlineHardExamples,
    PixelLoss,
)
from seg_perception.training.region_losses import Dice, LovaszSoftmax
from seg_perception.training.weighting import BorderWeighting, border_weights

__all__ = [
    'LOSSES',
    'BorderWeighting',
    'LossSum',
    'border_weights',
    'build_loss',
    'needs_class_weights',
    'options_of',
]

ClassWeights = Sequence[float] | npt.NDArray[np.floating] | Tensor

LOSSES: Mapping[str, type[PixelLoss]] = {
    'boundary_weighted': BoundaryWeighted,
    'cross_entropy': CrossEntropy,
    'dice': Dice,
    'focal': Focal,
    'lovasz_softmax': LovaszSoftmax,
    'ohem': OnlineHardExamples,
}
_CLASS_WEIGHTED = {'boundary_weighted', 'cross_entropy', 'focal', 'ohem'}


class LossSum(nn.Module):
    """A weighted sum of losses.

    Attributes:
        weights: factor of each loss, by name.
        border_weighting: what the data loader must make ``weights_BYX`` with, or None.
    """

    def __init__(self, losses: Mapping[str, PixelLoss], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)
        bordered = losses.get('boundary_weighted')
        self.border_weighting = (
            bordered.border_weighting if isinstance(bordered, BoundaryWeighted) else None
        )

    def terms(
        self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras | None = None
    ) -> dict[str, Tensor]:
        """Each loss by its name, before its weight."""
        return {name: loss(logits_BCYX, labels_BYX, extras) for name, loss in self.losses.items()}

    def forward(
        self, logits_BCYX: Tensor, labels_BYX: Tensor, extras: Extras | None = None
    ) -> Tensor:
        """The sum, a scalar; see ``PixelLoss.forward``."""
        terms = self.terms(logits_BCYX, labels_BYX, extras)
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


def build_loss(
    config: Mapping[str, object] | str,
    *,
    num_classes: int,
    ignore_id: int,
    class_weights: ClassWeights | None = None,
) -> LossSum:
    """The loss a configuration describes.

    Args:
        config: for each loss its weight in the sum, or its options with ``weight`` (default 1)
            among them; or the name of a single one. Losses of pixels have ``class_weights``:
            ``auto`` (those passed in, if any; the default), ``none``, ``median_frequency``
            (those passed in, which must be there) or a list.
        num_classes: channels of the logits.
        ignore_id: label of ignored pixels.
        class_weights: one per class, e.g. from ``ClassFrequencies``.

    Raises:
        ConfigurationError: an unknown loss or option, or a value that cannot work.
    """
    if isinstance(config, str):
        config = {config: 1.0}
    if not isinstance(config, Mapping) or not config:
        raise ConfigurationError(f'loss: expected a mapping of losses, got {config!r}')
    if 0 <= ignore_id < num_classes:
        raise ConfigurationError(f'ignore_id {ignore_id} is also one of {num_classes} classes')
    passed = None if class_weights is None else torch.as_tensor(class_weights).tolist()
    losses, weights = {}, {}
    for key, entry in config.items():
        name = known_name('loss', key, LOSSES)
        options = dict(entry) if isinstance(entry, Mapping) else {'weight': entry}
        only_known(f'loss {name}', options, options_of(name))
        weights[name] = number(f'loss {name} weight', options.pop('weight', 1.0), above=0)
        chosen = _class_weights(name, options.pop('class_weights', 'auto'), passed, num_classes)
        losses[name] = LOSSES[name](
            num_classes=num_classes, ignore_id=ignore_id, class_weights=chosen, **options
        )
    return LossSum(losses, weights)


def needs_class_weights(config: Mapping[str, object] | str) -> bool:
    """Whether a configuration asks for median frequency balancing of the training data."""
    entries = config.values() if isinstance(config, Mapping) else ()
    return any(
        isinstance(entry, Mapping) and entry.get('class_weights') == 'median_frequency'
        for entry in entries
    )


def options_of(name: str) -> set[str]:
    """Names of the options of a loss."""
    options = {'weight'} | ({'class_weights'} if name in _CLASS_WEIGHTED else set())
    for cls in LOSSES[name].__mro__:
        if issubclass(cls, PixelLoss) and cls is not PixelLoss:
            options.update(inspect.signature(cls.__init__).parameters)
    return options - {'self', 'common', 'num_classes', 'ignore_id'}


def _class_weights(
    name: str, option: object, passed: list[float] | None, num_classes: int
) -> list[float] | None:
    """The weights a loss uses."""
    where = f'loss {name} class_weights'
    if name not in _CLASS_WEIGHTED:
        return None
    if isinstance(option, str) or option is None:
        kind = known_name(where, option or 'none', ('auto', 'none', 'median_frequency'))
        if kind == 'median_frequency' and passed is None:
            raise ConfigurationError(
                f'{where}: expected the weights of the training data, got none; count them with '
                'ClassFrequencies and pass them as class_weights'
            )
        option = None if kind == 'none' else passed
    weights = None if option is None else numbers(where, option, num_classes, at_least=0)
    if weights is not None and not any(weights):
        raise ConfigurationError(f'{where}: expected one above 0, got none')
    return weights
