"""From the tensors that a model's graph gives to a checked `ModelOutput`.

B batch, C classes, H/W the model's grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from seg_perception.backends.decoders import DECODERS
from seg_perception.backends.protocol import ModelOutput
from seg_perception.errors import InferenceError, ModelCardError
from seg_perception.models.card import ModelCard


def all_tensors(output: Any) -> tuple[torch.Tensor, ...]:
    """All tensors of a network's output, one after the other.

    A mapping gives ``out`` first, where it has one (torchvision's main output), then its other
    values in their order; sequences give their items in order; None is left out.

    Raises:
        InferenceError: there is none, or something that is no tensor.
    """
    tensors = tuple(_flattened(output))
    if not tensors:
        raise InferenceError(f'the model: expected a tensor, got an empty {type(output).__name__}')
    return tensors


def _flattened(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for key in sorted(output, key=lambda key: key != 'out'):
            yield from _flattened(output[key])
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for item in output:
            yield from _flattened(item)
    elif output is not None:
        raise InferenceError(f'the model: expected a tensor, got {type(output).__name__}')


class OutputDecoder:
    """Makes a checked `ModelOutput` of what a graph gives.

    Args:
        card: the model's.
        channels_first: the format's habit, see `channel_axis`.
    """

    def __init__(self, card: ModelCard, *, channels_first: bool = True) -> None:
        self._card = card
        self._channels_first = channels_first
        self._decode = DECODERS.get(card.output.kind)

    @property
    def reads_all(self) -> bool:
        """Whether all tensors of the graph are read, or the first alone."""
        return self._decode is not None

    def check_shape(self, shape: Sequence[object]) -> None:
        """Checks the shape that a file states for its first output, before it runs.

        Raises:
            ModelCardError: it cannot be what the card says.
        """
        if self._decode is None and shape:  # a file may leave the rank open
            channel_axis(shape, self._card, channels_first=self._channels_first)

    def __call__(
        self, tensors: Sequence[torch.Tensor], input_hw: tuple[int, int], num_images: int
    ) -> ModelOutput:
        """What the tensors mean.

        Args:
            tensors: all of the graph's, in its order; the first alone unless `reads_all`.
            input_hw: size of the model's input.
            num_images: how many of the batch are wanted; what was filled up is left out.

        Raises:
            InferenceError: they are not what the card says, or not numbers.
            ModelCardError: the card cannot be right.
        """
        if self._decode is None:
            main = tensors[0][:num_images]
            axis = channel_axis(main.shape, self._card, channels_first=self._channels_first)
            return interpret(main, axis, self._card)
        refuse_nan(tensors, self._card)
        output = self._decode(tensors, input_hw, self._card)
        if output.instances is not None:
            return ModelOutput(instances=output.instances[:num_images])
        assert output.logits_BCHW is not None
        return ModelOutput(
            logits_BCHW=output.logits_BCHW[:num_images], is_probabilities=output.is_probabilities
        )


def refuse_nan(tensors: Sequence[torch.Tensor], card: ModelCard) -> None:
    """Raises InferenceError for NaN, which would pass no threshold and silently be no object."""
    floats = (tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel())
    # The largest of numbers and NaN is NaN: a twentieth of the time of looking at each.
    has_nan = [tensor.amax().isnan() for tensor in floats]
    if has_nan and torch.stack(has_nan).any():
        raise InferenceError(
            f'{card.name}: expected numbers, got NaN; try precision fp32, and check the weights'
        )


def channel_axis(
    shape: Sequence[object], card: ModelCard, *, channels_first: bool = True
) -> int | None:
    """Which axis of a graph's output holds the classes: 1 or 3, None for label maps.

    Args:
        shape: the output's shape; anything but an int is unknown.
        card: says how many classes there are and whether labels are expected.
        channels_first: the format's habit, decides where both axes fit.

    Raises:
        ModelCardError: the shape cannot be what the card says.
    """
    num_classes, kind = len(card.classes), card.output.kind
    if kind == 'labels':
        if len(shape) == 3 or (len(shape) == 4 and 1 in (shape[1], shape[3])):
            return None
        raise ModelCardError(
            f'{card.name}: output.kind: expected labels of shape [B, H, W], the file gives '
            f'{_printed(shape)}; is it logits or probabilities?'
        )
    accepted = {num_classes, 1} if num_classes == 2 else {num_classes}
    if len(shape) == 4:
        order = (1, 3) if channels_first else (3, 1)
        fits = [axis for axis in order if shape[axis] in accepted]
        unknown = [axis for axis in order if not isinstance(shape[axis], int)]
        if fits or unknown:
            return (fits or unknown)[0]
    raise ModelCardError(
        f'{card.name}: classes: expected {kind} with {num_classes} channels, one per class of '
        f'the card, the file gives {_printed(shape)}; correct classes.names or output.kind'
    )


def _printed(shape: Sequence[object]) -> str:
    return f'[{", ".join(str(side) for side in shape)}]'


def interpret(output: torch.Tensor, axis: int | None, card: ModelCard) -> ModelOutput:
    """Makes a `ModelOutput` of a graph's only or first output.

    A single channel for two classes is taken as the second one's score (sigmoid), as binary
    networks have it: logits ``x`` become ``[0, x]``, probabilities ``p`` become ``[1 - p, p]``,
    whose softmax and argmax are the same.

    Args:
        output: the graph's tensor.
        axis: what `channel_axis` said of it.
        card: the model's.

    Raises:
        InferenceError: it is not what the card says.
    """
    if axis is None:
        return ModelOutput(labels_BHW=_checked_labels(output, card))
    if not output.is_floating_point() or output.ndim != 4:
        raise InferenceError(
            f'{card.name}: expected {card.output.kind} of shape (B, C, H, W), got '
            f'{output.dtype} of shape {tuple(output.shape)}'
        )
    logits_BCHW = output if axis == 1 else output.permute(0, 3, 1, 2)
    is_probabilities = card.output.kind == 'probabilities'
    if logits_BCHW.shape[1] == 1 and len(card.classes) == 2:
        rest = 1 - logits_BCHW if is_probabilities else torch.zeros_like(logits_BCHW)
        logits_BCHW = torch.cat([rest, logits_BCHW], 1)
    if logits_BCHW.shape[1] != len(card.classes):
        raise InferenceError(
            f'{card.name}: expected {len(card.classes)} channels, one per class of the card, '
            f'got {logits_BCHW.shape[1]}; correct classes.names in the card'
        )
    return ModelOutput(logits_BCHW=logits_BCHW, is_probabilities=is_probabilities)


def _checked_labels(labels: torch.Tensor, card: ModelCard) -> torch.Tensor:
    if labels.ndim == 4:
        labels = labels.squeeze(1 if labels.shape[1] == 1 else 3)
    if labels.ndim != 3:
        raise InferenceError(
            f'{card.name}: expected labels of shape (B, H, W), got {tuple(labels.shape)}'
        )
    if labels.is_floating_point():
        labels = labels.round().to(torch.int32)
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= len(card.classes):
        raise InferenceError(
            f'{card.name}: expected labels 0 to {len(card.classes) - 1}, the classes of the '
            f'card, got {low} to {high}; correct classes.names in the card'
        )
    return labels
