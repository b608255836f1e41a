"""Runs models at a server that speaks KServe v2 over gRPC, such as Triton.

Images are prepared here and results are made of the outputs here; what runs there is the network.
Requests are as large as the server takes them, several of them under way at once: putting them
together with those of other robots is its business.

B batch, H/W network input.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch

from seg_perception.backends.engine_cache import EngineCache
from seg_perception.backends.file_backend import FileBackend
from seg_perception.backends.graph_input import GraphInput
from seg_perception.backends.protocol import PRECISION_NAMES, ModelOutput, RunOptions
from seg_perception.errors import (
    DeviceError,
    InferenceError,
    ModelError,
    ModelLostError,
    ServerError,
    WeightsError,
)
from seg_perception.models.card import ModelCard, parse_card
from seg_perception.models.model_server import ServedFacts, ServedModel, ServerConnection

_CHECK_S = 1.0
"""An exchange between two requests, under the same version, is noticed this much later at most."""
_DTYPES = {'FP32': torch.float32, 'FP16': torch.float16, 'UINT8': torch.uint8}


def load(
    card: ModelCard, weights_path: Path, options: RunOptions, cache: EngineCache
) -> ServedBackend:
    """Connects to the server of a model and checks that it is the card's.

    Raises:
        MissingExtraError: tritonclient is not installed.
        ModelNotFoundError: the server has no such model.
        ServerError: the server does not answer.
        WeightsError: the model takes no image batch.
        ModelCardError: its output contradicts the card.
        ConfigurationError: certificates are missing.
        DeviceError: the options cannot be met.
    """
    if options.device not in ('auto', 'cpu'):
        raise DeviceError(
            f'device: expected auto or cpu, because {card.name} runs at its server, got '
            f"'{options.device}'"
        )
    connection = ServerConnection(ServedModel.parse(card.weights.uri))
    try:
        return ServedBackend(connection, connection.facts(), card, options)
    except Exception:
        connection.close()
        raise


class ServedBackend(FileBackend):
    """A model that a server runs; see `Backend`.

    What the server says of the model is looked at again every second, after every failure, and
    where the version that answers is another one: a model that was exchanged there is not taken
    for the one that the card describes.

    Args:
        connection: taken over.
        facts: what the server says of the model.
        card: the model's.
        options: how to run it.

    Raises:
        WeightsError: the model takes no image batch.
        ModelCardError: its output contradicts the card.
        DeviceError: another precision than the server's input is asked for.
    """

    name = 'kserve'

    def __init__(
        self,
        connection: ServerConnection,
        facts: ServedFacts,
        card: ModelCard,
        options: RunOptions,
    ) -> None:
        self._input = _image_input(facts, card)
        if self._input.dtype.is_floating_point:
            self.dtype = self._input.dtype
        device = torch.device('cpu')
        super().__init__(card, options, device, PRECISION_NAMES[self.dtype])
        self.input_hw_fixed = self._input.hw_fixed
        self.input_quantisation = self._input.quantisation(device)
        self._decoder.check_shape(
            ['?' if side is None else side for side in facts.outputs[0].shape]
        )
        self._facts = facts
        self._max_batch = facts.max_batch or self._input.batch_fixed
        names = tuple(tensor.name for tensor in facts.outputs)
        self._output_names = names if self._decoder.reads_all else names[:1]
        self._version = ''
        self._checked_s = time.monotonic()
        self._connection = connection

    def infer(self, batch_B3HW: torch.Tensor) -> ModelOutput:
        """See `Backend.infer`.

        Raises:
            ServerError: the server gave no answer that is of use; the next call tries again.
            ModelLostError: the server has another model of that name now.
        """
        try:
            return super().infer(batch_B3HW)
        except InferenceError:
            self._checked_s = -math.inf
            raise

    def _run(self, batch_B3HW: torch.Tensor) -> list[torch.Tensor]:
        images_BHWC = self._input.take(batch_B3HW).numpy()
        size = self._max_batch or len(images_BHWC)
        pending = [
            self._connection.infer(
                images_BHWC[start : start + size],
                self._facts.inputs[0],
                self._output_names,
                self._options.server_timeout_s,
            )
            for start in range(0, len(images_BHWC), size)
        ]
        if time.monotonic() - self._checked_s > _CHECK_S:
            self._check_again()  # while the server is at work
        answers = [answer.result() for answer in pending]
        version = answers[-1].get_response().model_version
        if self._version not in ('', version):
            self._check_again()
        self._version = version
        return [
            torch.from_numpy(np.concatenate([self._output(answer, name) for answer in answers]))
            for name in self._output_names
        ]

    def _output(self, answer: object, name: str) -> np.ndarray:
        array: np.ndarray | None = answer.as_numpy(name)  # type: ignore[attr-defined]
        if array is None:
            raise ServerError(f'{self._card.name}: the answer lacks the output {name}')
        return array

    def _check_again(self) -> None:
        """Looks whether the server still has the model that was loaded.

        Raises:
            ServerError: it does not answer.
            ModelLostError: it has another one.
        """
        try:
            facts = self._connection.facts(self._options.server_timeout_s)
        except ServerError:
            raise
        except ModelError as error:  # it is gone for now; it may be loaded there again
            raise ServerError(str(error)) from error
        if dataclasses.replace(facts, versions=self._facts.versions) != self._facts:
            raise ModelLostError(
                f'{self._card.name}: the server has exchanged {self._connection.model}: expected '
                f'{_told(self._facts)}, got {_told(facts)}'
            )
        self._checked_s = time.monotonic()

    def _release(self) -> None:
        self._connection.close()

    def _remarks(self) -> dict[str, str]:
        return {
            'server': self._connection.model.endpoint,
            'served_as': self._connection.model.name,
            'served_version': self._version or self._connection.model.version or 'latest',
            'server_platform': self._facts.platform,
            'server_timeout_s': f'{self._options.server_timeout_s:g}',
            'server_tls': 'on' if self._connection.has_tls else 'off',
        }


def _told(facts: ServedFacts) -> str:
    classes = ''
    if facts.card:
        try:
            names = parse_card(facts.card, 'its card').classes.names
            classes = f' of the classes {", ".join(names)[:200]}'
        except ModelError:
            classes = ' with a card that is wrong'
    tensors = ', '.join(map(str, (*facts.inputs, *facts.outputs)))
    return f'{tensors}{classes}'


def _image_input(facts: ServedFacts, card: ModelCard) -> GraphInput:
    """The only input, where it is an image batch."""
    inputs = facts.inputs
    dtype = _DTYPES.get(inputs[0].datatype) if len(inputs) == 1 else None
    try:
        if dtype is None or not facts.outputs:
            raise ValueError
        return GraphInput.of_shape(inputs[0].shape, dtype)
    except ValueError as error:
        raise WeightsError(
            f'{card.name}: expected one input of FP32, FP16 or UINT8 with 3 channels, '
            f'[B, 3, H, W] or [B, H, W, 3], and an output; the server has inputs '
            f'{", ".join(map(str, inputs)) or "none"} and outputs '
            f'{", ".join(map(str, facts.outputs)) or "none"}'
        ) from error
